"""Keys and tokens: shown once, capped, refused with a reason, and never found anywhere afterwards."""

import asyncio
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from db import engine as engines
from db import keys as stored
from gwctl.up.postgres import binaries
from policy.authz import keys as texts
from tests.admin.conftest import Api
from tests.support.postgres import Databases


def soon(text: str) -> timedelta:
    return datetime.fromisoformat(text) - datetime.now(UTC)


async def create(api: Api, **body: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/keys", json={"name": "ci", "tier": "zinc", **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


async def test_life_of_a_key(api: Api, document: str) -> None:
    await api.applied(document)
    made = await create(api, scopes=["orders:read"])
    assert made["tier"] == "zinc"
    assert timedelta(days=89) < soon(made["expires_at"]) <= timedelta(days=90)
    parsed = texts.parse(made["key"])
    assert parsed is not None
    assert parsed.id == made["id"]
    row = await engines.run(api.engine, lambda c: stored.get(c, made["id"]))
    assert row is not None
    assert row.digest == texts.digest(api.pepper, made["key"]), "what the decision service will compare"
    listed = (await api.client.get("/v1/keys")).json()
    assert [key["id"] for key in listed["keys"]] == [made["id"]]
    assert made["key"] not in str(listed)
    one = (await api.client.get(f"/v1/keys/{made['id']}")).json()
    assert one == {name: value for name, value in made.items() if name != "key"}
    revoked = (await api.client.delete(f"/v1/keys/{made['id']}")).json()
    assert revoked["revoked_at"] is not None
    assert (await api.client.delete(f"/v1/keys/{made['id']}")).json()["revoked_at"] == revoked["revoked_at"]
    entries = (await api.client.get("/v1/audit")).json()["entries"]
    assert [e["action"] for e in entries][:3] == ["key.revoke", "key.revoke", "key.create"]
    assert entries[2]["object"] == made["id"]


async def test_keys_may_share_a_consumer(api: Api, document: str) -> None:
    await api.applied(document)
    first = await create(api, expires_in="never")
    assert first["expires_at"] is None
    body = {"name": "second", "consumer": first["consumer"], "expires_in": "12h"}
    second = (await api.client.post("/v1/keys", json=body)).json()
    assert (second["consumer"], second["tier"]) == (first["consumer"], "zinc")
    assert soon(second["expires_at"]) <= timedelta(hours=12)
    other = await create(api)
    assert other["consumer"] != first["consumer"]
    found = (await api.client.get("/v1/keys", params={"consumer": first["consumer"]})).json()["keys"]
    assert {key["id"] for key in found} == {first["id"], second["id"]}
    page = (await api.client.get("/v1/keys", params={"limit": 2})).json()
    rest = (await api.client.get("/v1/keys", params={"limit": 2, "after": page["next"]})).json()
    assert len({key["id"] for key in page["keys"] + rest["keys"]}) == 3
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("body", "pointer", "word"),
    [
        ({"tier": "zink"}, "/tier", "did you mean 'zinc'"),
        ({"tier": "platinum"}, "/tier", "platinum"),
        ({"tier": None}, "/tier", "needs a tier"),
        ({"tier": None, "consumer": "c_nobody"}, "/consumer", "c_nobody"),
    ],
)
async def test_keys_that_are_refused(api: Api, document: str, body: Any, pointer: str, word: str) -> None:
    await api.applied(document)
    answer = await api.client.post("/v1/keys", json={"name": "ci", **body})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert word in error["message"] + error["help"]
    assert (await api.client.get("/v1/keys")).json()["keys"] == []


async def test_a_consumers_tier_is_not_changed_by_a_key(api: Api, document: str) -> None:
    await api.applied(document)
    first = await create(api)
    answer = await api.client.post("/v1/keys", json={"name": "x", "tier": "gold", "consumer": first["consumer"]})
    assert answer.status_code == 422


async def test_before_a_gateway_there_is_no_tier(api: Api) -> None:
    answer = await api.client.post("/v1/keys", json={"name": "ci", "tier": "zinc"})
    assert answer.status_code == 422
    assert "apply a gateway first" in answer.text
    assert (await api.client.get("/v1/keys/nobody")).status_code == 404
    assert (await api.client.delete("/v1/keys/nobody")).status_code == 404


