"""From texts to a gateway: what a good document becomes, and that nothing makes reading fail but problems."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import document, read, render, secrets
from gateway.model import Gateway
from gateway.places import Where
from gateway.problems import Problem

ROOT = Path(__file__).parents[2]

GOOD = """version: 1
owner: shop
listeners:
  http: {port: 8080}
  https: {port: 8443, protocol: HTTPS, tls: {certificates: [{hosts: [api.example.com], secret: api}]}}
upstreams:
  web:
    type: static
    endpoints: [{address: 127.0.0.1, port: 9000}]
    health_check: {http: {path: /healthz}, interval: 5s}
  pay: {type: dns, host: pay.internal, port: 443, tls: {sni: pay.internal, ca_secret: internal}}
jwt_providers:
  acme:
    issuer: https://id.example.com/
    audiences: [shop]
    jwks: {hs256: {secret: acme}}
    from: {headers: [{name: Authorization, prefix: "Bearer "}], cookies: [session]}
    claims_to_headers: {sub: x-user-id}
api_keys:
  partner: {from: {headers: [X-API-Key]}, forward_client_id: x-client-id}
tiers:
  free: {rate_limits: [{limit: 60/minute, per: client}, {limit: 1000/day, per: [ip, route]}]}
  gold: {unlimited: true}
rate_limit_defaults: {on_error: deny}
defaults:
  timeouts: {request: 15s, idle: 60s}
  retry: {attempts: 2, codes: [502, 503], backoff: {base: 25ms, max: 250ms}}
  cors: {allow_origins: ["https://app.example.com"], allow_credentials: true}
modules:
  orders:
    tier: free
    listener: http
    hosts: [api.example.com]
    path_prefix: /orders
    authentication: {any_of: [acme, partner]}
    authorization:
      rules:
        - {name: readers, action: allow, scopes: [orders:read], claims: {org: {in: [a, b]}, staff: {exact: true}}}
    routes:
      list:
        match: {path: {prefix: /orders}, methods: [GET], headers: {x-v: {exact: "1"}}, query: {p: {regex: "^[0-9]+$"}}}
        backends: [{upstream: web, weight: 9}, {upstream: pay, weight: 1}]
        rate_limits: [{limit: 10/second, per: "claim:org", name: burst}]
      one:
        match: {path: {template: "/orders/{id}"}}
        backends: [{upstream: web}]
        retry: none
        request_headers: {set: {x-from: shop}, remove: [cookie]}
  open:
    tier: free
    listener: https
    authentication: none
    routes:
      ping: {match: {path: {exact: /ping}}, respond: {status: 200, body: pong}}
      old: {match: {path: {prefix: /old}}, redirect: {path_prefix: /orders, status: 308}}
