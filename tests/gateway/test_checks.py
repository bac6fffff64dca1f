"""Checks one by one, where a golden case would not show the edge."""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.check import check
from gateway.checks.addresses import cidr_fault, is_dns_name, is_ip, is_origin
from gateway.checks.patterns import regex_fault
from gateway.checks.routes import inside, literal, match_key
from gateway.checks.templates import fault, shape
from gateway.codes import CODES
from gateway.model import Gateway, Match, decode
from gateway.words import PLANNED, closest, fields_at, models_at, planned

ENVOY: Final = (
    Path(sys.prefix) / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "envoy" / "_bin" / "envoy"
)


def many(routes: int, path: str = "/m{m}/r{r}") -> Gateway:
    modules = {
        f"m{m}": {
            "tier": "free",
            "listener": "http",
            "authentication": {"any_of": ["keys"]},
            "routes": {
                f"r{r}": {"match": {"path": {"exact": path.format(m=m, r=r)}}, "backends": [{"upstream": f"u{r % 50}"}]}
                for r in range(100)
            },
        }
        for m in range(routes // 100)
    }
    upstream = {"type": "dns", "host": "a.internal", "port": 80}
    return decode(
        {
            "version": 1,
            "listeners": {"http": {"port": 80}},
            "upstreams": {f"u{n}": upstream for n in range(50)},
            "api_keys": {"keys": {}},
            "tiers": {"free": {"unlimited": True}},
            "modules": modules,
        }
    )


def test_checking_takes_time_in_proportion_to_routes() -> None:
    small, large = many(1_000), many(10_000)
    assert check(small) == check(large) == []

    def seconds(made: Gateway) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            check(made)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(large) < 40 * seconds(small)  # ten times as many; a quadratic one would take a hundred


def test_ten_thousand_equal_routes_are_limited_problems() -> None:
    problems = check(many(10_000, "/same"))
    assert [problem.code for problem in problems] == ["GW211"] * 100 + ["GW014"]


# ----------------------------------------------------------------------------------------------------------- templates
GOOD = (
    "/", "/a/", "/a/{id}", "/a/{id}/b", "/{a}/{b}/{c}/{d}/{e}", "/a/*", "/a/**", "/a/*/b", "/**/b", "/a/**.m3u8",
    "/a/*.m3u8", "/a/{x=*}", "/a/{x=**}", "/a/{x=b/*}", "/a/{x=b/**}", "/a/{x=*/y}", "/a/{x}.json", "/a/{x}/",
    "/{aaaaaaaaaaaaaaaa}", "/{a_1}", "/%20", "/a;b=c", "/~a:b@c,d!$&'()+", "/v{major}.json", "/a*b", "/{x=a}",
)  # fmt: skip
BAD = (
    "/{a}/{b}/{c}/{d}/{e}/{f}", "/{aaaaaaaaaaaaaaaaa}", "/{1a}", "/{_a}", "/{a-b}", "/a/{x}{y}", "/a/{x}-{y}",
    "/{a}/{a}", "/a//b", "/{x=**}/{y}", "/{x", "/x}", "/{}", "/{x=}", "/é", "/{x={y}}", "/a/**/*", "/{x=**y}", "/[a]",
    "/a|b", '/a"b', "/{x=/a/*}", "/**/**", "/{x=**/*}", "/{x=a//b}",
)  # fmt: skip


@pytest.mark.parametrize("template", GOOD)
def test_good_templates(template: str) -> None:
    assert fault(template) is None


@pytest.mark.parametrize("template", BAD)
def test_bad_templates(template: str) -> None:
    assert fault(template)


def envoy_takes(*paths: dict[str, Any]) -> bool:
    routes = [{"match": path, "direct_response": {"status": 200}} for path in paths]
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "l",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    config = json.dumps({"static_resources": {"listeners": [listener]}})
    command = [str(ENVOY), "--mode", "validate", "-l", "off", "--config-yaml", config]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def template_match(template: str) -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    return {"path_match_policy": {"name": "t", "typed_config": {"@type": kind, "path_template": template}}}


def test_envoy_takes_the_templates_and_regexes_that_we_take() -> None:
    regexes = [{"safe_regex": {"regex": regex}} for regex in ("^/a/[0-9]{4}$", "/(é|b)", f"/[a-z]{{{RE2_MOST}}}")]
    assert envoy_takes(*map(template_match, GOOD), *regexes)


@pytest.mark.parametrize("template", BAD[::5])
def test_envoy_refuses_templates_that_we_refuse(template: str) -> None:
    assert not envoy_takes(template_match(template))


def test_envoy_refuses_the_first_regex_that_is_too_large() -> None:
    assert not envoy_takes({"safe_regex": {"regex": f"/[a-z]{{{RE2_MOST + 1}}}"}})


def test_a_template_without_names_is_its_shape() -> None:
    assert shape("/a/{id}/b/{rest=**}") == shape("/a/{x}/b/{y=**}") == "/a/*/b/**"
    assert shape("/a/{x=b/*}.json") == "/a/b/*.json"


# ------------------------------------------------------------------------------------------------------------- regexes
RE2_MOST = next(n for n in itertools.count(1) if regex_fault(f"/[a-z]{{{n + 1}}}"))


def test_regexes_are_those_of_re2_in_envoys_size() -> None:
    assert regex_fault("^/orders/[0-9]+$") is None
    assert regex_fault("/caf\u00e9") is None
    assert "not valid" in str(regex_fault(r"(a)\1"))
    assert "not valid" in str(regex_fault("a{2000}"))
    assert "too large" in str(regex_fault("((a{100}){10})"))


def test_a_regex_that_python_would_choke_on_is_no_trouble() -> None:
    assert regex_fault("(a+)+$" * 20) is None or "too large" in str(regex_fault("(a+)+$" * 20))


@pytest.mark.parametrize(
    ("kind", "text", "prefix"),
    [
        ("exact", "/a/b", "/a/b"),
        ("template", "/a/{b}/c", "/a/"),
        ("template", "/a/*", "/a/"),
        ("regex", "^/a/[0-9]", "/a/"),
        ("regex", "/a/b?", "/a/"),
        ("regex", "/a/b*", "/a/"),
        ("regex", "/a/b{0}", "/a/"),
        ("regex", "/a/b+", "/a/b"),
        ("regex", "/a|/b", ""),
        ("regex", "/a/(b|c)", "/a/"),
        ("regex", "/a/(b|c)|/d", ""),
        ("regex", r"/a/[|)]|/d", ""),
        ("regex", r"/a/[|)]", "/a/"),
        ("regex", r"/a/\|", "/a/"),
        ("regex", ".*", ""),
        ("regex", "(?i)/a", ""),
        ("regex", r"/a/\Q(\E|/b", ""),
        ("regex", "/a/[[:alpha:](]|/b", ""),
        ("regex", "/a/[](]|/b", ""),
    ],
)
def test_what_every_path_of_a_match_begins_with(kind: str, text: str, prefix: str) -> None:
    assert literal(kind, text) == prefix


@pytest.mark.parametrize(
    ("kind", "text", "is_inside"),
    [
        ("exact", "/a", True),
        ("exact", "/a/", True),
        ("exact", "/ab", False),
        ("prefix", "/a", True),
        ("prefix", "/", False),
        ("template", "/a", True),
        ("template", "/a/{b}", True),
        ("template", "/a{b}", False),
        ("template", "/{a}/b", False),
        ("regex", "^/a/[0-9]+$", True),
        ("regex", "/a(/.*)?", False),
        ("regex", "/a.*", False),
        ("regex", "/a/b|/c", False),
    ],
)
def test_a_fence_is_whole_segments(kind: str, text: str, *, is_inside: bool) -> None:
    assert inside("/a", kind, text) is is_inside
    assert inside("/a/", kind, text) is is_inside
    assert inside("/", kind, text) is (kind != "regex" or "|" not in text)


def test_equal_matches_whatever_their_order_and_names() -> None:
    def key(**match: Any) -> object:
        return match_key(Match.model_validate_json(json.dumps(match)))

    one, two = {"exact": "1"}, {"prefix": "2"}
    assert key(path={"template": "/{a}"}, headers={"x": one, "Y": two}) == key(
        path={"template": "/{b}"}, headers={"y": two, "X": one}
    )
    assert key(path={"prefix": "/a/"}) == key(path={"prefix": "/a"})
    assert key(path={"exact": "/a"}) != key(path={"prefix": "/a"})
    assert key(path={"exact": "/a"}, query={"x": one}) != key(path={"exact": "/a"}, headers={"x": one})
    assert key(path={"exact": "/a"}, query={"x": one}) != key(
        path={"exact": "/a"}, query={"x": {**one, "optional": True}}
    )


# ----------------------------------------------------------------------------------------------------------- addresses
def test_addresses() -> None:
    assert [text for text in ("127.0.0.1", "::", "2001:db8::1") if not is_ip(text)] == []
    assert [text for text in ("", "localhost", "127.1", "fe80::1%eth0", "1.2.3.4/8", "[::1]") if is_ip(text)] == []
    assert [text for text in ("a", "a_b.internal", "a.example.com.", "10.0.0.1") if not is_dns_name(text)] == []
    assert [text for text in ("", "a..b", "http://a", "a:80", "a/b", "-a.b", "a" * 254) if is_dns_name(text)] == []
    assert [text for text in ("10.0.0.0/8", "::/0", "10.0.0.1", "2001:db8::/32") if cidr_fault(text)] == []
    assert [text for text in ("", "10.0.0.1/8", "10.0.0.0/33", "a/8", "10.0.0.0/-1") if not cidr_fault(text)] == []
    assert [
        text for text in ("*", "https://a.b", "http://localhost:3000", "https://*.a.b") if not is_origin(text)
    ] == []
    bad = ("", "a.b", "https://a.b/", "https://A.b", "https://*", "https://a.*", "null", "ftp://a", "https://a.b\n")
    assert [text for text in bad if is_origin(text)] == []


# ------------------------------------------------------------------------------------------------------------ key sets
def key_set_problems(*keys: object) -> list[str]:
    provider = {"issuer": "i", "audiences": ["a"], "jwks": {"inline": json.dumps({"keys": keys})}}
    found = check(decode({"version": 1, "jwt_providers": {"acme": provider}}))
    return [problem.code for problem in found]


def public_keys() -> list[dict[str, Any]]:
    def as_jwk(algorithm: str, key: Any) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key))
        return made

    return [
        as_jwk("RS256", rsa.generate_private_key(65537, 2048).public_key()),
        as_jwk("ES256", ec.generate_private_key(ec.SECP256R1()).public_key()),
        as_jwk("EdDSA", ed25519.Ed25519PrivateKey.generate().public_key()),
    ]


