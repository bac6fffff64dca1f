"""POST /v1/apply: one revision or none, every problem with its place, and nobody else's objects."""

import asyncio
from dataclasses import replace
from pathlib import Path

from db import revisions
from gateway import read
from tests.admin.conftest import SETTINGS, Api, control_plane
from tests.support.postgres import Databases
from xds_server.rollout.stored import to_row
from xds_server.validate import find_envoy

EXTRA = """\
version: 1
owner: {owner}
modules:
  extra:
    tier: zinc
    listener: http
    authentication: none
    routes: {{ping: {{match: {{path: {{exact: /ping}}}}, respond: {{status: 200, body: pong}}}}}}
"""


async def head(api: Api) -> int:
    found = (await api.client.get("/v1/revisions?limit=1")).json()["revisions"]
    return int(found[0]["revision"]) if found else 0


async def test_a_first_apply_creates_everything(api: Api, document: str) -> None:
    answer = await api.applied(document, message="first")
    assert answer["revision"] == 1
    assert {(c["kind"], c["name"], c["action"]) for c in answer["changed"]} == {
        ("listeners", "http", "created"),
        ("upstreams", "echo", "created"),
        ("jwt_providers", "hs", "created"),
        ("api_keys", "partner", "created"),
        ("tiers", "tiers", "created"),
        ("modules", "orders", "created"),
    }
    row = (await api.client.get("/v1/revisions/1")).json()
    assert (row["author"], row["message"], row["version"]) == ("bootstrap", "first", answer["version"])
    assert [item["name"] for item in row["objects"] if item["kind"] == "modules"] == ["orders"]
    await api.published(1)
    published = api.publisher.state.published
    assert published is not None
    assert published.snapshot.version == answer["version"], "what was checked is what goes out"
    assert api.hub.snapshot is published.snapshot


async def test_nothing_new_makes_no_revision(api: Api, document: str) -> None:
    first = await api.applied(document)
    again = await api.applied("# a comment moves every line\n" + document)
    assert (again["revision"], again["version"], again["changed"]) == (1, first["version"], [])
    assert await head(api) == 1


async def test_a_file_may_refer_to_what_is_stored(api: Api, document: str) -> None:
    await api.applied(document)
    answer = await api.applied(EXTRA.format(owner="other"))
    assert answer["changed"] == [{"kind": "modules", "name": "extra", "action": "created"}]
    kinds = [(o["kind"], o["owner"]) for o in (await api.client.get("/v1/revisions/2")).json()["objects"]]
    assert ("modules", "other") in kinds
    assert len(kinds) == 7


async def test_every_problem_comes_with_its_place_and_nothing_is_stored(api: Api, document: str) -> None:
    await api.applied(document)
    wrong = document.replace("prefix: /orders", "prefx: /orders").replace("100/hour", "100/ohur")
    answer = await api.apply(wrong)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "invalid"
    found = {(e["file"], e["line"], e["pointer"]) for e in problem["errors"]}
    assert ("routes.yaml", 17, "/tiers/zinc/rate_limits/0/limit") in found
    assert any(line == 25 and "'prefix'" in e["help"] for e in problem["errors"] for line in [e["line"]])
    assert all(e["code"].startswith("GW") and e["column"] > 0 for e in problem["errors"])
    assert await head(api) == 1


async def test_a_change_that_breaks_what_is_stored_is_refused(api: Api, document: str) -> None:
    """The place is in the file as it was applied, of the revision that has it."""
    await api.applied(document)
    await api.applied(EXTRA.format(owner="other"))
    answer = await api.apply(document.replace("  zinc:", "  tin:").replace("tier: zinc", "tier: tin"))
    assert answer.status_code == 422
    (error,) = [e for e in answer.json()["errors"] if e["pointer"] == "/modules/extra/tier"]
    assert (error["file"], error["line"]) == ("routes.yaml@2", 5)


async def test_a_missing_secret_is_a_problem_at_the_reference(api: Api, document: str) -> None:
    answer = await api.apply(document.replace("lab-hs", "no-such-secret"))
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["line"] == 11
    assert "no-such-secret" in error["message"]
    assert await head(api) == 0


async def test_a_dry_run_stores_nothing(api: Api, document: str) -> None:
    dry = await api.applied(document, dry_run=True)
    assert (dry["revision"], len(dry["changed"]), dry["dry_run"]) == (0, 6, True)
    assert await head(api) == 0
    assert (await api.applied(document))["version"] == dry["version"]


