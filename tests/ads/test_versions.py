"""What is said of a node's version of Envoy, and what an old one is not offered."""

import pytest

from tests.compiler import golden
from xds_server.ads.versions import FEATURES, HOLES, Version, parsed, too_old, used, warnings
from xds_server.compiler import compile  # noqa: A004
from xds_server.resources import Snapshot

NAMES = {"rapid": "CVE-2023-44487", "cookies": "CVE-2026-47774", "rbac": "CVE-2026-73552"}


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ((1, 27, 0), {"rapid", "cookies", "rbac"}),
        ((1, 26, 5), {"cookies", "rbac"}),
        ((1, 36, 10), {"cookies"}),
        ((1, 38, 0), {"cookies", "rbac"}),
        ((1, 38, 1), {"rbac"}),
        ((1, 38, 4), set()),
        ((1, 39, 0), {"rbac"}),
        ((1, 39, 1), set()),
        ((1, 40, 0), set()),
        ((2, 0, 0), set()),
    ],
)
def test_holes_by_version(version: Version, holes: set[str]) -> None:
    assert {hole.name for hole in HOLES if hole.open_in(version)} == {NAMES[hole] for hole in holes}
    assert len(warnings(version)) == len(holes)


def test_a_warning_says_what_to_do() -> None:
    assert warnings((1, 39, 0)) == (
        "Envoy 1.39.0 has CVE-2026-73552 (RBAC regexes that fail open): update it to 1.39.1 or later",
    )


def test_who_says_no_version_is_not_judged() -> None:
    assert (parsed("0.0.0"), warnings(None), too_old(None, snapshot("traffic"))) == (None, (), "")


def test_a_version_is_read_as_the_board_has_it() -> None:
    assert parsed("1.40.2") == (1, 40, 2)


@pytest.mark.parametrize(
    ("case", "version", "reason"),
    [
        ("cors", (1, 37, 11), "needs Envoy 1.38: logins by route"),
        ("cors", (1, 38, 0), ""),
        ("traffic", (1, 37, 11), "needs Envoy 1.40: logins by route, compression"),
        ("traffic", (1, 39, 3), "needs Envoy 1.40: compression"),
        ("traffic", (1, 40, 0), ""),
    ],
)
def test_an_old_envoy_is_not_offered_what_it_cannot_take(case: str, version: Version, reason: str) -> None:
    assert too_old(version, snapshot(case)) == reason


def test_every_feature_is_found_in_what_is_compiled() -> None:
    assert all(any(used(feature, snapshot(case)) for case in ("cors", "traffic")) for feature in FEATURES)


def snapshot(case: str) -> Snapshot:
    return Snapshot.of(1, compile(golden.gateway(case), golden.SETTINGS, golden.SECRETS).messages)
