"""A regex is refused by the check if and only if a real Envoy refuses it (goal R37)."""

import random
from typing import Any

import pytest

from gateway.checks.patterns import regex_fault
from gateway.model import decode
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.validate import find_envoy, validate

ATOMS = (*"ab09./-_", "[a-z]", "[^/]", "\\d", "\\w", ".", "(", ")", "(?:", "|", "^", "$", "\\pL", "\xe9", "\\x{41}")
REPEATS = ("", "", "", "*", "+", "?", "{2}", "{1,30}", "{200}", "{0,1001}", "*?", "**")
FOREIGN = (
    "(?=a)",
    "(?!a)",
    "\\1",
    "(?<=a)b",
    "(?P<n>a)(?P=n)",
    "a++",
    "\\Z",
    "(?#c)",
    "[[:word:]]",
    "(?i)a",
    "\\Qa.b\\E",
)


def patterns(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    made = (
        "".join(chance.choice(ATOMS) + chance.choice(REPEATS) for _ in range(chance.randint(1, 8)))
        for _ in range(count)
    )
    return list(dict.fromkeys((*FOREIGN, *made)))


def messages(found: list[str]) -> Any:
    routes = {
        f"r{number}": {"match": {"path": {"regex": pattern}}, "respond": {"status": 200}}
        for number, pattern in enumerate(found)
    }
    module = {"tier": "free", "listener": "http", "authentication": "none", "routes": routes}
    document = {
        "version": 1,
        "listeners": {"http": {"port": 8080}},
        "tiers": {"free": {"unlimited": True}},
        "modules": {"m": module},
    }
    return compile(decode(document), Settings(), {}).messages


async def refused(found: list[str]) -> bool:
    envoy = find_envoy()
    assert envoy is not None
    return await validate(messages(found), envoy, timeout=60) != ()


async def test_envoy_takes_every_regex_that_the_check_takes() -> None:
    good = [pattern for pattern in patterns(1, 4000) if regex_fault(pattern) is None]
    assert len(good) > 500
    assert not await refused(good)


@pytest.mark.parametrize("pattern", [p for p in patterns(2, 120) if regex_fault(p) is not None][:30])
async def test_envoy_refuses_what_the_check_refuses(pattern: str) -> None:
    assert await refused([pattern])
