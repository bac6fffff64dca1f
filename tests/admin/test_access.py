"""Nobody gets in without a token that works, whatever the operation: the list of them is the OpenAPI document's."""

from typing import Any

import httpx
import pytest

from admin.api.health import OPEN
from db import engine as engines
from db import tokens as stored
from tests.admin.conftest import Api


async def operations(api: Api) -> list[tuple[str, str]]:
    schema = (await api.client.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    found = [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]
    return [*found, ("GET", "/openapi.json")]


def concrete(path: str) -> str:
    return path.replace("{number}", "1").replace("{key_id}", "abc")


async def ask(api: Api, method: str, path: str, authorization: str | None) -> httpx.Response:
    headers = {"authorization": authorization} if authorization is not None else {}
    api.client.headers.pop("authorization", None)
    content: dict[str, Any] = {"json": {}} if method == "POST" else {}
    return await api.client.request(method, concrete(path), headers=headers, **content)


async def test_every_operation_is_denied_without_a_working_token(api: Api) -> None:
    revoked, revoked_id = await api.make_token("ann", "admin")
    assert await engines.run(api.engine, lambda c: stored.revoke(c, revoked_id))
    everything = await operations(api)
    assert len(everything) >= 16
    attempts = {
        "none": None,
        "empty": "",
        "wrong": "Bearer gwt_" + "x" * 43,
        "revoked": f"Bearer {revoked}",
        "scheme": f"Basic {api.token}",
        "bare": api.token,
        "longer": f"Bearer {api.token}x",
        "shorter": f"Bearer {api.token[:-1]}",
        "huge": "Bearer " + "x" * 100_000,
        "nul": "Bearer \x00",
    }
    for method, path in everything:
        for name, authorization in attempts.items():
            answer = await ask(api, method, path, authorization)
            if path in OPEN:
                assert answer.status_code in (200, 503), (method, path, name)
                continue
            assert answer.status_code == 401, (method, path, name, answer.text)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_what_is_not_there_is_not_told_to_strangers(api: Api) -> None:
    for path in (
        "/",
        "/docs",
        "/redoc",
        "/v1",
        "/v1/nothing",
        "/v1/keys/",
        "//v1/keys",
        "/livez/",
        "/LIVEZ",
    ):
        assert (await ask(api, "GET", path, None)).status_code == 401, path
        assert (await ask(api, "GET", path, f"Bearer {api.token}")).status_code == 404, path
    assert (await ask(api, "POST", "/livez", None)).status_code == 401


async def test_a_viewer_reads_and_changes_nothing(api: Api) -> None:
    text, _ = await api.make_token("eve", "viewer")
    for method, path in await operations(api):
        api.client.headers["authorization"] = f"Bearer {api.token}"
        answer = await ask(api, method, path, f"Bearer {text}")
        assert (answer.status_code == 403) is (method != "GET"), (method, path, answer.text)
        api.client.headers["authorization"] = f"Bearer {api.token}"
    entries = (await api.client.get("/v1/audit")).json()["entries"]
    assert {entry["actor"] for entry in entries} == {"bootstrap"}


async def test_a_token_ends_at_once_when_revoked(api: Api) -> None:
    text, token_id = await api.make_token("ann", "admin")
    assert (await ask(api, "GET", "/v1/status", f"bearer {text}")).status_code == 200
    await engines.run(api.engine, lambda c: stored.revoke(c, token_id))
    assert (await ask(api, "GET", "/v1/status", f"bearer {text}")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/apply", {"files": []}, "/files"),
        ("/v1/apply", {"files": [{"name": "a", "text": ""}], "prun": True}, "/prun"),
        ("/v1/apply", {"files": [{"name": "a\u001b[2J", "text": ""}]}, "/files/0/name"),
        ("/v1/apply", {"files": [{"name": "a", "text": ""}], "prune": "yes"}, "/prune"),
        ("/v1/keys", {"name": "ci", "tier": "zinc", "expires_in": "90"}, "/expires_in"),
        ("/v1/keys", {"name": "ci", "tier": "zinc", "scopes": ["a b"]}, "/scopes/0"),
        ("/v1/keys", {"name": "", "tier": "zinc"}, "/name"),
        ("/v1/keys", {"name": "ci", "tier": "zinc", "digest": "x"}, "/digest"),
        ("/v1/tokens", {"provider": "hs"}, "/subject"),
    ],
)
async def test_bad_requests_are_named_member_by_member(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = await api.client.post(path, json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]], answer.text


async def test_what_is_not_json_is_refused_and_not_repeated(api: Api) -> None:
    answer = await api.client.post("/v1/keys", content=b'{"name": canary', headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "canary" not in answer.text
    answer = await api.client.post("/v1/keys", json={"name": "ci", "tier": {"canary": "canary"}})
    assert answer.status_code == 422
    assert "canary" not in answer.text


async def test_a_body_has_an_end(api: Api) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b"x" * (1 << 20)

    headers = {"content-type": "application/json"}
    announced = await api.client.post("/v1/apply", content=b"x" * (17 << 20), headers=headers)
    streamed = await api.client.post("/v1/apply", content=endless(), headers=headers)
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"


async def test_other_methods_are_refused(api: Api) -> None:
    for method, path in (("PUT", "/v1/apply"), ("DELETE", "/v1/status"), ("PATCH", "/v1/keys/abc")):
        answer = await api.client.request(method, path)
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"
