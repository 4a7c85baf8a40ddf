"""What comes in: alerts of the monitoring, acknowledgements and resolutions."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
"""A service or a team. It becomes part of an address, so its characters are checked at the door."""


class Alert(BaseModel):
    """`fingerprint` says which incident it belongs to: the same for every alert about the same trouble."""

    fingerprint: str
    service: Name
    team: Name
    severity: Literal["warning", "critical"]
    summary: str
    at: datetime


class Acknowledgement(BaseModel):
    """Somebody takes care of it."""

    fingerprint: str
    by: str
    at: datetime


class Resolution(BaseModel):
    """The trouble is over."""

    fingerprint: str
    at: datetime
