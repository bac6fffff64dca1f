"""`POST /v1/plan` and the difference of revisions: what an apply would do, and nothing done."""

import asyncio
from pathlib import Path
from typing import Any

from gateway.nodes import Node
from tests.admin.conftest import Api, control_plane
from tests.support.postgres import Databases
from xds_server.validate import find_envoy


async def plan(api: Api, text: str, **options: Any) -> Any:
    body = {"files": [{"name": "routes.yaml", "text": text}], **options}
    return await api.client.post("/v1/plan", json=body)


async def planned(api: Api, text: str, **options: Any) -> dict[str, Any]:
    answer = await plan(api, text, **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["schema"] == "gwctl.plan/v1"
    return found


async def test_a_plan_changes_nothing_and_is_empty_after_the_apply(api: Api, document: str) -> None:
    found = await planned(api, document)
    assert found["base"] == {"revision": 0, "version": ""}
    assert found["summary"] == {"created": 7, "updated": 0, "deleted": 0}
    assert (await api.client.get("/v1/revisions")).json()["revisions"] == []
    applied = await api.applied(document)
    assert applied["version"] == found["version"], "what was planned is what was applied"
    for _ in range(2):
        again = await planned(api, document)
        assert (again["changes"], again["resources"]["types"], again["base"]["revision"]) == ([], [], 1)
        await api.published(1)


async def test_places_are_in_the_files_that_were_sent_and_in_the_revision_before(api: Api, document: str) -> None:
    await api.applied(document)
    found = await planned(
        api, document.replace("  partner: {}\n", "  another: {}\n").replace("partner", "another"), prune=True
    )
    by_name = {one["name"]: (one["action"], one["file"]) for one in found["changes"]}
    assert by_name["another"] == ("created", "routes.yaml")
    assert by_name["partner"] == ("deleted", "routes.yaml@1")


async def test_what_an_apply_refuses_a_plan_refuses(api: Api, document: str) -> None:
    await api.applied(document)
    invalid = await plan(api, document.replace("upstream: echo", "upstream: eco"))
    assert invalid.status_code == 422
    assert (invalid.json()["errors"][0]["file"], invalid.json()["errors"][0]["line"]) == ("routes.yaml", 25)
    assert (await plan(api, document.replace("owner: team", "owner: others"))).json()["code"] == "wrong_owner"
    moved = await plan(api, document, expected_revision=0)
    assert (moved.status_code, moved.json()["head"]) == (409, 1)
    assert (await plan(api, document, typo=True)).status_code == 422


async def test_what_would_shrink_is_told_and_not_refused(api: Api, document: str) -> None:
    routes = "".join(
        f"      r{n}: {{match: {{path: {{exact: /r{n}}}}}, backends: [{{upstream: echo}}]}}\n" for n in range(9)
    )
    await api.applied(document + routes)
    found = await planned(api, document)
    assert found["shrinks"] == [{"what": "routes", "before": 10, "after": 1}]


async def test_what_envoy_refuses_is_no_plan(databases: Databases, tmp_path: Path, document: str) -> None:
    async with control_plane(databases.fresh(), tmp_path / "secrets", find_envoy()) as api:
        raw = "port: 9000}], envoy: {cluster: {lb_policy: CLUSTER_PROVIDED}}}"  # protobuf takes it, Envoy does not
        refused = await plan(api, document.replace("port: 9000}]}", raw))
        assert refused.status_code == 422, refused.text
        errors = [one for one in refused.json()["errors"] if one["severity"] == "error"]
        assert [(error["code"], error["file"], error["line"]) for error in errors] == [("GW701", "routes.yaml", 6)]
        assert (await planned(api, document))["envoy"] is True
        assert (await planned(api, document, envoy=False))["envoy"] is False


async def test_resources_are_shown_without_secrets(api: Api, document: str) -> None:
    secret = (api.secrets / "lab-hs").read_bytes()
    found = await planned(api, document.replace("port: 8080}", "port: 8080, access_log: none}"), xds=True)
    shown = str(found["xds"])
    assert {one["type"] for one in found["xds"]} >= {"Listener", "TypedExtensionConfig", "RateLimitConfig"}
    assert "local_jwks" in shown
    assert secret.hex() not in shown
    assert "kty" not in shown


async def test_nodes_that_would_be_sent_something(api: Api, document: str) -> None:
    text = document.replace("http: {port: 8080}", "http: {port: 8080}\n  more: {port: 8081, nodes: {zones: [b]}}")
    await api.applied(text)
    await api.published(1)
    for name, zone in (("n1", "a"), ("n2", "b"), ("n3", "b")):
        api.hub.board.connect(Node(name, zone=zone), "1.40.0", "delta")
    found = await planned(api, text.replace("port: 8081,", "port: 8081, access_log: none,"))
    assert (found["nodes"]["connected"], found["nodes"]["affected"]) == (3, 2)
    (group,) = found["nodes"]["groups"]
    assert group["nodes"] == ["n2", "n3"]
    assert group["bytes"] > 1000


async def test_two_revisions(api: Api, document: str) -> None:
    await api.applied(document)
    await api.applied(document.replace("limit: 100/hour", "limit: 200/hour"))

    async def diff(old: int, new: int) -> Any:
        return await api.client.get(f"/v1/revisions/{old}/diff/{new}")

    forth, back = (await diff(1, 2)).json(), (await diff(2, 1)).json()
    ((there,), (here,)) = ([edit for one in found["changes"] for edit in one["edits"]] for found in (forth, back))
    assert (there["old"], there["new"], there["file"]) == ("100/hour", "200/hour", "routes.yaml@2")
    assert (here["old"], here["new"], here["file"]) == ("200/hour", "100/hour", "routes.yaml@1")
    assert [one["rule"] for one in forth["weakened"]] == ["tier"]
    assert back["weakened"] == []
    assert (await diff(1, 1)).json()["changes"] == []
    assert (await diff(0, 2)).json()["summary"]["created"] == 7
    assert (await diff(1, 3)).status_code == 404


async def test_plans_and_an_apply_at_one_time(api: Api, document: str) -> None:
    texts = [document.replace("/orders", f"/orders{n}") for n in range(4)]
    await api.applied(document)
    found = await asyncio.gather(*(planned(api, text) for text in texts), api.applied(texts[0]))
    assert all(one["summary"]["updated"] <= 1 for one in found[:-1])
