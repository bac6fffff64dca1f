"""What the organisation asks of every route: modules and routes may extend it and never weaken it."""

from typing import Literal

from gateway.model.base import Model
from gateway.model.callers import RateLimit
from gateway.model.policies import Authorization, HeaderEdits
from gateway.scalars import Duration, Name


class FloorTimeouts(Model):
    request: Duration | None = None  # the most that a route may allow a request


class FloorTls(Model):
    min_version: Literal["1.2", "1.3"] = "1.2"


class Floor(Model):
    """`authorization` must allow a request as well as the route's own; `rate_limits` come on top of the route's own.

    `open_modules`: where routes may do without authentication although it is `required`.
    """

    authentication: Literal["required"] | None = None
    open_modules: tuple[Name, ...] = ()
    authorization: Authorization | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    timeouts: FloorTimeouts = FloorTimeouts()
    tls: FloorTls = FloorTls()
    response_headers: HeaderEdits | None = None

    def wants_credentials(self, module: str) -> bool:
        """Whether every route of the module must know its callers."""
        return self.authentication == "required" and module not in self.open_modules
