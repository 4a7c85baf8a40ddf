"""Cron arithmetic on cronsim (the syntax and the daylight-saving rules of Debian's cron) and zoneinfo."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


class CronCalendar:
    """The kernel's `Calendar`."""

    def check(self, expression: str, tz: str) -> None:
        self.next(expression, tz, datetime(2026, 1, 1, tzinfo=UTC))

    def next(self, expression: str, tz: str, after: datetime) -> datetime:
        local = after.astimezone(_zone(tz))
        try:
            return next(CronSim(expression, local)).astimezone(UTC)
        except CronSimError as error:
            raise ValueError(f"{expression!r} is not a cron expression: {error}") from None
        except StopIteration:
            raise ValueError(f"{expression!r} is never due") from None


@lru_cache(maxsize=100)
def _zone(tz: str) -> ZoneInfo:
    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {tz!r}") from None
