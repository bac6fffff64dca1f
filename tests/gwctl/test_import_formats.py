"""`gwctl import`: what comes out is a gateway, and nothing of what went in is gone without a word."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.read import load
from gwctl.exits import Exit
from gwctl.formatting import dump
from gwctl.importing.convert import COVERING, FORMATS, Converted, NotThatFormat, convert
from gwctl.importing.source import leaves, place
from gwctl.main import run

SAMPLES = Path(__file__).parent / "importing"

ONLY_NAMES = re.compile(
    r"(^|\.)(openapi|_format_version|apiVersion|@type|group|cluster_name|gatewayClassName|protocol)$"
    r"|(listeners|filters|transport_socket|http_filters)(\[\d+\])?\.name$"  # the kind of a filter, by its type
    r"|\.security(\[\d+\]\.\w+)?$"  # an empty list, whatever else stands there
    r"|http2_protocol_options$|append_action$|urlRewrite\.path\.type$|rateLimit\.type$|^services\[1\]\.port$"
    r"|^SecurityPolicy/.*metadata\.name$"
)
"""Places that are taken and make no difference: what they say goes without saying here."""


def sample(kind: str) -> str:
    return (SAMPLES / f"{kind.replace('-', '_')}.yaml").read_text()


def file(kind: str) -> str:
    return str(SAMPLES / f"{kind.replace('-', '_')}.yaml")


def problems(made: Converted) -> list[str]:
    loaded = load([("x", dump(made.document))])
    return [f"{one.code} {one.message}" for one in loaded.problems if one.severity == "error"]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_result_is_valid_for_a_real_envoy(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "routes.yaml"
    assert run(["import", kind, file(kind), "-o", str(out)]) == 0
    assert "wrote" in capsys.readouterr().err
    assert run(["validate", str(out)]) == 0
    assert "accepted it" in capsys.readouterr().out
    assert run(["fmt", "--check", str(out)]) == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_every_leaf_is_taken_or_told_of(kind: str) -> None:
    made = convert(kind, sample(kind))
    told = {loss.path for loss in made.losses if loss.kind in COVERING}
    for leaf in leaves(made.source):
        above = [leaf[:length] for length in range(len(leaf) + 1)]
        assert any(one in made.taken or one in told for one in above), place(leaf)
    assert made.forgotten == []


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_taken_makes_a_difference(kind: str) -> None:
    """A leaf that is neither told of nor changes the result was not taken at all, whatever the account says."""
    documents = list(yaml.safe_load_all(sample(kind)))
    before = convert(kind, yaml.dump_all(documents, Dumper=yaml.CSafeDumper))
    told = {loss.path for loss in before.losses}
    for number, leaf, path in _leaves(kind, documents):
        if any(path[:length] in told for length in range(len(path) + 1)) or ONLY_NAMES.search(place(path)):
            continue
        after = _changed(kind, documents, number, leaf)
        assert after is None or (after.document, after.losses) != (before.document, before.losses), place(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_stands_anywhere_nothing_breaks_and_nothing_is_forgotten(kind: str) -> None:
    documents = list(yaml.safe_load_all(sample(kind)))
    places = list(_leaves(kind, documents))
    for at, (number, leaf, _) in list(enumerate(places))[::2]:
        odd = [None, [], {}, -1, True, "http://[", "{", "*", ["x"], {"x": "y"}, "é" * 80][at // 2 % 11]
        made = _with(kind, documents, number, leaf[: max(1, len(leaf) - at // 2 % 4)], odd)
        assert made is None or made.forgotten == []


def test_openapi() -> None:
    made = convert("openapi", sample("openapi"))
    (module,) = made.document["modules"].values()
    routes = module["routes"]
    assert routes["list-pets"]["match"] == {"path": {"exact": "/api/v3/pets"}, "methods": ["GET"]}
    assert routes["list-pets"]["authentication"] == "none"
    assert routes["show-pet"]["match"]["path"] == {"template": "/api/v3/pets/{petId}"}
    assert routes["show-pet"]["authorization"]["rules"][0]["scopes"] == ["read:pets"]
    assert routes["create-pet"]["authentication"] == {"any_of": ["oauth", "key"]}
    assert routes["photo"]["match"]["path"] == {"regex": "/api/v3/pets/[^/]+/photo\\.[^/]+"}
    closed = next(route for route in routes.values() if "respond" in route)
    assert closed["match"]["methods"] == ["DELETE"], "a scheme that cannot be said closes its operation"
    assert made.document["upstreams"]["eu-petstore-example"]["tls"]["sni"] == "eu.petstore.example"
    assert any(loss.place == "x-generator" for loss in made.losses)


def test_openapi_without_a_server_says_what_it_needs() -> None:
    made = convert("openapi", "openapi: 3.0.3\ninfo: {title: T}\nservers: [{url: /v1}]\npaths: {/a: {get: {}}}\n")
    assert [loss.place for loss in made.losses if loss.kind == "value"] == ["servers[0].url"]
    assert problems(made) == []


def test_kong() -> None:
    made = convert("kong", sample("kong"))
    modules = made.document["modules"]
    orders = modules["orders"]["routes"]["orders"]
    assert orders["rewrite"] == {"path": {"prefix": "/api"}, "host": "orders.internal"}
    assert orders["authentication"] == {"any_of": ["key-auth"]}
    assert {"limit": "60/minute", "per": "client"} in orders["rate_limits"]
    assert orders["cors"]["max_age"] == "600s"
    assert modules["orders-2"]["listener"] == "https"
    assert modules["orders-2"]["routes"]["admin"]["respond"]["status"] == 403, "acl cannot be said"
    assert [one["weight"] for one in modules["catalog"]["routes"]["catalog"]["backends"]] == [150, 20]
    assert "sni" not in json.dumps(modules)
    assert "not-to-be-shown" not in dump(made.document) + "".join(f"{loss.place}{loss.why}" for loss in made.losses)


def test_envoy() -> None:
    made = convert("envoy", sample("envoy"))
    routes = made.document["modules"]["shop"]["routes"]
    assert list(routes) == ["route-1", "orders", "route-3", "route-4", "route-6", "route-7"]
    assert [route["priority"] for route in routes.values()] == [6, 5, 4, 3, 2, 1], (
        "Envoy tries them as they are written"
    )
    assert routes["orders"]["retry"]["conditions"][0] == "5xx"
    assert routes["orders"]["timeouts"] == {"request": "5s", "idle": "500ms"}
    assert routes["route-6"]["respond"]["status"] == 403, "its cluster is not here"
    assert made.document["modules"]["all"]["routes"]["route-1"]["respond"]["status"] == 403, (
        "behind a filter that guards"
    )
    assert made.document["modules"]["all"]["hosts"] == ["secure.example.com"]


def test_gateway_api() -> None:
    made = convert("gateway-api", sample("gateway-api"))
    modules = made.document["modules"]
    assert modules["orders"]["routes"]["list"]["mirror"] == {"upstream": "shadow", "percent": "10%"}
    assert modules["orders"]["routes"]["list"]["authentication"] == {"any_of": ["acme"]}
    assert modules["orders"]["routes"]["rule-2"]["respond"]["status"] == 403, "an ExtensionRef may be anything"
    assert modules["admin"]["routes"]["rule-1"]["respond"]["status"] == 403, "basicAuth cannot be said"
    assert modules["redirect"]["routes"]["rule-1"]["redirect"] == {"scheme": "https", "status": 301}
    assert modules["ledger"]["routes"]["rule-1"]["match"] == {"grpc": {"service": "ledger.v1.Ledger", "method": "Book"}}


def test_ratelimit() -> None:
    made = convert("ratelimit", sample("ratelimit"))
    domain = made.document["rate_limit_domains"]["edge-proxy"]
    assert domain["domain"] == "Edge.Proxy"
    users, default, path, account, tokens, address = domain["descriptors"]
    assert users == {"key": "database", "value": "users", "limit": "500/second", "algorithm": "fixed"}
    assert (default["shadow"], default["name"]) == (True, "default-rule")
    assert (path["limit"], path["share_threshold"]) == ("1000/minute", True), "60 times a second is a minute"
    assert account["descriptors"][0]["replaces"] == ["default-rule"]
    assert account["descriptors"][1]["limit"] == "14/minute", "the same rate, rounded down"
    assert address == {"key": "address", "value": "10.0.0.1"}, "a value that is not limited, where its key is"
    assert "limit" in tokens
    assert [loss.place for loss in made.losses if loss.kind == "lost"] == ["descriptors[4].quota_mode"]


def test_a_network_filter_may_guard() -> None:
    guard = "- filters:\n            - {name: envoy.filters.network.rbac}\n"
    text = sample("envoy").replace("- filters:\n", guard, 1)
    routes = convert("envoy", text).document["modules"]["shop"]["routes"]
    assert {route["respond"]["status"] for route in routes.values()} == {403}


@pytest.mark.parametrize(
    ("kind", "spec", "closed"),
    [
        ("EnvoyExtensionPolicy", "{wasm: [{name: x}]}", True),
        ("ClientTrafficPolicy", "{tls: {clientValidation: {optional: false}}}", True),
        ("ClientTrafficPolicy", "{http3: {}}", False),
        ("BackendTLSPolicy", "{validation: {hostname: x}}", False),
    ],
)
def test_a_policy_that_may_guard_closes_what_it_is_for(kind: str, spec: str, closed: bool) -> None:
    policy = yaml.safe_load(f"{{kind: {kind}, metadata: {{name: p, namespace: infra}}, spec: {spec}}}")
    policy["spec"]["targetRefs"] = [{"kind": "Gateway", "name": "edge"}]
    made = convert("gateway-api", sample("gateway-api") + "---\n" + yaml.safe_dump(policy))
    route = made.document["modules"]["ledger"]["routes"]["rule-1"]
    assert ("respond" in route) is closed
    assert made.forgotten == []
    assert any(loss.place.startswith(f"{kind}/infra/p") for loss in made.losses)


def test_strict_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.yaml"
    assert run(["import", "kong", file("kong"), "--strict", "-o", str(out)]) == Exit.INVALID
    assert not out.exists()
    assert capsys.readouterr().out == ""


def test_losses_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "kong", file("kong"), "--losses", "json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.err)
    assert found["schema"] == "gwctl.import/v1"
    assert {"kind", "path", "why"} == set(found["losses"][0])
    assert load([("x", said.out)]).gateway is not None


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "just text", "a: &a {b: 1}\nc: *a\n", "openapi: 3.1.0"])
def test_what_is_not_kongs(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert run(["import", "kong", str(tmp_path / "x.yaml")]) == Exit.INVALID
    said = capsys.readouterr()
    assert said.out == ""
    assert "cannot be imported" in said.err


def _leaves(kind: str, documents: list[Any]) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """The number of the document, a leaf in it, and the leaf's path in the source."""
    for number, document in enumerate(documents):
        head = ()
        if kind == "gateway-api":
            about = document["metadata"]
            head = (f"{document['kind']}/{about.get('namespace', 'default')}/{about['name']}",)
        for leaf in leaves(document):
            yield number, leaf, (*head, *leaf)


def _changed(kind: str, documents: list[Any], number: int, leaf: tuple[Any, ...]) -> Converted | None:
    value = documents[number]
    for part in leaf:
        value = value[part]
    other = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"zz{value}"
    return _with(kind, documents, number, leaf, other)


def _with(kind: str, documents: list[Any], number: int, path: tuple[Any, ...], value: Any) -> Converted | None:
    changed = copy.deepcopy(documents)
    inside = changed[number]
    for part in path[:-1]:
        inside = inside[part]
    inside[path[-1]] = value
    try:
        return convert(kind, yaml.dump_all(changed, Dumper=yaml.CSafeDumper))
    except NotThatFormat:
        return None
