"""Consumers, keys and tokens in the store, and the version that tells others what changed."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import keys, revisions, tokens
from db.rows import KeyRow


async def make(engine: AsyncEngine, key_id: str, tier: str = "free", expires_at: datetime | None = None) -> KeyRow:
    async with engine.begin() as connection:
        consumer = await keys.create_consumer(connection, name=f"consumer of {key_id}", tier=tier)
        return await keys.create(
            connection,
            id=key_id,
            consumer=consumer.id,
            name=key_id,
            prefix=f"gw_live_{key_id}",
            digest=key_id.encode(),
            pepper_version=1,
            scopes=["a:read", "b:write"],
            expires_at=expires_at,
        )


async def version(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await revisions.head(connection)).keys_version


async def test_life_of_a_key(engine: AsyncEngine) -> None:
    made = await make(engine, "k1", "gold", datetime(2030, 1, 1, tzinfo=UTC))
    assert (made.tier, made.scopes, made.digest, made.keys_version) == ("gold", ("a:read", "b:write"), b"k1", 1)
    assert made.consumer.startswith("c_")
    assert made.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    async with engine.begin() as connection:
        revoked = await keys.revoke(connection, "k1")
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert revoked.keys_version == 2
    async with engine.begin() as connection:
        again = await keys.revoke(connection, "k1")
        assert again is not None
        assert again.revoked_at == revoked.revoked_at, "the first moment stays"
        assert await keys.revoke(connection, "nobody") is None
        assert await keys.get(connection, "nobody") is None


async def test_changes_since_names_what_changed_and_nothing_else(engine: AsyncEngine) -> None:
    for key_id in ("k1", "k2", "k3"):
        await make(engine, key_id)
    seen = await version(engine)
    async with engine.begin() as connection:
        assert await keys.changes_since(connection, 0) == ("k1", "k2", "k3")
        assert await keys.changes_since(connection, seen) == ()
        await keys.revoke(connection, "k2")
        assert await keys.changes_since(connection, seen) == ("k2",)
    await make(engine, "k4")
    async with engine.connect() as connection:
        assert await keys.changes_since(connection, seen) == ("k2", "k4")
        assert [row.id for row in await keys.get_many(connection, ["k4", "k2", "k9"])] in (["k2", "k4"], ["k4", "k2"])


async def test_another_tier_is_a_change_of_every_key_of_the_consumer(engine: AsyncEngine) -> None:
    one = await make(engine, "k1")
    await make(engine, "k2")
    seen = await version(engine)
    async with engine.begin() as connection:
        moved = await keys.set_tier(connection, one.consumer, "gold")
        assert moved is not None
        assert moved.tier == "gold"
        assert await keys.set_tier(connection, "c_nobody", "gold") is None
    async with engine.connect() as connection:
        assert await keys.changes_since(connection, seen) == ("k1",)
        changed = await keys.get(connection, "k1")
        assert changed is not None
        assert changed.tier == "gold"


async def test_versions_have_no_gap_under_a_race(engine: AsyncEngine) -> None:
    rows = await asyncio.gather(*(make(engine, f"k{number}") for number in range(10)))
    assert sorted(row.keys_version for row in rows) == list(range(1, 11))
    assert await version(engine) == 10


async def test_last_used_moves_forward_only_and_is_no_change(engine: AsyncEngine) -> None:
    await make(engine, "k1")
    await make(engine, "k2")
    seen = await version(engine)
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    async with engine.begin() as connection:
        await keys.touch_last_used(connection, {})
        await keys.touch_last_used(connection, {"k2": noon, "k1": noon, "nobody": noon})
        await keys.touch_last_used(connection, {"k1": noon - timedelta(hours=1), "k2": noon + timedelta(hours=1)})
        used = {row.id: row.last_used_at for row in await keys.page(connection)}
    assert used == {"k1": noon, "k2": noon + timedelta(hours=1)}
    assert await version(engine) == seen


async def test_keys_are_paged(engine: AsyncEngine) -> None:
    made = [await make(engine, f"k{number}") for number in range(5)]
    async with engine.connect() as connection:
        assert [row.id for row in await keys.page(connection, limit=2)] == ["k0", "k1"]
        assert [row.id for row in await keys.page(connection, limit=9, after="k1")] == ["k2", "k3", "k4"]
        assert [row.id for row in await keys.page(connection, consumer=made[3].consumer)] == ["k3"]


async def test_rows_never_print_a_digest(engine: AsyncEngine) -> None:
    assert "digest" not in repr(await make(engine, "k1"))


async def test_tokens_work_until_revoked_or_expired(engine: AsyncEngine) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    past = datetime.now(UTC) - timedelta(seconds=60)
    async with engine.begin() as connection:
        ann = await tokens.create(connection, name="ann", role="admin", token="gwt_ann")
        bob = await tokens.create(connection, name="bob", role="viewer", token="gwt_bob", expires_at=soon)
        await tokens.create(connection, name="old", role="admin", token="gwt_old", expires_at=past)
        assert await tokens.find(connection, tokens.digest("gwt_ann")) == ann
        assert await tokens.find(connection, tokens.digest("gwt_bob")) == bob
        assert await tokens.find(connection, tokens.digest("gwt_old")) is None
        assert await tokens.find(connection, tokens.digest("gwt_nobody")) is None
        assert await tokens.live(connection) == (ann, bob)
        assert await tokens.revoke(connection, ann.id)
        assert not await tokens.revoke(connection, ann.id)
        assert await tokens.find(connection, tokens.digest("gwt_ann")) is None
        assert await tokens.live(connection) == (bob,)


async def test_a_rotated_key_keeps_the_secret_that_it_had_and_no_older_one(engine: AsyncEngine) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)

    async def rotate(connection: AsyncConnection, digest: bytes, version: int) -> KeyRow | None:
        return await keys.rotate(connection, "k1", digest=digest, pepper_version=version, until=until, expires_at=None)

    await make(engine, "k1")
    async with engine.begin() as connection:
        await rotate(connection, b"second", 2)
        rotated = await rotate(connection, b"third", 3)
        assert rotated is not None
        assert (rotated.digest, rotated.pepper_version) == (b"third", 3)
        assert (rotated.previous_digest, rotated.previous_pepper_version) == (b"second", 2)
        assert rotated.previous_until == until
        assert rotated.keys_version == 3
        await keys.revoke(connection, "k1")
        assert await rotate(connection, b"fourth", 3) is None


async def test_what_a_key_may_do_is_changed_and_told(engine: AsyncEngine) -> None:
    await make(engine, "k1")
    async with engine.begin() as connection:
        values = {"scopes": ["x"], "allowed_ips": ["192.0.2.0/24"], "labels": {"team": "a"}, "disabled": True}
        changed = await keys.change(connection, "k1", values)
        assert changed is not None
        assert (changed.scopes, changed.allowed_ips, changed.labels) == (("x",), ("192.0.2.0/24",), {"team": "a"})
        again = await keys.change(connection, "k1", {"disabled": True, "name": "new"})
        assert again is not None
        assert (again.disabled_at, again.name, again.scopes) == (changed.disabled_at, "new", ("x",))
        enabled = await keys.change(connection, "k1", {"disabled": False})
        assert enabled is not None
        assert enabled.disabled_at is None
        assert enabled.keys_version == changed.keys_version + 2
        assert await keys.change(connection, "nobody", {"disabled": False}) is None


async def test_a_digest_is_replaced_only_while_it_is_the_one_that_was_seen(engine: AsyncEngine) -> None:
    first, second = await make(engine, "k1"), await make(engine, "k2")
    async with engine.begin() as connection:
        await keys.rehash(
            connection, [keys.Rehash("k2", b"another", b"new", 2), keys.Rehash("k1", first.digest, b"new", 2)]
        )
        one, two = await keys.get(connection, "k1"), await keys.get(connection, "k2")
        assert one is not None and two is not None  # noqa: PT018
        assert (one.digest, one.pepper_version, one.keys_version) == (b"new", 2, first.keys_version)
        assert two == second
