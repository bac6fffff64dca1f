"""What applies to one route, as it is written, and where each of it is written: on the route, in its module, in
`defaults`, or in the floor.

Names the levels that `resolve` takes the values from; what it merges (header edits, limits) is one setting for each
level.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.document import key_of, path_of
from gateway.explain.wording import duration
from gateway.model import Gateway, Policies
from gateway.places import Where
from gateway.problems import Path
from gateway.resolve import ResolvedRoute, resolve_route

FLOOR: Final[Path] = ("floor",)
DEFAULTS: Final[Path] = ("defaults",)
MERGED: Final = ("request_headers", "response_headers")
TIMEOUTS: Final = ("request", "idle", "stream")


@dataclass(frozen=True, slots=True)
class Setting:
    """`path`: where in the document it is written; None for the gateway's own default. `value`: JSON-like, as there."""

    field: str
    value: Any
    path: Path | None

    @property
    def level(self) -> str:
        if self.path is None:
            return "default"
        if self.path[0] != "modules":
            return str(self.path[0])
        return "route" if self.path[2] == "routes" else "module"


def effective(gateway: Gateway, where: Where, module: str, route: str) -> tuple[Setting, ...]:
    """The settings of a route in the order of the language. Raises KeyError if there is no such route."""
    found = _Route(gateway, where, module, route)
    return tuple(found.settings())


class _Route:
    def __init__(self, gateway: Gateway, where: Where, module: str, route: str) -> None:
        inside = gateway.modules[module]
        self._gateway, self._where = gateway, where
        self._module: Path = ("modules", module)
        self._resolved: ResolvedRoute = resolve_route(gateway, module, inside, route, inside.routes[route])
        self._levels: tuple[tuple[Path, Policies], ...] = (
            (self._resolved.path, inside.routes[route]),
            (self._module, inside),
            (DEFAULTS, gateway.defaults),
        )

    def settings(self) -> Iterator[Setting]:
        for field in ("listener", "hosts", "tier"):
            yield self._written(field, (*self._module, field), getattr(self._resolved, field))
        yield from self._nearest("authentication")
        yield from self._floor("authorization")
        yield from self._nearest("authorization")
        yield from self._floor("rate_limits")
        yield from self._all("rate_limits")
        for field in Policies.model_fields:
            if field == "timeouts":
                yield from self._timeouts()
            elif field in MERGED:
                yield from self._all(field)
                yield from self._floor(field)
            else:
                yield from self._nearest(field)

    def _nearest(self, field: str) -> Iterator[Setting]:
        path = next(self._paths(field), None)
        if path is not None:
            yield self._written(field, path)

    def _all(self, field: str) -> Iterator[Setting]:
        """The outermost first: the order in which they are merged."""
        for path in reversed(tuple(self._paths(field))):
            yield self._written(field, path)

    def _floor(self, field: str) -> Iterator[Setting]:
        if getattr(self._gateway.floor, field, None):
            yield self._written(field, (*FLOOR, field))

    def _timeouts(self) -> Iterator[Setting]:
        for field in TIMEOUTS:
            value = getattr(self._resolved.timeouts, field)
            if value is not None:
                yield self._timeout(field, value)

    def _timeout(self, field: str, value: int) -> Setting:
        """The nearest; of a request that nobody gave a time, what caps it or what its streams have."""
        path = self._timeout_path(field)
        if path is None and field == "request":
            floor = self._gateway.floor.timeouts.request
            path = (*FLOOR, "timeouts", field) if floor == value else self._timeout_path("stream")
        return self._written(f"timeouts.{field}", path) if path else Setting(f"timeouts.{field}", duration(value), None)

    def _timeout_path(self, field: str) -> Path | None:
        """The nearest that is written."""
        found = ((path, level.timeouts) for path, level in self._levels if level.timeouts is not None)
        return next(((*path, "timeouts", field) for path, said in found if getattr(said, field) is not None), None)

    def _paths(self, field: str) -> Iterator[Path]:
        for path, level in self._levels:
            if getattr(level, field, None) is not None:
                yield (*path, field)

    def _written(self, field: str, path: Path, otherwise: Any = None) -> Setting:
        """`otherwise`: the gateway's own default, for what need not be written."""
        key = key_of(path)
        item = self._where.objects.get(key) if key is not None else None
        found: Any = item.body if item is not None else None
        for part in path[len(path_of(key)) :] if key is not None else ():
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is None:
            return Setting(field, list(otherwise) if isinstance(otherwise, tuple) else otherwise, None)
        return Setting(field, found, path)


def as_json(settings: tuple[Setting, ...], where: Where) -> list[dict[str, Any]]:
    """`place`: `file:line:column`, null for the gateway's own defaults."""
    return [
        {
            "field": one.field,
            "value": one.value,
            "level": one.level,
            "path": list(one.path) if one.path is not None else None,
            "place": str(where.locate(one.path) or "") or None if one.path is not None else None,
        }
        for one in settings
    ]
