"""Explaining what is live: places as they were applied, keys by their ids, and no credential anywhere."""

from typing import Any

from tests.admin.conftest import Api


async def explained(api: Api, **question: Any) -> dict[str, Any]:
    answer = await api.client.post("/v1/explain", json={"url": "http://api.example:8080/orders/1", **question})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_is_live_is_explained(api: Api, document: str) -> None:
    nothing = await api.client.post("/v1/explain", json={"url": "http://api.example/"})
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_published")
    await api.applied(document)
    await api.published(1)
    found = await explained(api, token={"claims": {"sub": "u1", "plan": "gold"}, "assumed": True})
    assert (found["revision"], found["route"], found["by"]) == (1, "orders/list", "upstream")
    route = next(step for step in found["steps"] if step["part"] == "route")
    assert route["place"].startswith("routes.yaml@1:") or route["place"].startswith("routes.yaml:")
    assert (await explained(api))["status"] == 401


async def test_a_key_is_looked_up_by_its_id(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    made = (await api.client.post("/v1/keys", json={"name": "ci", "tier": "gold", "scopes": ["read"]})).json()
    found = await explained(api, key={"id": made["id"]})
    assert (found["key"]["tier"], found["key"]["scopes"], found["key"]["state"]) == ("gold", ["read"], "unchecked")
    assert found["by"] == "upstream"
    assert made["key"].rpartition("_")[0] not in str(found)
    await api.client.delete(f"/v1/keys/{made['id']}")
    assert (await explained(api, key={"id": made["id"]}))["status"] == 401
    assert (await explained(api, key={"id": "0000000000"}))["key"]["state"] == "unknown"


async def test_what_cannot_be_asked(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    for wrong in ({"url": "ftp://x/"}, {"address": "here"}, {"listener": "gone"}, {"jwt": "eyJ"}):
        answer = await api.client.post("/v1/explain", json={"url": "http://api.example/", **wrong})
        assert answer.status_code == 422, wrong
