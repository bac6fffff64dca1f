"""R17: what a change may take away without being asked for."""

from collections.abc import Iterator

import pytest

from gateway.document import Object
from gateway.shrink import shrinks


def gateway(listeners: int = 1, routes: int = 1, upstreams: int = 1) -> Iterator[Object]:
    for kind, count in (("listeners", listeners), ("upstreams", upstreams)):
        yield from (Object(kind, f"n{n}", "team", {}, {}, "routes.yaml", {}) for n in range(count))
    bodies = {"routes": {f"r{n}": {} for n in range(routes)}}
    yield Object("modules", "m", "team", {}, bodies, "routes.yaml", {})
    yield Object("tiers", "gold", "team", {}, {}, "routes.yaml", {})


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"routes": 10}, {"routes": 10}, ""),
        ({"routes": 10}, {"routes": 7}, ""),  # 30 % may go
        ({"routes": 10}, {"routes": 6}, "4 of 10 routes"),
        ({"routes": 100}, {"routes": 69}, "31 of 100 routes"),
        ({"routes": 100}, {"routes": 70}, ""),
        ({"routes": 4}, {"routes": 1}, ""),  # three of a few are an edit
        ({"routes": 1}, {"routes": 0}, "1 of 1 routes"),  # all of them never are
        ({"routes": 1}, {"routes": 500}, ""),
        ({"listeners": 4}, {"listeners": 3}, ""),
        ({"listeners": 3}, {"listeners": 2}, "1 of 3 listeners"),
        ({"listeners": 2}, {"listeners": 0}, "2 of 2 listeners"),
        ({"upstreams": 20}, {"upstreams": 13}, "7 of 20 upstreams"),
        ({"routes": 0}, {"routes": 0}, ""),
    ],
)
def test_what_counts_as_too_much(before: dict[str, int], after: dict[str, int], found: str) -> None:
    assert ", ".join(map(str, shrinks(gateway(**before), gateway(**after)))) == found


def test_all_that_shrinks_is_named() -> None:
    assert list(map(str, shrinks(gateway(3, 10, 10), gateway(1, 2, 3)))) == [
        "2 of 3 listeners",
        "8 of 10 routes",
        "7 of 10 upstreams",
    ]
