"""What of a gateway the tests have tried: routes taken, authorization rules that matched, limits that counted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.model import Authorization, Gateway, RateLimit
from gateway.problems import Path
from gateway.testing.judging import Sent


@dataclass(frozen=True, slots=True)
class Used:
    """`kind`: `route`, `rule` or `limit`."""

    kind: str
    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Coverage:
    everything: tuple[Used, ...]
    untested: tuple[Used, ...]

    @classmethod
    def of(cls, gateway: Gateway, sent: Iterable[Sent]) -> "Coverage":
        tried = {path for one in sent for path in paths_of(one)}
        everything = tuple(parts(gateway))
        return cls(everything, tuple(one for one in everything if one.path not in tried))

    @property
    def percent(self) -> float:
        """Of everything; a gateway with nothing in it is tested."""
        total = len(self.everything)
        return 100.0 * (total - len(self.untested)) / total if total else 100.0


def paths_of(sent: Sent) -> Iterator[Path]:
    if sent.found.route is not None:
        module, _, route = sent.found.route.partition("/")
        yield ("modules", module, "routes", route)
    yield from (step.path for step in sent.found.steps if step.path and step.facts.get("matched"))
    yield from sent.counted


def parts(gateway: Gateway) -> Iterator[Used]:
    yield from policies("floor", ("floor",), gateway.floor.authorization, gateway.floor.rate_limits)
    for name, tier in gateway.tiers.items():
        yield from policies(name, ("tiers", name), None, tier.rate_limits)
    for name, module in gateway.modules.items():
        yield from policies(name, ("modules", name), module.authorization, module.rate_limits or ())
        for own, route in module.routes.items():
            path: Path = ("modules", name, "routes", own)
            yield Used("route", f"{name}/{own}", path)
            yield from policies(f"{name}/{own}", path, route.authorization, route.rate_limits or ())


def policies(of: str, path: Path, block: Authorization | None, limits: Iterable[RateLimit]) -> Iterator[Used]:
    for at, rule in enumerate(block.rules if block is not None else ()):
        yield Used("rule", f"{of} {rule.name}", (*path, "authorization", "rules", at))
    for at, limit in enumerate(limits):
        yield Used("limit", f"{of} {limit.name or limit.limit}", (*path, "rate_limits", at))
