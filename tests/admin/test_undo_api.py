"""POST /v1/undo, and changes that are made for a head that is not there any more."""

import random
import time

from tests.admin.conftest import Api
from tests.support.results import record, size


async def test_undone_revisions_are_equal_to_what_they_were(api: Api, document: str) -> None:
    """R23."""
    kept = 5
    versions = {}
    for number in range(1, kept + 1):
        versions[number] = (await api.applied(document.replace("100/hour", f"{100 + number}/hour")))["version"]
    assert len(set(versions.values())) == kept
    dice, seconds = random.Random(23), []
    rounds = size("UNDOS", 30)
    for _ in range(rounds):
        head = max(versions)
        target = dice.choice([number for number in versions if versions[number] != versions[head]])
        began = time.monotonic()
        answer = await api.client.post("/v1/undo", json={"revision": target})
        seconds.append(time.monotonic() - began)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["revision"], answer.json()["version"]) == (head + 1, versions[target])
        versions[head + 1] = versions[target]
    record("R23", value=round(max(seconds), 3), passed=max(seconds) <= 1, unit="s, the slowest", rollbacks=rounds)
    assert max(seconds) < 5
    newest = (await api.client.get("/v1/revisions/head")).json()
    assert newest["message"].startswith("undo: revision ")


async def test_the_one_before_is_what_is_meant(api: Api, document: str) -> None:
    assert (await api.client.post("/v1/undo", json={})).json()["code"] == "nothing_to_undo"
    first = await api.applied(document, git_commit="0123abc")
    assert (await api.client.post("/v1/undo", json={})).json()["code"] == "nothing_to_undo"
    assert (await api.client.get("/v1/revisions/head")).json()["git_commit"] == "0123abc"
    await api.applied(document.replace("100/hour", "7/hour"))
    done = (await api.client.post("/v1/undo", json={"message": "too few"})).json()
    assert (done["revision"], done["version"]) == (3, first["version"])
    assert [(c["kind"], c["action"]) for c in done["changed"]] == [("tiers", "updated")]
    assert (await api.client.get("/v1/revisions/head")).json()["message"] == "undo: revision 1 again: too few"
    assert (await api.client.post("/v1/undo", json={"revision": 9})).status_code == 404


async def test_a_head_that_moved_is_told_with_what_moved_it(api: Api, document: str) -> None:
    assert (await api.client.get("/v1/revisions/head")).status_code == 404
    await api.applied(document)
    etag = (await api.client.get("/v1/revisions/head")).headers["etag"]
    assert etag == '"1"'
    await api.applied(document.replace("100/hour", "7/hour"), message="less")
    body = {"files": [{"name": "a", "text": document}]}
    for path, sent in (("/v1/apply", body), ("/v1/undo", {})):
        answer = await api.client.post(path, json=sent, headers={"if-match": etag})
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
        assert answer.json()["since"] == [{"revision": 2, "author": "bootstrap", "message": "less"}]
        answer = await api.client.post(path, json=sent | {"expected_revision": 1})
        assert (answer.status_code, answer.json()["head"]) == (409, 2)
    assert (await api.client.post("/v1/apply", json=body, headers={"if-match": 'W/"2"'})).status_code == 422
    assert (await api.client.post("/v1/apply", json=body, headers={"if-match": '"2"'})).status_code == 200
