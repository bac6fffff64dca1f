"""Plans of gateways that nobody wrote: empty after an apply, and never silent about what Envoy is given anew."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import document, plan
from gateway.document import Object
from gateway.match import Lost, index, route_for
from gateway.plan.masking import HIDDEN, masked
from gateway.plan.taken import examples
from gateway.read import Loaded, load
from gateway.resolve import resolve
from gwctl.commands.export import as_files
from tests.compiler.golden import CASES, NAMES, SECRETS, SETTINGS
from tests.support import generate_gateway
from xds_server.compiler import compile  # noqa: A004
from xds_server.compiler.difference import difference
from xds_server.compiler.memo import Memo
from xds_server.resources import ROUTES, SCOPED_ROUTES, VIRTUAL_HOST, Serialised, Snapshot
from xds_server.rollout.stored import from_row, to_row

SEEDS = st.integers(0, 10_000)


def generated(seed: int) -> dict[str, Any]:
    return generate_gateway.document(seed, 2, "tree")


def loaded(found: dict[str, Any]) -> Loaded:
    """The generator may write two routes that match the same: without the second it is valid."""
    for _ in range(9):
        made = load([("routes.yaml", yaml.safe_dump(found, sort_keys=False, allow_unicode=True))])
        wrong = [problem for problem in made.problems if problem.severity == "error"]
        if not wrong:
            return made
        for problem in wrong:
            _, module, _, route, *_ = problem.path
            found["modules"][module]["routes"].pop(route, None)
    raise AssertionError(wrong)


def side(found: Loaded) -> plan.Side:
    assert found.gateway is not None
    return plan.Side(found.objects, found.gateway, found.problems, found.where)


def stored(objects: tuple[Object, ...]) -> tuple[Object, ...]:
    """As they come back from the database, which keeps JSON."""
    rows = map(to_row, objects)
    return tuple(from_row(replace(row, body=json.loads(json.dumps(row.body)))) for row in rows)


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_a_plan_right_after_an_apply_is_empty(seed: int) -> None:
    first = loaded(generated(seed))
    applied = document.apply((), first.objects, prune=False)
    again = load([("elsewhere.yaml", yaml.safe_dump(document.assemble(first.objects), default_flow_style=True))])
    change = document.apply(stored(applied.objects), again.objects, prune=True)
    assert change.empty
    found = plan.made(side(first), side(again))
    assert found.empty
    assert (found.routes, found.moved, found.weakened, found.hosts, found.tiers) == ((), (), (), (), ())
    assert (found.findings.introduced, found.findings.fixed, found.shrunk) == ((), (), ())


@settings(max_examples=4, deadline=None)
@given(SEEDS)
def test_an_apply_of_what_was_exported_changes_nothing(seed: int) -> None:
    first = loaded(generated(seed))
    objects = [
        {name: getattr(one, name) for name in ("kind", "name", "owner", "labels", "body")} for one in first.objects
    ]
    again = load(list(as_files(objects)))
    assert document.apply(stored(first.objects), again.objects, prune=True).empty
    assert plan.made(side(first), side(again)).empty


def changed(random: Random, found: dict[str, Any]) -> None:
    """One change of what routes take."""
    module = random.choice(list(found["modules"].values()))
    routes = module["routes"]
    name = random.choice(list(routes))
    kind = random.choice(("delete", "priority", "methods", "rename", "hosts", "path"))
    if kind == "delete" and len(routes) > 1:
        del routes[name]
    elif kind == "rename":
        routes["renamed"] = routes.pop(name)
    elif kind == "hosts":
        module["hosts"] = ["added.example", *module["hosts"]]
    elif kind == "methods":
        routes[name]["match"]["methods"] = ["PATCH"]
    elif kind == "path":
        routes[name]["match"] = {"path": {"prefix": "/"}}
    else:
        routes[name]["priority"] = 7


@settings(max_examples=8, deadline=None)
@given(SEEDS)
def test_no_request_goes_elsewhere_without_a_route_that_is_told_of(seed: int) -> None:
    first = loaded(generated(seed))
    written = {**document.assemble(first.objects)}
    written = json.loads(json.dumps(written))
    changed(Random(seed), written)
    second = loaded(written)
    if document.apply(first.objects, second.objects, prune=True).empty:
        return
    before, after = side(first), side(second)
    found = plan.made(before, after)
    assert not found.empty
    told = {change.route.full_name for change in found.routes}
    sides = index(before.gateway), index(after.gateway)
    for listener in written["listeners"]:
        for request in generate_gateway.requests(seed, written, listener, 80):
            old, new = (route_for(one, request) for one in sides)
            if {old.kind, new.kind} <= {"route", "unmatched"} and name_of(old) != name_of(new):
                assert {name_of(old), name_of(new)} & told, request
    for one in found.moved:
        assert {one.before, one.after} & told, one


def name_of(decision: Any) -> str:
    return decision.route.full_name if decision.route is not None else ""


@pytest.mark.parametrize("seed", range(3))
def test_most_examples_meet_their_route(seed: int) -> None:
    """Taken by it, or by one that comes before it. Some are not: Envoy makes another one of some paths."""
    gateway = loaded(generated(seed)).gateway
    assert gateway is not None
    routes = resolve(gateway)
    here = index(gateway, routes)
    met = []
    for route in routes:
        for request in examples(route, route.hosts):
            decision = route_for(here, request)
            met.append(decision.route is route or Lost(route, "lower precedence") in decision.lost)
    assert len(met) > 20
    assert sum(met) > 0.7 * len(met)


def removable(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Fields of modules, routes, listeners and defaults, one for each that may be left out."""
    modules = found.get("modules", {})
    paths = [
        ("modules", m, key)
        for m, module in modules.items()
        for key in module
        if key not in ("tier", "listener", "routes")
    ]
    paths += [
        ("modules", m, "routes", r, key)
        for m, module in modules.items()
        for r, route in module["routes"].items()
        for key in route
        if key not in ("match", "backends", "respond", "redirect")
    ]
    return paths + [("defaults", key) for key in found.get("defaults", {})]


