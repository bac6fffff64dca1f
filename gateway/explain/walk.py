"""What the stages of an explanation hand on to each other."""

from dataclasses import dataclass, field

from gateway.explain.asked import Asked
from gateway.explain.caller import Caller
from gateway.match import Decision, Index
from gateway.model import Gateway, Listener
from gateway.problems import Path
from gateway.resolve import ResolvedRoute


class Unexplained(ValueError):  # noqa: N818 - not an error of ours
    """Nothing can be said about this request: `listener` names what is not there."""


@dataclass(slots=True)
class Walk:
    """One request on its way. A stage writes what it finds for those after it; what it says are its steps."""

    gateway: Gateway
    index: Index
    asked: Asked
    listener_name: str
    decision: Decision
    caller: Caller | None = None
    unproven: list[str] = field(default_factory=list)
    upstream_path: str | None = None
    upstream_host: str | None = None
    location: str | None = None

    @property
    def listener(self) -> Listener:
        return self.gateway.listeners[self.listener_name]

    @property
    def listener_path(self) -> Path:
        return ("listeners", self.listener_name)

    @property
    def route(self) -> ResolvedRoute | None:
        """The route that the request goes through; none of the document's for preflights and what nobody takes."""
        return self.decision.route if self.decision.kind == "route" else None

    def written(self, route: ResolvedRoute, field: str) -> Path:
        """Where a policy of the route comes from: the route, its module, or the defaults."""
        if getattr(route.route, field, None) is not None:
            return (*route.path, field)
        module = self.gateway.modules[route.module]
        return ("modules", route.module, field) if getattr(module, field, None) is not None else ("defaults", field)