def test_public_keys_of_the_three_kinds_are_taken() -> None:
    assert key_set_problems(*public_keys()) == []


def test_private_and_symmetric_keys_are_refused() -> None:
    private = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(ec.generate_private_key(ec.SECP256R1())))
    assert key_set_problems(private) == ["GW312"]
    assert key_set_problems({"kty": "oct", "k": "AA"}) == ["GW312"]


def test_short_and_broken_keys_are_refused() -> None:
    short = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    broken = {**public_keys()[1], "x": "AA"}
    assert key_set_problems(short, broken, [], {"kty": ["RSA"]}, {"kty": "RSA", "n": 5, "e": None}) == [
        "GW313",
        "GW313",
        "GW311",
        "GW313",
        "GW313",
    ]


# --------------------------------------------------------------------------------------------------------------- words
def test_fields_of_places() -> None:
    assert "routes" in fields_at(("modules", "a"))
    assert fields_at(("modules", "a", "routes", "b", "match", "path")) == ("exact", "prefix", "template", "regex")
    assert "from" in fields_at(("jwt_providers", "a"))
    assert {"host", "endpoints"} <= set(fields_at(("upstreams", "a")))
    assert fields_at(("modules",)) == fields_at(("modules", "a", "tier", "x")) == ()


def test_planned_words_belong_to_models_and_are_no_fields_yet() -> None:
    def everything(path: tuple[Any, ...], depth: int) -> set[str]:
        inner = {name for model in models_at(path) for name in [model.__name__]}
        steps = fields_at(path) or ("x", 0)
        return inner.union(*(everything((*path, step), depth - 1) for step in steps)) if depth else inner

    names = everything((), 8)
    assert set(PLANNED) - names == set()
    assert planned(("jwt_providers", "a", "jwks", "hs256"), "env")
    assert not any(word in fields_at(("jwt_providers", "a", "jwks", "hs256")) for word in PLANNED["SecretRef"])


def test_the_word_that_was_meant() -> None:
    fields = ("allow_origins", "allow_methods", "max_age")
    assert (
        closest("allowOrigins", fields)
        == closest("allow-origins", fields)
        == closest("allow_origin", fields)
        == fields[0]
    )
    assert closest("maxAge", fields) == "max_age"
    assert closest("colour", fields) is None
    assert closest("max_age", fields) is None


def test_codes_are_in_order_and_of_known_ranges() -> None:
    assert list(CODES) == sorted(CODES)
    assert {code[:3] for code in CODES} == {"GW0", "GW1", "GW2", "GW3", "GW4"}
