"""Nobody gets in without a token that works, whatever the operation: the list of them is the OpenAPI document's."""

from typing import Any

import httpx
import pytest

from admin.api.health import OPEN
from admin.roles import ROLES, may
from db import engine as engines
from db import tokens as stored
from tests.admin.conftest import Api
from tests.support.results import record


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


MAY = {
    "POST /v1/apply": "author operator admin",
    "POST /v1/plan": "author operator admin",
    "POST /v1/explain": "viewer author operator admin",
    "POST /v1/undo": "operator admin",
    "POST /v1/rollout/pause": "operator admin",
    "POST /v1/rollout/resume": "operator admin",
    "POST /v1/rollout/promote": "operator admin",
    "POST /v1/rollout/abort": "operator admin",
    "PUT /v1/rollout/freeze": "operator admin",
    "DELETE /v1/rollout/freeze": "operator admin",
    "POST /v1/keys": "operator admin",
    "PATCH /v1/keys/{key_id}": "operator admin",
    "POST /v1/keys/{key_id}/rotate": "operator admin",
    "DELETE /v1/keys/{key_id}": "operator admin",
    "POST /v1/tokens": "operator admin",
    "PUT /v1/services/{name}/endpoints/{instance}": "registrar operator admin",
    "POST /v1/services/{name}/endpoints/{instance}/drain": "registrar operator admin",
    "DELETE /v1/services/{name}/endpoints/{instance}": "registrar operator admin",
    "GET /v1/services": "viewer registrar author operator admin",
    "GET /v1/services/{name}": "viewer registrar author operator admin",
    "GET /v1/access": "admin",
    "POST /v1/access": "admin",
    "DELETE /v1/access/{token_id}": "admin",
}
"""Who may; every other GET is for all but registrars. An operation that changes something must be in it."""


async def test_each_role_may_what_it_is_for(api: Api) -> None:
    everything = [one for one in await operations(api) if one[1] not in OPEN]
    assert {f"{method} {path}" for method, path in everything if method != "GET"} <= MAY.keys(), "who may call it?"
    assert MAY.keys() <= {f"{method} {path}" for method, path in everything}
    for role in ROLES:
        text, _ = await api.make_token(role, role)
        for method, path in everything:
            if path == "/v1/rollout/events":  # never ends
                assert may(role, method, path) is (role != "registrar")
                continue
            answer = await ask(api, method, path, f"Bearer {text}")
            allowed = role in MAY.get(f"{method} {path}", "viewer author operator admin").split()
            assert (answer.status_code != 403) is allowed, (role, method, path, answer.text)
    record("S5", value=len(everything) * len(ROLES), passed=True, case="control API", unit="operations and roles")


async def test_an_author_applies_what_the_owner_owns(api: Api, document: str) -> None:
    made = await api.client.post("/v1/access", json={"name": "ann", "role": "author", "owner": "team"})
    assert made.status_code == 201
    assert made.json()["token"] not in (await api.client.get("/v1/access")).text
    api.client.headers["authorization"] = f"Bearer {made.json()['token']}"
    assert (await api.applied(document))["revision"] == 1
    foreign = document.replace("owner: team", "owner: other").replace("echo", "reverb")
    refused = await api.apply(
        foreign[: foreign.index("listeners")] + "upstreams:" + foreign.split("upstreams:")[1].split("jwt_")[0]
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), refused.text
    api.client.headers["authorization"] = f"Bearer {api.token}"
    assert (await api.client.delete(f"/v1/access/{made.json()['id']}")).status_code == 200
    last = (await api.client.get("/v1/access")).json()["tokens"][0]
    assert (await api.client.delete(f"/v1/access/{last['id']}")).json()["code"] == "last_admin"
    for body in ({"name": "x", "role": "author"}, {"name": "x", "role": "viewer", "owner": "team"}):
        assert (await api.client.post("/v1/access", json=body)).status_code == 422
    actions = [entry["action"] for entry in (await api.client.get("/v1/audit")).json()["entries"]]
    assert actions == ["admin_token.revoke", "apply", "admin_token.create", "admin_token.create"]


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
    for method, path in (("PUT", "/v1/apply"), ("DELETE", "/v1/status"), ("PUT", "/v1/keys/abc")):
        answer = await api.client.request(method, path)
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"
