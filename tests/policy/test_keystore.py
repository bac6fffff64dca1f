"""The memory in front of the key table: what is asked how often, what is forgotten when, what happens without it."""

import asyncio

import pytest

from policy.authz.identity import KeyRecord
from policy.authz.lastused import LastUsed
from policy.authz.store import Bounds, KeyStore
from policy.unavailable import Unavailable


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Table:
    """A directory that counts questions, and can be slow or away."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRecord] = {}
        self.asked: list[str] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    def put(self, key_id: str, **changes) -> None:
        stored = {"id": key_id, "consumer": "c", "tier": "free", "scopes": (), "digest": b"d", "pepper_version": 1}
        self.rows[key_id] = KeyRecord(**stored | changes)

    async def key(self, key_id: str) -> KeyRecord | None:
        self.asked.append(key_id)
        found = self.rows.get(key_id)
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        return found


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(table, clock, **bounds) -> KeyStore:
    store = KeyStore(table, Bounds(**bounds), clock)
    store.fed(True)
    return store


async def test_a_known_key_is_asked_for_once(table, clock):
    store = made(table, clock)
    table.put("a")
    assert [await store.find("a") for _ in range(5)] == [table.rows["a"]] * 5
    clock.now += 86_400
    await store.find("a")
    assert table.asked == ["a"]


async def test_many_at_once_share_one_look_up(table, clock):
    store = made(table, clock)
    table.put("a")
    table.gate.clear()
    waiting = [asyncio.create_task(store.find("a")) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one caller's deadline is not the others'
    table.gate.set()
    found = await asyncio.gather(*waiting[1:])
    assert found == [table.rows["a"]] * 19
    assert table.asked == ["a"]


async def test_a_revocation_voids_what_is_remembered(table, clock):
    store = made(table, clock)
    table.put("a")
    await store.find("a")
    table.put("a", revoked=True)
    store.changed(["a"])
    assert (await store.find("a")).revoked


async def test_a_revocation_during_a_look_up_is_not_forgotten(table, clock):
    store = made(table, clock)
    table.put("a")
    table.gate.clear()
    early = asyncio.create_task(store.find("a"))
    await asyncio.sleep(0.01)
    table.put("a", revoked=True)
    store.changed(["a"])
    table.gate.set()
    assert not (await early).revoked  # it asked before
    assert (await store.find("a")).revoked


async def test_an_absent_key_is_remembered_for_a_while_and_until_it_is_made(table, clock):
    store = made(table, clock, absent_for=5)
    assert [await store.find("x") for _ in range(3)] == [None] * 3
    assert table.asked == ["x"]
    clock.now += 6
    assert await store.find("x") is None
    assert table.asked == ["x", "x"]
    table.put("x")
    store.changed(["x"])
    assert await store.find("x") is not None


async def test_a_flood_of_random_keys_does_not_reach_the_table(table, clock):
    store = made(table, clock, lookups_per_second=10, burst=20, absent=50)
    table.put("real")
    store.changed(["real"])
    answers = [await outcome(store, f"random{n}") for n in range(5000)]
    assert len(table.asked) == 20
    assert answers.count("unavailable") == 4980
    assert (await store.find("real")) is not None  # a key that exists needs no share of that budget
    clock.now += 1
    [await outcome(store, f"later{n}") for n in range(100)]
    assert len(table.asked) == 31


async def test_memory_is_bounded(table, clock):
    store = made(table, clock, known=10, absent=10, burst=1e6)
    for n in range(100):
        table.put(f"k{n}")
        await store.find(f"k{n}")
        await store.find(f"absent{n}")
    assert (len(store._known), len(store._absent), len(store._flights)) == (10, 10, 0)


async def test_while_the_database_is_away_known_keys_work_for_a_bounded_time(table, clock):
    store = made(table, clock, grace=600)
    table.put("a")
    await store.find("a")
    table.away = True
    store.fed(False)
    clock.now += 599
    store.fed(False)
    assert await outcome(store, "a") == "found"
    assert await outcome(store, "b") == "unavailable"
    clock.now += 2
    assert await outcome(store, "a") == "unavailable"
    store.fed(True)
    assert await outcome(store, "a") == "found"


async def test_a_failed_look_up_is_not_remembered(table, clock):
    store = made(table, clock)
    table.away = True
    assert await outcome(store, "a") == "unavailable"
    table.away = False
    table.put("a")
    assert await outcome(store, "a") == "found"


async def outcome(store: KeyStore, key_id: str) -> str:
    try:
        return "absent" if await store.find(key_id) is None else "found"
    except Unavailable:
        return "unavailable"


async def test_last_use_is_written_in_batches_and_kept_while_it_cannot_be():
    written, away = [], [True]

    async def write(used) -> None:
        if away[0]:
            raise Unavailable("away")
        written.append({key: at.timestamp() for key, at in used.items()})

    used = LastUsed(write)
    for second in range(100):
        used.note("a", 1000 + second)
    await used.flush()
    used.note("b", 2000)
    away[0] = False
    await used.flush()
    await used.flush()
    assert written == [{"a": 1099, "b": 2000}]