@pytest.mark.parametrize("name", NAMES)
def test_envoys_routes_do_not_change_without_a_route_that_is_told_of(name: str) -> None:
    """Every field that can be left out of a golden case, one after the other."""
    text = (CASES / name / "in.yaml").read_text()
    first = load([("in.yaml", text)])
    if first.gateway is None:
        return  # the compiler is asked about more there than a document may say
    memo, serialised = Memo(), Serialised()

    def snapshot(found: Loaded) -> Snapshot:
        assert found.gateway is not None
        made = Snapshot.of(1, compile(found.gateway, SETTINGS, SECRETS, memo=memo).messages, serialised.of)
        serialised.end()
        return made

    before = snapshot(first)
    for path in removable(yaml.safe_load(text)):
        written = yaml.safe_load(text)
        inside = written
        for part in path[:-1]:
            inside = inside[part]
        del inside[path[-1]]
        second = load([("in.yaml", yaml.safe_dump(written, sort_keys=False))])
        if second.gateway is None:
            continue
        types = {one.type_url for one in difference(before, snapshot(second)).types}
        found = plan.made(side(first), side(second))
        assert not found.empty, path
        assert found.routes or not types & {ROUTES, VIRTUAL_HOST, SCOPED_ROUTES}, path


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        (("request_headers", "set", "authorization"), "Basic x", HIDDEN),
        (("request_headers", "set"), {"x-api-key": "x", "x-plain": "y"}, {"x-api-key": HIDDEN, "x-plain": "y"}),
        (("jwt_providers", "a", "jwks", "inline"), '{"keys": []}', HIDDEN),
        (("jwt_providers", "a", "jwks", "hs256", "secret"), "name-of-it", "name-of-it"),
        (("match", "headers", "x-token", "present"), True, True),
        (("match", "query", "api_key", "exact"), "x", HIDDEN),
        (("envoy", "cluster", "password"), ["a", 1], [HIDDEN, HIDDEN]),
        (("respond", "body"), "see https://user:pass@example.com/", f"see https://{HIDDEN}@example.com/"),
        (("authentication", "any_of"), ["keys"], ["keys"]),
    ],
)
def test_what_may_be_a_secret_is_not_shown(path: tuple[str, ...], value: Any, shown: Any) -> None:
    assert masked(path, value) == shown
