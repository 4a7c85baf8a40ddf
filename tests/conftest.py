"""What all tests share: Hypothesis without a clock, because a busy machine is not a failing test."""

from hypothesis import HealthCheck, settings

settings.register_profile("aos", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aos")