async def test_a_stale_expectation_is_a_conflict(api: Api, document: str) -> None:
    await api.applied(document, expected_revision=0)
    for changed in (document, document.replace("9000", "9001")):
        answer = await api.apply(changed, expected_revision=0)
        assert answer.status_code == 409
        assert (answer.json()["code"], answer.json()["head"]) == ("conflict", 1)
    assert (await api.applied(document.replace("9000", "9001"), expected_revision=1))["revision"] == 2


async def test_another_owners_object_is_not_taken(api: Api, document: str) -> None:
    await api.applied(document)
    answer = await api.apply(document.replace("owner: team", "owner: thief").replace("9000", "9001"))
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["code"] == "wrong_owner"
    assert {e["code"] for e in problem["errors"]} == {"GW402"}
    assert {e["line"] for e in problem["errors"]} == {4, 6, 8, 15, 16, 20}
    assert await head(api) == 1


async def test_only_prune_deletes_and_only_ones_own(api: Api, document: str) -> None:
    await api.applied(document, EXTRA.format(owner="team"))
    await api.applied(EXTRA.format(owner="other").replace("extra", "others").replace("/ping", "/pong"))
    assert (await api.applied(document))["changed"] == []
    assert (await api.applied(document, prune=True))["changed"] == [
        {"kind": "modules", "name": "extra", "action": "deleted"}
    ]


async def test_racing_applies_all_land(api: Api, document: str) -> None:
    await api.applied(document)
    texts = [EXTRA.format(owner=f"o{n}").replace("extra", f"extra{n}").replace("/ping", f"/ping{n}") for n in range(4)]
    answers = await asyncio.gather(*(api.applied(text) for text in texts))
    assert sorted(answer["revision"] for answer in answers) == [2, 3, 4, 5]
    names = {o["name"] for o in (await api.client.get("/v1/revisions/5")).json()["objects"] if o["kind"] == "modules"}
    assert names == {"orders", "extra0", "extra1", "extra2", "extra3"}


async def test_an_apply_is_audited_with_actor_and_diff(api: Api, document: str) -> None:
    await api.applied(document)
    await api.applied(document, dry_run=True)
    await api.apply("version: [")
    entries = (await api.client.get("/v1/audit")).json()["entries"]
    assert [(e["actor"], e["action"], e["revision"]) for e in entries] == [
        ("bootstrap", "apply", 1),
        ("bootstrap", "admin_token.create", None),
    ]
    assert len(entries[0]["detail"]["diff"]) == 64
    verified = (await api.client.get("/v1/audit/verify")).json()
    newest = (await api.client.get("/v1/audit", params={"limit": 1})).json()["entries"][0]
    assert verified == {"ok": True, "rows": 2, "head": {"number": 2, "hash": newest["hash"]}}


async def test_real_envoy_is_asked_before_storing_and_before_publishing(
    databases: Databases, tmp_path: Path, document: str
) -> None:
    """Our own checks leave Envoy nothing to refuse in a document, so it is given a wrong address to bind."""
    envoy, url = find_envoy(), databases.fresh()
    assert envoy is not None
    broken = replace(SETTINGS, listener_address="nonsense")
    async with control_plane(url, tmp_path / "secrets", envoy, broken) as api:
        for options in ({}, {"dry_run": True}):
            answer = await api.apply(document, **options)
            assert answer.status_code == 422, answer.text
            (error,) = answer.json()["errors"]
            assert error["code"] == "GW701"
            assert "nonsense" in error["message"]
        assert await head(api) == 0
        rows = [to_row(item) for item in read.load([("routes.yaml", document)]).objects]
        await revisions.commit(api.engine, expected_revision=0, objects=rows, author="x", message="", digest="d")
        found = (await api.client.get("/v1/status?revision=1&wait=30")).json()
        assert (found["state"], found["published"]) == ("failed", None)
        assert [problem["code"] for problem in found["failure"]["problems"]] == ["GW701"]
        assert api.hub.snapshot is None
        assert (await api.client.get("/readyz")).status_code == 503
    async with control_plane(url, tmp_path / "secrets", envoy, first=False) as api:
        await api.published(1)


async def test_taking_much_away_must_be_meant(api: Api, document: str) -> None:
    second = document.replace("port: 8080", "port: 8080}\n  edge: {port: 8081")
    await api.applied(second)
    refused = await api.apply(document, prune=True)
    assert (refused.status_code, refused.json()["code"]) == (409, "shrinks")
    (error,) = refused.json()["errors"]
    assert (error["message"], "--allow-shrink" in error["help"]) == ("this takes away 1 of 2 listeners", True)
    assert (await api.apply(document, prune=True, dry_run=True)).status_code == 409, "a dry run says the same"
    done = await api.applied(document, prune=True, allow_shrink=True)
    assert (done["revision"], done["changed"]) == (2, [{"kind": "listeners", "name": "edge", "action": "deleted"}])
