"""What an explanation says, in words; that it is right is tested on a real Envoy (test_explained_on_envoy.py)."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.document import objects_of
from gateway.explain import Asked, Key, Password, Question, Token, Unexplained, as_json, explain, text
from gateway.match import Request
from gateway.model import Gateway, decode
from gateway.places import Where
from gateway.read import load
from gateway.source import read

NOW = 1_800_000_000.0
EXAMPLE = Path(__file__).parents[2] / "examples" / "payments" / "gateway.yaml"
DOCUMENT = """\
version: 1
listeners:
  http: {port: 8080}
  other: {port: 8081}
upstreams:
  blue: {type: static, endpoints: [{address: 10.0.0.1, port: 80}]}
  green:
    type: static
    endpoints: [{address: 10.0.0.1, port: 80}]
    load_balancing: {policy: maglev, hash_on: {ip: true}}
jwt_providers:
  acme: {issuer: "https://acme.example/", audiences: [lab], jwks: {hs256: {secret: acme}}, tier_claim: plan}
  login: {issuer: "https://login.example/", audiences: [web], jwks: {hs256: {secret: login}}}
oidc:
  web:
    jwt_provider: login
    authorization_endpoint: https://login.example/authorize
    token_endpoint: https://login.example/token
    client_id: web
    client_secret: {secret: web}
api_keys: {partner: {}}
basic_auth: {staff: {users_secret: staff}}
client_certificates: {machine: {subject_alt_names: [{dns: {suffix: .machine.example}}], tier: gold, scopes: [run]}}
tiers:
  free: {rate_limits: [{limit: 10/minute, per: [client, "claim:org"]}]}
  gold: {unlimited: true}
defaults:
  cors: {allow_origins: ["https://*.example"]}
floor:
  authorization: {default_action: allow, rules: [{name: banned, action: deny, cidrs: [192.0.2.0/24]}]}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [acme, partner, staff, machine]}
    routes:
      all: {match: {path: {prefix: /}}, backends: [{upstream: blue, weight: 3}, {upstream: green, weight: 1}]}
      gold:
        match: {path: {prefix: /gold}}
        backends: [{upstream: blue}]
        authorization:
          rules:
            - {name: planned, action: allow, claims: {org: {exact: x}}, shadow: true}
            - {name: runners, action: allow, scopes: [run], tiers: [gold]}
      changes:
        match: {path: {prefix: /changes}}
        respond: {status: 204}
        csrf: {additional_origins: [app.example]}
        authentication: none
        rate_limits: [{limit: 0/hour, name: never}]
      broken:
        match: {path: {prefix: /broken}}
        backends: [{upstream: blue}]
        authentication: none
        fault_injection: {abort: {status: 418, percentage: 100%}}
      login:
        match: {path: {prefix: /page}}
        backends: [{upstream: blue}]
        authentication: {any_of: [web]}
