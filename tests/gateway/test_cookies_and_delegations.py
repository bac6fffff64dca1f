"""Cookies as patterns of their whole header, and what delegations hold, one edge at a time."""

import operator
from collections.abc import Callable

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from gateway import read
from gateway.checks.delegations import covers
from gateway.cookie_patterns import cookie_pattern, one_cookie
from gateway.model import ValueMatch

CONFINED = (
    "a.b", ".*", "[a-z]{2,3}", r"\d+\.\w", "(?i)abc", "(?P<n>a)", "[]a]", r"a\$", "[[:alpha:]]+", "[^;,]", r"\x41",
)  # fmt: skip
REACHING = (
    r"\S+", "[^,]", r"\x3b", r"\x{3B}", r"\073", r"\W", r"\D", "a;b", "[!-~]", "^a|^b", "a$b", r"\Q;\E", r"\C",
    "[[:punct:]]", r"\pP", r"\PL", r"a\\$b",
)  # fmt: skip


@pytest.mark.parametrize("regex", CONFINED)
@given(text=st.text(st.sampled_from("abcA1.$;,] "), max_size=6))
def test_regexes_that_end_with_their_cookie(regex: str, text: str) -> None:
    """The same as before for values, and nothing that holds the end of a cookie."""
    held = re2.fullmatch(one_cookie(regex), text) is not None
    assert held == (";" not in text and re2.fullmatch(regex, text) is not None)


@pytest.mark.parametrize("regex", REACHING)
def test_regexes_that_could_reach_the_next_cookie(regex: str) -> None:
    with pytest.raises(ValueError, match="has "):
        one_cookie(regex)


NAMES = st.sampled_from(["a", "b", "ab", "a.b"])
VALUES = st.text(st.sampled_from("ab=., ~"), max_size=4).map(str.strip)
COMPARISONS = st.sampled_from(["exact", "prefix", "suffix", "contains"])


@given(cookies=st.lists(st.tuples(NAMES, VALUES), max_size=4), name=NAMES, kind=COMPARISONS, text=VALUES)
def test_one_cookie_of_many(cookies: list[tuple[str, str]], name: str, kind: str, text: str) -> None:
    """The pattern says of the header what a parser of cookies says of that cookie."""
    compare: dict[str, Callable[[str, str], bool]] = {
        "exact": operator.eq, "prefix": str.startswith, "suffix": str.endswith, "contains": operator.contains,
    }  # fmt: skip
    header = "; ".join(f"{one}={value}" for one, value in cookies)
    expected = any(one == name and compare[kind](value, text) for one, value in cookies)
    pattern = cookie_pattern(name, ValueMatch.model_validate({kind: text}))
    assert (re2.fullmatch(pattern, header) is not None) == expected
    there = re2.fullmatch(cookie_pattern(name, ValueMatch(present=True)), header) is not None
    assert there == any(one == name for one, _ in cookies)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("*", "a.com", True),
        ("*", "*.a.com", True),
        ("a.com", "a.com", True),
        ("*.a.com", "x.a.com", True),
        ("*.a.com", "*.x.a.com", True),
        ("*.a.com", "a.com", False),
        ("*.a.com", "xa.com", False),
        ("a.com", "*", False),
        ("x.a.com", "*.a.com", False),
    ],
)
def test_hosts_that_cover_others(outer: str, inner: str, expected: bool) -> None:
    assert covers(outer, inner) == expected


PLATFORM = """
version: 1
owner: platform
listeners: {http: {port: 8080}, internal: {port: 8081}}
tiers: {free: {unlimited: true}}
delegations:
  shop: {owner: shop, listeners: [http], hosts: ["*.example.com"]}
  pay: {owner: pay, listeners: [http], hosts: [api.example.com], path_prefix: /pay}
modules:
  home:
    tier: free
    listener: http
    authentication: none
    routes: {all: {match: {path: {prefix: /}}, respond: {status: 200}}}
"""


def codes_of(owner: str, listener: str, host: str, path: str) -> list[str]:
    """What is said of one route of `owner`, beside the platform's file."""
    module = f"""
version: 1
owner: {owner}
modules:
  m:
    tier: free
    listener: {listener}
    hosts: ["{host}"]
    authentication: none
    routes: {{r: {{match: {{path: {path}}}, respond: {{status: 200}}}}}}
"""
    found = read.load([("platform.yaml", PLATFORM), ("module.yaml", module)]).problems
    return [problem.code for problem in found if problem.severity == "error"]


@pytest.mark.parametrize(
    ("owner", "listener", "host", "path", "expected"),
    [
        ("shop", "http", "api.example.com", "{prefix: /}", []),
        ("shop", "http", "*.eu.example.com", "{regex: /.*}", []),
        ("shop", "http", "example.com", "{prefix: /}", ["GW410"]),
        ("shop", "http", "*", "{prefix: /a}", ["GW410"]),
        ("shop", "internal", "api.example.com", "{prefix: /}", ["GW410"]),
        ("shop", "http", "api.example.com", "{exact: /pay/1}", ["GW411"]),
        ("pay", "http", "api.example.com", "{exact: /pay/1}", []),
        ("pay", "http", "api.example.com", "{prefix: /payments}", ["GW411"]),
        ("pay", "http", "www.example.org", "{exact: /pay/1}", ["GW410"]),
        ("other", "http", "api.example.com", "{exact: /a}", ["GW411"]),
        ("other", "http", "www.example.org", "{exact: /a}", []),
        ("other", "internal", "api.example.com", "{exact: /a}", []),
    ],
)
def test_what_an_owner_may_route(owner: str, listener: str, host: str, path: str, expected: list[str]) -> None:
    assert codes_of(owner, listener, host, path) == expected
