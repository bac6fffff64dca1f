"""Forged, stolen, mangled and misplaced credentials on a real Envoy with the real decision service: none is let in."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.model import decode
from policy.authz import keys
from policy.authz.identity import KeyRecord, Previous
from tests.support.attacks import HEADER, Attack, Issuer, key_attacks, signature_of, signed_by, token_attacks
from tests.support.upstream import Upstream

from .real_decisions import PEPPER, RealDecisions
from .running import RunningGateway

DOCUMENT = (Path(__file__).parent / "attacks.yaml").read_text()
DEAD: dict[str, dict[str, Any]] = {
    "revoked": {"revoked": True},
    "disabled": {"disabled": True},
    "expired": {"expires_at": 1.0},
    "for another network": {"networks": (ip_network("192.0.2.0/24"), ip_network("::1/128"))},
    "under another pepper": {"digest": b"d" * 32},
}


@dataclass
class Site:
    gateway: RunningGateway
    echo: Upstream
    issuer: Issuer
    key: str
    dead: dict[str, str]

    def send(self, attack: Attack, path: str) -> tuple[int, bytes]:
        """Byte for byte, as no client library would."""
        connection = HTTPConnection("127.0.0.1", self.gateway.ports["http"], timeout=20)
        try:
            connection.putrequest("GET", path + attack.query, skip_accept_encoding=True)
            for name, value in attack.headers:
                connection.putheader(name, value)
            connection.endheaders()
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, HTTPException):  # hung up on: let in is who gets an answer
            return 0, b""
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory, issuer = tmp_path_factory.mktemp("attacks"), Issuer()
    with Upstream() as echo, RealDecisions(directory) as service:
        document = DOCUMENT.replace("KEYS", issuer.key_set)
        service.view(decode(yaml.safe_load(document.replace("ECHO", str(echo.port)))))
        good = service.keys.make("c_1")
        dead = {why: dead_key(service, changes) for why, changes in DEAD.items()} | {"rotated": rotated(service)}
        decisions = (("127.0.0.1", service.port),)
        with RunningGateway(directory, document, {"ECHO": echo.port}, decisions=decisions) as gateway:
            made = Site(gateway, echo, issuer, good, dead)
            deadline = time.monotonic() + 20
            while made.send(with_key(good), "/key")[0] == 503 and time.monotonic() < deadline:
                time.sleep(0.05)
            yield made


def dead_key(service: RealDecisions, changes: dict[str, Any]) -> str:
    text = service.keys.make("c_2")
    parsed = keys.parse(text)
    assert parsed is not None
    service.keys.records[parsed.id] = replace(service.keys.records[parsed.id], **changes)
    return text


def rotated(service: RealDecisions) -> str:
    """A key's secret before a rotation whose overlap is over."""
    old = keys.mint(PEPPER)
    new = keys.remint(PEPPER, old.prefix)
    before = Previous(old.digest, 1, time.time() - 1)
    service.keys.records[old.id] = KeyRecord(old.id, "c_3", "free", (), new.digest, 1, previous=before)
    return old.text


def with_key(text: str) -> Attack:
    return Attack("a good key", ((HEADER, text),))


def with_token(text: str) -> Attack:
    return Attack("a good token", (("authorization", f"Bearer {text}"),))


def let_in(site: Site) -> None:
    """Or nothing would be shown by all others being refused."""
    for path in ("/native", "/both"):
        for algorithm in site.issuer.keys:
            assert site.send(with_token(site.issuer.token(algorithm)), path)[0] == 200
    for path in ("/key", "/both"):
        assert site.send(with_key(site.key), path)[0] == 200


def test_no_attack_gets_in(site: Site) -> None:
    let_in(site)
    before = len(site.echo.seen)
    tokens, forged = list(token_attacks(site.issuer)), list(key_attacks(site.key, site.dead))
    assert len(tokens) + len(forged) >= 150
    assert len({attack.name for attack in (*tokens, *forged)}) == len(tokens) + len(forged)
    tried = [(attack, path) for attack in tokens for path in ("/native", "/both")]
    tried += [(attack, path) for attack in forged for path in ("/key", "/both")]
    answers = {(attack.name, path): site.send(attack, path) for attack, path in tried}
    malformed = {attack.name for attack in (*tokens, *forged) if attack.malformed}
    wrong = {
        key: status
        for key, (status, _) in answers.items()
        if status not in ((0, 400, 401, 431) if key[0] in malformed else (401, 403))
    }
    assert not wrong, "\n".join(f"{s} {n} {p}" for (n, p), s in wrong.items())
    assert len(site.echo.seen) == before, "an upstream saw one of them"
    let_in(site)


def test_every_refusal_is_a_401_with_a_code_that_tells_nothing_of_keys(site: Site) -> None:
    """Whoever has the whole key of an expired one hears so; nobody hears whether a key exists."""
    for why, text in site.dead.items():
        status, body = site.send(with_key(text), "/key")
        code = "expired_key" if why == "expired" else "invalid_key"
        assert (status, json.loads(body)["code"]) == (401, code), why
    unknown = site.send(with_key(keys.mint(PEPPER).text), "/key")[1]
    revoked = site.send(with_key(site.dead["revoked"]), "/key")[1]
    assert {**json.loads(unknown), "request_id": ""} == {**json.loads(revoked), "request_id": ""}
    for path in ("/native", "/both"):
        for claims in ({"aud": "billing"}, {"iss": "https://evil.example/"}, {"exp": 1}, {"sub": ""}):
            status, body = site.send(with_token(site.issuer.token(**claims)), path)
            native = claims == {"sub": ""} and path == "/native"  # rbac's word: Envoy takes it for a good token
            expected = (403, "forbidden") if native else (401, "invalid_token")
            assert (status, json.loads(body)["code"]) == expected, (path, claims)


def test_what_envoy_is_lenient_about(site: Site) -> None:
    """Each needs the issuer's own signature, so nobody gains by it. To be seen if a later Envoy is stricter."""
    tail = site.issuer.token("ES256")
    for token in (
        site.issuer.token(headers={"crit": ["exp"]}),  # RFC 7515, 4.1.11: to be refused
        site.issuer.token(exp=2**63),  # beyond `max_lifetime`, which an end in the year 5138 is not let pass by
        signed_by(tail, signature_of(tail) + b"\x00"),
    ):
        assert site.send(with_token(token), "/both")[0] == 200