"""


class Explained(NamedTuple):
    """A gateway that was not checked, so that one document can have everything in it, with the places of its parts."""

    gateway: Gateway
    where: Where


@pytest.fixture(scope="module")
def loaded() -> Explained:
    source, _ = read("routes.yaml", DOCUMENT)
    return Explained(decode(source.values), Where.of(objects_of(source), [source]))


def lines(loaded: Explained, method: str, target: str, *headers: tuple[str, str], **facts: Any) -> list[str]:
    """What is said, without columns; places shortened to their lines."""
    facts = {"port": 8080, "now": NOW} | facts
    found = explain(loaded.gateway, Asked(Request(method, target, "api.example", headers), **facts))
    said = text(as_json(found, loaded.where)).splitlines()
    return [" ".join(line.split()) for line in said]


def claims(**more: Any) -> Token:
    return Token({"sub": "u1", **more}, assumed=True)


def test_a_request_that_reaches_an_upstream(loaded: Explained) -> None:
    said = lines(loaded, "GET", "/x", token=claims(org="red", plan="free"))
    assert said[0].startswith("listener http :8080 http routes.yaml:3:")
    assert any(line.startswith("authn jwt acme: ok sub=u1 plan=free routes.yaml:12:") for line in said)
    assert any(line.startswith("tier free >= free ok routes.yaml:") for line in said)
    limit = next(line for line in said if line.startswith("limit"))
    assert "10/minute per client+claim:org [client=acme|u1, org=red] one counter for all routes, for tier free" in limit
    assert any(line.startswith("upstream blue 75% (least_request) routes.yaml:") for line in said)
    assert any(line.startswith("upstream green 25% (maglev by ip) routes.yaml:") for line in said), said
    assert "-- or 429: over rate limit 10/minute per client+claim:org" in said
    assert said[-1] == "the upstream's answer via_upstream"


@pytest.mark.parametrize(("mode", "words"), [("local", "counted by each"), ("quota", "shared out among the")])
def test_who_counts_a_limit(mode: str, words: str) -> None:
    text = DOCUMENT.replace('per: [client, "claim:org"]}', f"per: client, mode: {mode}}}")
    source, _ = read("routes.yaml", text)
    changed = Explained(decode(source.values), Where.of(objects_of(source), [source]))
    said = lines(changed, "GET", "/x", token=claims(org="red", plan="free"))
    assert [line for line in said if line.startswith("limit 10/minute per client") and f"{words} Envoy" in line]


def test_a_rule_says_what_it_needs_and_what_there_is(loaded: Explained) -> None:
    said = lines(loaded, "GET", "/gold", token=claims(scope="read", org="x"))
    assert any("rule planned (shadow): would match" in line for line in said)
    assert any("rule runners: needs scope run, has read; needs tier gold, has free" in line for line in said)
    assert any(line.startswith("authz DENY no rule matches: deny by default routes.yaml:") for line in said)
    assert "authz shadow: with every rule in force the request would be let in" not in said  # it comes after the answer
    assert "-- not reached: rate limit 10/minute per client+claim:org · upstream blue" in said
    assert said[-1] == "403 rbac_access_denied"


def test_what_shadow_rules_would_change_is_in_the_json(loaded: Explained) -> None:
    asked = Asked(Request("GET", "/gold", "api.example"), port=8080, token=claims(org="x"), now=NOW)
    found = as_json(explain(loaded.gateway, asked))
    planned = next(step for step in found["steps"] if step["facts"].get("rule") == "planned")
    assert planned["facts"] == {"rule": "planned", "action": "allow", "matched": True, "shadow": True, "lacks": []}


def test_the_floor_decides_too(loaded: Explained) -> None:
    said = lines(loaded, "GET", "/x", token=claims(), address="192.0.2.9")
    assert any(line.startswith("authz DENY floor rule banned matches routes.yaml:") for line in said)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"iss": "https://evil.example/"}, "issuer https://evil.example/ is not https://acme.example/"),
        ({"aud": "other"}, "audience other is none of lab"),
        ({"exp": NOW - 90}, "it expired 90s ago"),
        ({"exp": NOW + 10**6}, "it is good for longer than max_lifetime (86400s) from now"),
        ({"nbf": NOW + 90}, "it is not valid yet, for another 90s"),
        ({"exp": "soon"}, "a registered claim has the wrong type (RFC 7519, 4.1)"),
    ],
)
def test_why_a_token_does_not_hold(loaded: Explained, wrong: dict[str, Any], why: str) -> None:
    said = lines(loaded, "GET", "/x", token=claims(**wrong))
    assert any(line.startswith(f"authn jwt acme: {why}") for line in said)
    assert said[-1] == "401 jwt_authn_access_denied"


def test_a_signature_that_nobody_checked_is_said(loaded: Explained) -> None:
    whole = {"iss": "https://acme.example/", "aud": "lab", "sub": "u1", "exp": NOW + 60}
    said = lines(loaded, "GET", "/x", token=Token(whole))
    assert "-- not proven: the token's signature was not checked: the keys of acme are not here" in said
    assert lines(loaded, "GET", "/x", token=Token(whole, signature="bad"))[-1] == "401 jwt_authn_access_denied"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"key": Key("good", "c_1", "gold")}, "authn key partner: ok client=c_1 tier=gold"),
        ({"key": Key("revoked")}, "authn key partner: the key is revoked"),
        ({"key": Key("good", networks=("10.0.0.0/8",))}, "authn key partner: not to be used from 127.0.0.1"),
        ({"password": Password("ada")}, "authn basic staff: ok user=ada"),
        ({"password": Password("ada", right=False)}, "authn basic staff: the name or password is not valid"),
        ({"certificate": (("dns", "a.machine.example"),)}, "authn certificate machine: ok a.machine.example"),
        ({"certificate": (("dns", "a.other.example"),)}, "authn certificate machine: none of its names is let in"),
        ({}, "authn no credentials; one of acme, partner, staff, machine is needed"),
    ],
)
def test_other_credentials(loaded: Explained, facts: dict[str, Any], says: str) -> None:
    said = lines(loaded, "GET", "/x", **facts)
    assert any(line.startswith(says) for line in said), said


def test_what_answers_before_the_upstream(loaded: Explained) -> None:
    page = ("origin", "https://app.example")
    asked = ("access-control-request-method", "GET")
    assert lines(loaded, "POST", "/changes")[-1] == "403 csrf_origin_mismatch"
    assert lines(loaded, "POST", "/changes", page)[-1] == "204 direct_response"  # no counter is asked for such a route
    assert lines(loaded, "GET", "/broken")[-1] == "418 fault_filter_abort"
    assert lines(loaded, "GET", "/%2f")[-1] == "400"
    assert lines(loaded, "OPTIONS", "/x", page, asked)[-1] == "200 cors_response"
    assert lines(loaded, "OPTIONS", "/x", ("origin", "https://evil.test"), asked)[-1] == "403 rbac_access_denied"


def test_a_browser_is_sent_to_its_issuer(loaded: Explained) -> None:
    assert lines(loaded, "GET", "/page")[-1] == "302 oauth"
    assert lines(loaded, "POST", "/page")[-1] == "401 oauth"
    in_ = Token({"sub": "u1"}, provider="login", assumed=True)
    assert lines(loaded, "GET", "/page", token=in_, session=True)[-1] == "the upstream's answer via_upstream"


def test_the_listener_must_be_known(loaded: Explained) -> None:
    with pytest.raises(Unexplained, match="which listener takes http on port 9999"):
        explain(loaded.gateway, Asked(Request("GET", "/", "x"), port=9999))
    with pytest.raises(Unexplained, match="no listener 'gone'"):
        explain(loaded.gateway, Asked(Request("GET", "/", "x", listener="gone")))


def test_the_certificate_is_found_by_server_name() -> None:
    found = load([("gateway.yaml", EXAMPLE.read_text())])
    assert found.gateway is not None
    for name, says in (
        ("api.example.com", "-> api-example-com"),
        ("a.partner.example.com", "-> /etc/gw/tls/partner.crt"),
    ):
        asked = Asked(Request("GET", "/", name), "https")
        assert says in explain(found.gateway, asked).steps[1].text
    nobody = explain(found.gateway, Asked(Request("GET", "/", "x.example"), "https"))
    assert nobody.answer.details == "filter_chain_not_found"


def test_a_question_holds_no_credential() -> None:
    question = Question.model_validate(
        {"url": "https://a.example:8443/x?y=1", "token": {"claims": {"sub": "u1"}}, "key": {"id": "4fXc9QpL2m"}}
    )
    asked = question.asked(NOW)
    assert (asked.scheme, asked.port, asked.request.host, asked.request.target) == (
        "https",
        8443,
        "a.example:8443",
        "/x?y=1",
    )
    assert "u1" not in repr(asked)


def test_control_characters_do_not_reach_a_terminal(loaded: Explained) -> None:
    said = lines(loaded, "GET", "/x", token=claims(plan="\x1b[31m"))
    assert not any("\x1b" in line for line in said)
