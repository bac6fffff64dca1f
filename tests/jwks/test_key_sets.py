"""Remote key sets: what is fetched, what is refused, what is kept."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.jwks import is_loopback, keyset_name, uri_fault
from gateway.model import Gateway, decode
from tests.support.issuer import Issuer
from xds_server import jwks
from xds_server.jwks import KeySets, Unusable, Wanted, allowed, fetched, usable, wanted_of


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


def gateway(*uris: str, **jwks: Any) -> Gateway:
    providers = {
        f"p{n}": {"issuer": f"i{n}", "audiences": ["a"], "jwks": {"uri": uri, "cache": "5s", **jwks}}
        for n, uri in enumerate(uris)
    }
    return decode({"version": 1, "jwt_providers": providers})


def kids(sets: KeySets, uri: str) -> list[str]:
    keys = sets.read()[keyset_name(uri)].keys
    return [key["kid"] for key in json.loads(keys)["keys"]] if keys else []


async def later(sets: KeySets) -> None:
    """One round of `run`, as if every wait were over."""
    for held in sets._held.values():
        held.due = 0.0
    await sets._refresh(sets._wanted)


async def test_a_new_provider_has_its_keys_at_once_and_newer_ones_later(tmp_path: Path, issuer: Issuer) -> None:
    sets, wanted = KeySets(tmp_path / "jwks"), gateway(issuer.uri)
    await sets.prepare(wanted)
    sets.want(wanted)
    before = sets.stamp()
    assert kids(sets, issuer.uri) == ["first"]
    await sets.prepare(wanted)
    assert issuer.asked == 1
    issuer.rotate("first", "second")
    await later(sets)
    assert kids(sets, issuer.uri) == ["first", "second"]
    assert sets.stamp() != before
    sets.want(gateway())
    assert sets.read() == {}


async def test_the_last_good_set_is_kept_also_over_a_restart(tmp_path: Path, issuer: Issuer) -> None:
    sets, wanted = KeySets(tmp_path / "jwks"), gateway(issuer.uri)
    await sets.prepare(wanted)
    sets.want(wanted)
    stamp = sets.stamp()
    for status, body in ((500, issuer.body), (200, b"{}"), (200, b'{"keys": []}')):
        issuer.status, issuer.body = status, body
        await later(sets)
        assert sets.stamp() == stamp
    again = KeySets(tmp_path / "jwks")
    await again.prepare(wanted)
    assert kids(again, issuer.uri) == ["first"]
    (file,) = (tmp_path / "jwks").iterdir()
    file.write_text("{")
    third = KeySets(tmp_path / "jwks")
    await third.prepare(wanted)
    assert third.read()[keyset_name(issuer.uri)].keys == ""
    assert "no public" in third.read()[keyset_name(issuer.uri)].fault


async def test_a_set_that_cannot_be_stored_is_served_all_the_same(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "jwks").write_text("a file where a directory should be")
    sets = KeySets(tmp_path / "jwks")
    await sets.prepare(gateway(issuer.uri))
    assert kids(sets, issuer.uri) == ["first"]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_run_fetches_what_is_due_and_waits_after_a_failure(tmp_path: Path, issuer: Issuer) -> None:
    sets = KeySets(tmp_path / "jwks")
    issuer.status = 503
    sets.want(gateway(issuer.uri))
    running = asyncio.create_task(sets.run())
    await until(lambda: issuer.asked)
    issuer.status = 200
    await until(lambda: kids(sets, issuer.uri))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert issuer.asked == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 302, "headers": {"location": "http://169.254.169.254/"}}, "the status 302"),
        ({"status": 404}, "the status 404"),
        ({"body": b"<html>"}, "not a key set"),
        ({"body": b"[" * 100_000}, "not a key set"),
        ({"body": b'{"keys": {}}'}, "not a key set"),
        ({"body": b" " * (jwks.LARGEST + 1)}, "larger than"),
        ({"body": json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}).encode()}, "a secret key"),
        ({"body": json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "d": "AAAA"}]}).encode()}, "a secret key"),
        ({"body": json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "!", "y": "!"}]}).encode()}, "no public"),
        ({"body": json.dumps({"keys": [{}] * 65}).encode()}, "not a key set"),
    ],
)
async def test_what_is_no_key_set(issuer: Issuer, answer: dict[str, Any], reason: str) -> None:
    vars(issuer).update(answer)
    with pytest.raises(Unusable, match=reason):
        await fetched(Wanted(issuer.uri, 600, 5))


def test_keys_for_other_things_are_left_out(issuer: Issuer) -> None:
    (good,) = json.loads(issuer.body)["keys"]
    noise = [7, {**good, "use": "enc"}, {**good, "alg": "none"}, {**good, "kid": "more", "x5c": ["AAAA"], "z": 1}]
    kept = json.loads(usable(json.dumps({"keys": [good, *noise], "more": 1}).encode()))
    assert [key["kid"] for key in kept["keys"]] == ["first", "more"]
    assert kept["keys"][1].keys() == good.keys()


async def test_who_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Unusable, match=r"within 0\.2 s"):
            await fetched(Wanted(uri, 600, 0.2))
    with pytest.raises(Unusable, match="cannot be reached"):
        await fetched(Wanted(uri, 600, 5))


@pytest.mark.parametrize(
    ("address", "name", "literal"),
    [
        ("93.184.216.34", True, True),
        ("10.1.2.3", True, True),
        ("2606:2800:220:1::1", True, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_addresses(address: str, name: bool, literal: bool) -> None:
    """By a name, and by a literal loopback address or `localhost`."""
    assert (allowed(address, loopback=False), allowed(address, loopback=True)) == (name, literal)


async def test_a_name_that_stands_for_such_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolved(*arguments: Any, **more: Any) -> Any:
        return [(0, 0, 0, "", (address, 443)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    with pytest.raises(Unusable, match="not fetched from"):
        await fetched(Wanted("https://id.example.com/", 600, 5))


@pytest.mark.parametrize(
    "uri",
    ["", "id.example.com", "http://id.example.com/", "ftp://127.0.0.1/", "https://u:p@a.b/", "https://a.b/#f",
     "https://[::1", "https://a.b:x/", "https://a b/", "https:///x", "https://ä.b/"],
)  # fmt: skip
def test_uris_that_are_not_fetched(uri: str) -> None:
    assert uri_fault(uri)


def test_uris_that_are() -> None:
    assert not any(
        map(uri_fault, ("https://a.b/c?d=e", "https://10.0.0.1:8443/", "http://[::1]:1/", "http://localhost/"))
    )
    assert not is_loopback("localhost.example.com")


def test_providers_may_share_a_uri() -> None:
    shared = gateway("https://a.b/", "https://a.b/", "https://c.d/")
    assert wanted_of(shared) == (Wanted("https://a.b/", 5, 2), Wanted("https://c.d/", 5, 2))
