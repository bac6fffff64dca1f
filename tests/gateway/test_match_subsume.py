"""Shadowing: what is told is true for every request that can be thought of, and the usual cases are told."""

import json

import pytest
import yaml

from gateway.check import check
from gateway.checks.scope import Scope
from gateway.checks.shadowing import problems
from gateway.match import index, route_for
from gateway.model import Match, decode
from gateway.naming import Names
from gateway.subsume import conditions_meet, covers, paths_meet
from tests.support.generate_gateway import document, requests

SEEDS = range(20, 26)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_shadowed_is_never_chosen(seed: int) -> None:
    written = document(seed, 8, "list")
    gateway = decode(written)
    found = list(problems(Scope.of(gateway, Names.of_gateway(gateway))))
    shadowed = {f"{problem.path[1]}/{problem.path[3]}" for problem in found if problem.code == "GW240"}
    assert shadowed
    ready = index(gateway)
    asked = [request for name in gateway.listeners for request in requests(seed, written, name, 400)]
    decisions = [route_for(ready, request) for request in asked]
    chosen = {decision.route.full_name for decision in decisions if decision.kind == "route" and decision.route}
    assert chosen & shadowed == set()


def matching(text: str) -> Match:
    return Match.model_validate_json(json.dumps(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("{path: {prefix: /a}}", "{path: {exact: /a/b}}", True),
        ("{path: {prefix: /a}}", "{path: {exact: /ab}}", False),
        ("{path: {prefix: /a}}", "{path: {prefix: /a/b}}", True),
        ("{path: {prefix: /a/b}}", "{path: {prefix: /a}}", False),
        ("{path: {prefix: /a}}", "{path: {template: '/a/{x}'}}", True),
        ("{path: {prefix: /a}}", "{path: {template: '/a{x}'}}", False),
        ("{path: {prefix: /a}}", "{path: {regex: '/a/[0-9]+'}}", True),
        ("{path: {prefix: /a}}", "{path: {regex: '/a[0-9]+'}}", False),
        ("{path: {prefix: /a}}", "{path: {regex: '/a/b|/c'}}", False),
        ("{path: {prefix: /}}", "{path: {regex: '.*'}}", True),
        ("{path: {template: '/a/{x}'}}", "{path: {exact: /a/b}}", True),
        ("{path: {template: '/a/{x}'}}", "{path: {template: '/a/{y}'}}", True),
        ("{path: {template: '/a/{x}/{y}'}}", "{path: {template: '/a/b/{y}'}}", True),
        ("{path: {template: '/a/b/{y}'}}", "{path: {template: '/a/{x}/{y}'}}", False),
        ("{path: {template: '/a/{x=**}'}}", "{path: {template: '/a/b/{y}'}}", True),
        ("{path: {template: '/a/{x}'}}", "{path: {prefix: /a}}", False),
        ("{path: {regex: '/a.*'}}", "{path: {regex: '/a.*'}}", True),
        ("{path: {regex: '/a.*'}}", "{path: {exact: /ab}}", True),
        ("{path: {prefix: /}, methods: [GET, POST]}", "{path: {prefix: /}, methods: [GET]}", True),
        ("{path: {prefix: /}, methods: [GET]}", "{path: {prefix: /}}", False),
        ("{path: {prefix: /}, headers: {x: {prefix: a}}}", "{path: {prefix: /}, headers: {x: {exact: ab}}}", True),
        ("{path: {prefix: /}, headers: {x: {present: true}}}", "{path: {prefix: /}, headers: {x: {exact: ab}}}", True),
        (
            "{path: {prefix: /}, headers: {x: {present: true}}}",
            "{path: {prefix: /}, headers: {x: {exact: a, optional: true}}}",
            False,
        ),
        ("{path: {prefix: /}, query: {x: {contains: a}}}", "{path: {prefix: /}, query: {x: {suffix: ba}}}", True),
        ("{path: {prefix: /}, query: {x: {exact: a}}}", "{path: {prefix: /}}", False),
        (
            "{path: {prefix: /}, query: {x: {regex: 'a+', optional: true}}}",
            "{path: {prefix: /}, query: {x: {present: false}}}",
            True,
        ),
        ("{path: {prefix: /}, cookies: {x: {regex: 'a+'}}}", "{path: {prefix: /}, cookies: {x: {exact: aa}}}", True),
        ("{grpc: {service: a.B}}", "{grpc: {service: a.B, method: C}}", True),
        ("{grpc: {service: a.B}}", "{path: {exact: /a.B/C}}", False),
    ],
)
def test_one_match_takes_all_of_another(wide: str, narrow: str, expected: bool) -> None:
    assert covers(matching(wide), matching(narrow)) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("{path: {template: '/a/{x}/c'}}", "{path: {template: '/a/b/{y}'}}", True),
        ("{path: {template: '/a/{x}/c'}}", "{path: {template: '/a/{x}/{y}'}}", True),
        ("{path: {template: '/a/{x}/c'}}", "{path: {template: '/a/b/d'}}", False),
        ("{path: {template: '/a/x{y}'}}", "{path: {template: '/a/xyz'}}", True),
        ("{path: {prefix: /a}, methods: [GET]}", "{path: {prefix: /a}, methods: [POST]}", False),
        ("{path: {prefix: /a}, headers: {x: {exact: a}}}", "{path: {prefix: /a}, headers: {y: {exact: a}}}", True),
        ("{path: {prefix: /a}, query: {x: {exact: a}}}", "{path: {prefix: /a}, query: {x: {exact: b}}}", False),
    ],
)
def test_two_matches_meet(one: str, other: str, expected: bool) -> None:
    a, b = matching(one), matching(other)
    assert (conditions_meet(a, b) and paths_meet(a.where, b.where)) is expected


def test_ten_thousand_conditions_on_one_path_are_not_compared_with_each_other() -> None:
    routes = {
        f"r{n}": {
            "match": {"path": {"prefix": "/a"}, "headers": {"x-a": {"exact": f"v{n}"}}},
            "respond": {"status": 200},
        }
        for n in range(3000)
    }
    module = {"tier": "free", "listener": "http", "authentication": "none", "routes": routes}
    gateway = decode(
        {
            "version": 1,
            "listeners": {"http": {"port": 8080}},
            "tiers": {"free": {"unlimited": True}},
            "modules": {"m": module},
        }
    )
    assert [problem for problem in check(gateway) if problem.code.startswith("GW24")] == []