async def test_a_minted_token_has_every_claim(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    body = {"provider": "hs", "subject": "u1", "tier": "gold", "scopes": ["a", "b"], "claims": {"org": "acme"}}
    answer = await api.client.post("/v1/tokens", json={**body, "expires_in": "30m"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["token"]
    secret = (api.secrets / "lab-hs").read_bytes()
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="lab", issuer="https://hs.example")
    assert claims["exp"] - claims["iat"] == 1800
    assert (claims["sub"], claims["plan"], claims["scope"], claims["org"]) == ("u1", "gold", "a b", "acme")
    assert len(claims["jti"]) == 32
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert datetime.fromisoformat(answer.json()["expires_at"]).timestamp() == claims["exp"]
    entry = (await api.client.get("/v1/audit?limit=1")).json()["entries"][0]
    assert (entry["action"], entry["object"], entry["detail"]["jti"]) == ("token.mint", "hs/u1", claims["jti"])


async def test_a_tokens_life_is_cut_to_the_providers(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    answer = await api.client.post("/v1/tokens", json={"provider": "hs", "subject": "u1", "expires_in": "30d"})
    assert soon(answer.json()["expires_at"]) <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("body", "pointer", "word"),
    [
        ({"provider": "hss"}, "/provider", "did you mean 'hs'"),
        ({"tier": "platinum"}, "/tier", "platinum"),
        ({"claims": {"exp": 99999999999}}, "/claims/exp", "exp"),
        ({"claims": {"plan": "gold"}}, "/claims/plan", "plan"),
        ({"claims": {"iss": "x"}}, "/claims/iss", "iss"),
        ({"expires_in": "never"}, "/expires_in", "expire"),
    ],
)
async def test_tokens_that_are_refused(api: Api, document: str, body: Any, pointer: str, word: str) -> None:
    await api.applied(document)
    await api.published(1)
    answer = await api.client.post("/v1/tokens", json={"provider": "hs", "subject": "u1", **body})
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert word in error["message"] + error["help"]


async def test_tokens_need_a_secret_that_is_there_and_long_enough(api: Api, document: str) -> None:
    body = {"provider": "hs", "subject": "u1"}
    assert (await api.client.post("/v1/tokens", json=body)).status_code == 409, "nothing is published"
    await api.applied(document)
    await api.published(1)
    (api.secrets / "lab-hs").write_bytes(b"canary-canary")
    short = await api.client.post("/v1/tokens", json=body)
    (api.secrets / "lab-hs").unlink()
    missing = await api.client.post("/v1/tokens", json=body)
    for answer, word in ((short, "shorter"), (missing, "not in the secret store")):
        assert answer.status_code == 422
        assert word in answer.text
        assert "canary" not in answer.text


def everything_in(url: str) -> str:
    dump = [str(binaries() / "pg_dump"), url]
    return subprocess.run(dump, capture_output=True, text=True, check=True).stdout


async def test_a_crash_tells_nobody_what_it_had_in_hand(
    api: Api, document: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    await api.applied(document)
    seen: list[str] = []
    mint = texts.mint

    def spy(pepper: bytes) -> texts.MintedKey:
        minted = mint(pepper)
        seen.append(minted.text)
        return minted

    async def crash(*_: Any, **__: Any) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr("policy.authz.keys.mint", spy)
    monkeypatch.setattr("db.keys.create", crash)
    answer = await api.client.post("/v1/keys", json={"name": "ci", "tier": "zinc"})
    assert answer.status_code == 500
    assert (answer.json()["code"], "fault" in answer.json()["detail"]) == ("internal", True)
    assert "KeyError" not in answer.text
    output = "".join(capfd.readouterr())
    assert "a fault" in output, "the log says more"
    for canary in (*seen, api.token, repr(api.pepper)):
        assert canary not in output
        assert canary not in answer.text
    assert (await api.client.get("/v1/keys")).json()["keys"] == []


async def test_no_secret_is_found_in_logs_or_the_database(
    api: Api, document: str, databases: Databases, capfd: pytest.CaptureFixture[str]
) -> None:
    await api.applied(document)
    await api.published(1)
    key = (await create(api))["key"]
    token = (await api.client.post("/v1/tokens", json={"provider": "hs", "subject": "u1"})).json()["token"]
    await api.client.get("/v1/status", headers={"authorization": f"Bearer {key}"})
    await api.client.post("/v1/keys", json={"name": "x", "tier": key})
    await api.client.get(f"/v1/keys/{key}")
    secret = secrets.token_urlsafe(24)
    await api.client.post("/v1/keys", json={"name": "ci", "password": secret})
    database = str(api.engine.url.database)
    dump = await asyncio.to_thread(everything_in, databases.server.url.replace("/tollhouse?", f"/{database}?"))
    assert "bootstrap" in dump
    output = "".join(capfd.readouterr())
    assert "request" in output, "requests are logged"
    canaries = [key, key.split("_")[3], token, api.token, api.token.removeprefix("gwt_"), secret]
    for canary in canaries:
        assert canary not in dump
        assert canary not in output
    for raw in (api.pepper, (Path(api.secrets) / "lab-hs").read_bytes()):
        assert raw.hex() not in dump


async def test_a_rotation_gives_a_key_another_secret(api: Api, document: str) -> None:
    await api.applied(document)
    made = await create(api, labels={"team": "billing"})
    answer = await api.client.post(f"/v1/keys/{made['id']}/rotate", json={"overlap": "2h"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    rotated = answer.json()
    assert rotated["key"] != made["key"]
    assert rotated["key"].startswith(made["prefix"])
    assert timedelta(minutes=119) < soon(rotated["old_secret_until"]) <= timedelta(hours=2)
    unchanged = {"id", "consumer", "tier", "labels", "expires_at", "created_at"}
    assert {name: rotated[name] for name in unchanged} == {name: made[name] for name in unchanged}
    row = await engines.run(api.engine, lambda c: stored.get(c, made["id"]))
    assert row is not None
    assert row.digest == texts.digest(api.pepper, rotated["key"])
    assert row.previous_digest == texts.digest(api.pepper, made["key"])
    renewed = (
        await api.client.post(f"/v1/keys/{made['id']}/rotate", json={"overlap": "0s", "expires_in": "1h"})
    ).json()
    assert soon(renewed["expires_at"]) <= timedelta(hours=1)
    entry = (await api.client.get("/v1/audit?limit=1")).json()["entries"][0]
    assert (entry["action"], entry["object"]) == ("key.rotate", made["id"])
    assert (await api.client.post("/v1/keys/nobody/rotate", json={})).status_code == 404
    assert (await api.client.post(f"/v1/keys/{made['id']}/rotate", json={"overlap": "91d"})).status_code == 422
    await api.client.delete(f"/v1/keys/{made['id']}")
    gone = await api.client.post(f"/v1/keys/{made['id']}/rotate", json={})
    assert (gone.status_code, gone.json()["code"]) == (409, "key_revoked")


async def test_what_a_key_may_do_is_changed(api: Api, document: str) -> None:
    await api.applied(document)
    made = await create(api, allowed_ips=["192.0.2.7", "2001:DB8::/32"])
    assert made["allowed_ips"] == ["192.0.2.7/32", "2001:db8::/32"]
    path = f"/v1/keys/{made['id']}"
    disabled = (await api.client.patch(path, json={"disabled": True, "scopes": ["a"]})).json()
    assert disabled["disabled_at"] is not None
    assert (disabled["scopes"], disabled["allowed_ips"]) == (["a"], made["allowed_ips"])
    enabled = (await api.client.patch(path, json={"disabled": False, "allowed_ips": [], "labels": {"a": "b"}})).json()
    assert (enabled["disabled_at"], enabled["allowed_ips"], enabled["labels"]) == (None, [], {"a": "b"})
    listed = (await api.client.get("/v1/keys")).json()
    assert listed["pepper_version"] == listed["keys"][0]["pepper_version"] == 1
    entry = (await api.client.get("/v1/audit?limit=1")).json()["entries"][0]
    assert (entry["action"], entry["detail"]["disabled"]) == ("key.change", False)


@pytest.mark.parametrize(
    "body", [{}, {"tier": "gold"}, {"allowed_ips": ["192.0.2.7/24"]}, {"allowed_ips": ["office"]}, {"scopes": ['"']}]
)
async def test_changes_that_are_refused(api: Api, document: str, body: Any) -> None:
    await api.applied(document)
    made = await create(api)
    assert (await api.client.patch(f"/v1/keys/{made['id']}", json=body)).status_code == 422
    assert (await api.client.patch("/v1/keys/nobody", json={"disabled": True})).status_code == 404