"""


def load(text: str) -> read.Loaded:
    return read.load([("in.yaml", text)])


def at(line: str, part: str) -> str:
    """The place of a part of the first line of GOOD that has these beginnings."""
    number, text = next((n, t) for n, t in enumerate(GOOD.splitlines(), 1) if line in t)
    return f"in.yaml:{number}:{text.index(part, text.index(line)) + 1}"


def test_a_good_document_has_no_problems_and_becomes_a_gateway() -> None:
    loaded = load(GOOD)
    assert render.text(loaded.problems, loaded.where) == ""
    assert isinstance(loaded.gateway, Gateway)
    assert loaded.gateway.modules["orders"].routes["one"].retry == "none"
    assert loaded.gateway.tiers["free"].rate_limits[1].keys == ("ip", "route")


def test_files_are_one_gateway_whatever_their_order() -> None:
    whole = yaml.safe_load(GOOD)
    parts = [
        (f"{kind}.yaml", yaml.safe_dump({"version": 1, kind: whole[kind]}, sort_keys=False))
        for kind in document.KINDS
        if kind in whole
    ]
    forward, backward = read.load(parts), read.load(parts[::-1])
    assert forward.problems == backward.problems == ()
    assert forward.gateway == backward.gateway == load(GOOD).gateway.model_copy(update={"owner": "default"})  # type: ignore[union-attr]


def test_stored_objects_are_read_as_the_files_were() -> None:
    loaded = load(GOOD)
    stored = [document.Object(**json.loads(json.dumps({**vars(o), "positions": {}}))) for o in loaded.objects]
    assert read.check_objects(stored) == (loaded.gateway, ())


def test_a_problem_of_stored_objects_has_the_place_where_they_were_written() -> None:
    gateway, problems = read.check_objects([o for o in load(GOOD).objects if o.kind != "api_keys"])
    assert gateway is None
    assert [(p.code, str(p.place)) for p in problems] == [("GW201", at("[acme, partner]", "partner"))]


def test_a_file_over_stored_objects_is_checked_with_them_and_tells_the_two_apart() -> None:
    stored = load(GOOD).objects
    text = "version: 1\nowner: shop\nlisteners:\n  http: {port: 8443}\n"

    def merge(objects: tuple[document.Object, ...]) -> tuple[document.Object, ...]:
        return document.apply(stored, objects, prune=False).objects

    loaded = read.load([("in.yaml", text)], merge)
    assert [(p.code, str(p.place)) for p in loaded.problems] == [("GW205", "in.yaml (stored):5:11")]
    assert "   |" not in render.text(loaded.problems, loaded.where)


def test_secrets_that_the_document_refers_to() -> None:
    gateway = load(GOOD).gateway
    assert gateway is not None
    found = {(secret.name, secret.kind) for secret in secrets.referenced(gateway)}
    assert found == {("api", "certificate"), ("internal", "ca"), ("acme", "hs256")}
    path = {secret.name: path for secret, path in secrets.references(gateway)}["internal"]
    assert path == ("upstreams", "pay", "tls", "ca_secret")


def test_a_path_found_late_still_has_a_place() -> None:
    where = load(GOOD).where
    assert str(where.locate(("modules", "orders", "routes", "list", "backends", 1, "weight"))) == at(
        "[{upstream: web, weight: 9}", "1}]"
    )
    assert str(where.locate(("modules", "orders", "routes", "list", "timeouts", "request"))) == at(
        "      list:", "list"
    )
    assert where.locate(("modules", "nothing")) is not None
    assert Where().locate(("modules", "nothing")) is None


def test_json_of_problems() -> None:
    loaded = load(GOOD.replace("tier: free\n    listener: http\n", "tier: fre\n    listener: http\n"))
    assert render.as_json(loaded.problems, loaded.where) == [
        {
            "code": "GW201",
            "severity": "error",
            "message": "there is no tier 'fre'",
            "help": "did you mean 'free'?",
            "path": "modules.orders.tier",
            "pointer": "/modules/orders/tier",
            "file": "in.yaml",
            "line": int(at("    tier: free", "free").split(":")[1]),
            "column": 11,
        }
    ]
    assert render.pointer(Problem("GW000", ("a/b", "c~d", 0), "")) == "/a~1b/c~0d/0"


def test_what_a_document_says_cannot_change_the_terminal() -> None:
    loaded = load('version: 1\n"a\\x1b[31m\\u202e": 1\n')
    told = render.text(loaded.problems, loaded.where)
    assert "unknown field" in told
    assert "\x1b" not in told
    assert "\u202e" not in told


@pytest.mark.parametrize(
    "body",
    [
        "jwks: {hs256: CANARY}",
        "jwks: {inline: CANARY}",
        "jwks: {hs256: {secret: CANARY!}}",
        "jwks: {hs256: {value: CANARY}}",
        "jwks: {hs256: {secret: acme}, oops: CANARY}",
        "jwks:\n      inline: |\n        {\n          CANARY\n        }",
        'jwks:\n      inline: >-\n        {"keys": [{"kty": "oct",\n        "k": "CANARY"}]}',
        "jwks: CANARY",
        "jwks:\n      hs256: [\n        CANARY]\n      inline: {CANARY: CANARY}",
    ],
)
def test_a_key_in_the_document_is_in_no_message(body: str) -> None:
    loaded = load(GOOD.replace("jwks: {hs256: {secret: acme}}", body))
    assert any(problem.severity == "error" for problem in loaded.problems)
    assert "CANARY" not in render.text(loaded.problems, loaded.where)
    assert "CANARY" not in json.dumps(render.as_json(loaded.problems, loaded.where))
    assert "CANARY" not in repr(loaded.problems)


def test_the_examples_are_good() -> None:
    examples = [folder for folder in (ROOT / "examples").iterdir() if folder.is_dir() and folder.name != "broken"]
    assert examples
    for folder in examples:
        files = sorted(file for file in folder.rglob("*.yaml") if file.name != "tests.yaml")
        loaded = read.load([(str(file), file.read_text()) for file in files])
        assert render.text(loaded.problems, loaded.where) == ""


# ------------------------------------------------------------------------------------------------------- mutations
def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


TREE = yaml.safe_load(GOOD)
PLACES = places(TREE)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "none", "nobody", "*", "/", "{", "5s", "1/day", "a b", "GET", "é", "x" * 300]),
    st.lists(st.sampled_from(["a", 1, None, {}, []]), max_size=3),
    st.dictionaries(
        st.sampled_from(["any_of", "exact", "type", "keys", "a", "Bad Key", "static", "AnyOf"]),
        st.sampled_from(["a", 1, None, {}, []]),
        max_size=3,
    ),
)


def mutated(place: tuple[Any, ...], junk: Any, kind: str) -> Any:
    tree = copy.deepcopy(TREE)
    if not place:
        return junk
    parent = tree
    for part in place[:-1]:
        parent = parent[part]
    if kind == "delete":
        del parent[place[-1]]
    elif kind == "rename" and isinstance(parent, dict):
        parent[f"{place[-1]}s"] = parent.pop(place[-1])
    else:
        parent[place[-1]] = junk
    return tree


@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), JUNK, st.sampled_from(["replace", "delete", "rename"])),
        min_size=1,
        max_size=1,
    )
)
@settings(max_examples=400)
def test_any_mutation_is_read_or_refused_with_places(changes: list[tuple[tuple[Any, ...], Any, str]]) -> None:
    for place, junk, kind in changes:
        loaded = load(yaml.safe_dump(mutated(place, junk, kind), allow_unicode=True, sort_keys=False))
        assert loaded.ok == (not any(problem.severity == "error" for problem in loaded.problems))
        assert all(problem.place is not None for problem in loaded.problems)
        assert list(loaded.problems) == sorted(loaded.problems, key=lambda p: (p.place.line, p.place.column))  # type: ignore[union-attr]
        render.text(loaded.problems, loaded.where)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.text(max_size=4))
@settings(max_examples=200)
def test_any_cut_in_the_text_is_read_or_refused(start: int, length: int, text: str) -> None:
    loaded = load(GOOD[:start] + text + GOOD[start + length :])
    render.text(loaded.problems, loaded.where)


def test_problems_of_many_broken_routes_are_limited_and_quick() -> None:
    routes = "".join(
        f"      r{n}: {{match: {{path: {{prefx: /{n}}}}}, bakends: [{{upstream: web}}]}}\n" for n in range(3000)
    )
    text = GOOD.replace("      list:\n", routes + "      list:\n")
    codes = [problem.code for problem in load(text).problems]
    assert codes.count("GW101") == 100
    assert codes.count("GW014") == 1
