"""The publisher keeps the last good snapshot whatever the store says, and never sends an empty one."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from db import engine as engines
from db import revisions
from db.rows import ObjectRow
from tests.admin.conftest import Api
from xds_server.rollout.publisher import Failure
from xds_server.rollout.stored import from_row, to_row


async def failed(api: Api) -> Failure:
    async with asyncio.timeout(10):
        while api.publisher.state.failure is None:
            await api.publisher.changed()
    return api.publisher.state.failure


async def commit(api: Api, *objects: ObjectRow) -> int:
    row = await revisions.commit(
        api.engine, expected_revision=None, objects=objects, author="x", message="", digest="d"
    )
    return row.number


async def stored(api: Api) -> tuple[ObjectRow, ...]:
    async with api.engine.connect() as connection:
        return await revisions.load(connection, (await revisions.head(connection)).revision)


async def test_an_empty_revision_is_never_published(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    good = api.hub.snapshot
    await commit(api)
    failure = await failed(api)
    assert (failure.revision, "empty" in failure.reason) == (2, True)
    assert api.hub.snapshot is good
    status = (await api.client.get("/v1/status")).json()
    assert (status["revision"], status["state"], status["published"]["revision"]) == (2, "failed", 1)
    assert status["failure"]["reason"] == failure.reason
    assert (await api.client.get("/readyz")).status_code == 200


async def test_an_invalid_revision_is_held_with_its_problems_until_a_good_one(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    good = api.hub.snapshot
    rows = await stored(api)
    bad = [row for row in rows if row.kind != "tiers"]
    await commit(api, *bad)
    failure = await failed(api)
    assert any("zinc" in problem.message for problem in failure.problems)
    assert all(problem.place is not None for problem in failure.problems)
    assert api.hub.snapshot is good
    number = await commit(api, *rows)
    await api.published(number)
    assert api.publisher.state.failure is None


async def test_a_head_that_goes_back_is_not_followed(api: Api, document: str) -> None:
    await api.applied(document)
    await api.applied(document.replace("9000", "9001"))
    await api.published(2)
    good = api.hub.snapshot
    async with api.engine.begin() as connection:
        await connection.execute(text("UPDATE head SET revision = 1"))
    assert "went back" in (await failed(api)).reason
    assert api.hub.snapshot is good


async def test_a_compiler_that_crashes_takes_nothing_down(
    api: Api, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.applied(document)
    await api.published(1)
    good = api.hub.snapshot

    def crash(*_: object, **__: object) -> None:
        raise KeyError("canary")

    monkeypatch.setattr("xds_server.compiler.compile", crash)
    rows = await stored(api)
    await commit(api, *(row for row in rows if row.kind != "jwt_providers"), *(_provider(rows)))
    assert "KeyError" in (await failed(api)).reason
    assert api.hub.snapshot is good
    monkeypatch.undo()
    await api.applied(document.replace("9000", "9002"))
    await api.published(3)


def _provider(rows: tuple[ObjectRow, ...]) -> list[ObjectRow]:
    return [
        ObjectRow(row.kind, row.name, row.owner, row.labels, {**row.body, "clock_skew": "5s"}, row.file, row.positions)
        for row in rows
        if row.kind == "jwt_providers"
    ]


async def test_objects_come_back_from_the_store_as_they_were(api: Api, document: str) -> None:
    from gateway import read

    await api.applied(document)
    objects = {item.key: item for item in read.load([("routes.yaml", document)]).objects}
    rows = await stored(api)
    assert {from_row(row).key: from_row(row) for row in rows} == objects
    assert all(from_row(to_row(item)) == item for item in objects.values())


async def test_a_rotated_secret_goes_out_by_itself(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    before = api.hub.snapshot
    assert before is not None
    (api.secrets / "lab-hs").write_bytes(b"another secret of thirty-two bytes")
    async with asyncio.timeout(10):
        while api.hub.snapshot is before:
            await api.publisher.changed()
    assert api.hub.snapshot is not None
    assert (api.hub.snapshot.revision, api.hub.snapshot.version != before.version) == (1, True)


async def test_what_came_past_the_apply_and_takes_much_away_is_held_until_somebody_means_it(
    api: Api, document: str
) -> None:
    route = "      r{0}: {{match: {{path: {{exact: /orders/{0}}}}}, backends: [{{upstream: echo}}]}}\n"
    wide = document + "".join(map(route.format, range(9)))
    await api.applied(wide)
    await api.published(1)
    good = api.hub.snapshot
    rows = await stored(api)
    await commit(api, *(_few_routes(row) for row in rows))
    failure = await failed(api)
    assert (failure.revision, "9 of 10 routes" in failure.reason) == (2, True)
    assert api.hub.snapshot is good
    answer = await api.applied(document, allow_shrink=True)
    assert answer["revision"] == 3, "the same content, and now somebody means it"
    await api.published(3)
    assert api.publisher.state.failure is None


async def test_a_shrink_that_was_meant_goes_out_with_what_follows_it(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    assert not await engines.run(api.engine, lambda c: revisions.may_shrink(c, after=1, until=9))
    for again in (document.replace("list:", "other:"), document):
        await api.applied(again, allow_shrink=True)
    await api.applied(document.replace("9000", "9001"))
    assert await engines.run(api.engine, lambda c: revisions.may_shrink(c, after=1, until=4))
    assert not await engines.run(api.engine, lambda c: revisions.may_shrink(c, after=3, until=4))


def _few_routes(row: ObjectRow) -> ObjectRow:
    if row.kind != "modules":
        return row
    return replace(row, body={**row.body, "routes": {"list": row.body["routes"]["list"]}})
