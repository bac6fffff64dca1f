"""Counters in memory and in a real Valkey: the same operations give the same answers."""

import asyncio
import multiprocessing
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from valkey import Valkey as Client

from gwctl.up.valkey import Valkey
from policy.ratelimit import pace
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.store import FIXED, GCRA, LARGEST, LOG, SLIDING, Counter, Unavailable
from policy.ratelimit.valkey import ValkeyStore
from policy.ratelimit.window import State

HOUR = 3_600_000
START = 1_800_000_000_000


def counter(
    key="rl:k", *, limit=10, length=HOUR, need=1, charge=None, enforced=True, burst=0, algorithm=SLIDING, denied=False
) -> Counter:
    algorithm = GCRA if burst else algorithm
    return Counter(key, length, limit, need, need if charge is None else charge, enforced, burst, algorithm, denied)


def refund(of: Counter, hits: int) -> Counter:
    return of._replace(need=0, charge=-hits)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@pytest.fixture(params=["memory", "valkey"])
async def store(request, valkey: Valkey):
    clock = Clock()
    if request.param == "memory":
        made = MemoryStore(clock)
    else:
        with Client(unix_socket_path=str(valkey.socket)) as client:
            client.flushall()
        made = ValkeyStore(valkey.url, now=clock, timeout=5)
    made.clock = clock
    yield made
    await made.close()


async def test_exactly_the_limit_is_admitted_and_then_refused(store):
    taken = [await store.take([counter(limit=5)], 5) for _ in range(7)]
    assert [t.admitted for t in taken] == [True] * 5 + [False] * 2
    assert [t.readings[0].state.current for t in taken] == [1, 2, 3, 4, 5, 5, 5]


async def test_a_window_later_the_key_is_free_again(store):
    for _ in range(5):
        await store.take([counter(limit=5)], 5)
    store.clock.now += 2 * HOUR
    assert (await store.take([counter(limit=5)], 5)).admitted


async def test_one_limit_over_charges_none_of_them(store):
    await store.take([counter("rl:narrow", limit=1)], 5)
    refused = await store.take([counter("rl:wide", limit=10), counter("rl:narrow", limit=1)], 5)
    assert not refused.admitted
    assert [reading.over for reading in refused.readings] == [False, True]
    assert (await store.take([counter("rl:wide", charge=0)], 5)).readings[0].state.current == 0


async def test_a_shadow_limit_never_refuses_and_counts_what_it_would_have_admitted(store):
    shadow = counter("rl:shadow", limit=2, enforced=False)
    taken = [await store.take([shadow, counter("rl:real", limit=4)], 5) for _ in range(5)]
    assert [t.admitted for t in taken] == [True] * 4 + [False]
    assert [t.readings[0].over for t in taken] == [False, False, True, True, True]
    assert taken[-1].readings[0].state.current == 2


async def test_asking_changes_nothing(store):
    for _ in range(3):
        taken = await store.take([counter(limit=2, need=1, charge=0)], 5)
    assert taken.admitted
    assert taken.readings[0].state == State(START // HOUR, 0, 0)


async def test_who_asks_is_refused_when_nothing_is_left(store):
    await store.take([counter(limit=2, need=2)], 5)
    assert not (await store.take([counter(limit=2, charge=0)], 5)).admitted


async def test_the_largest_need_is_refused_and_a_limit_of_zero_refuses_everything(store):
    assert not (await store.take([counter(limit=2**32 - 1, need=LARGEST)], 5)).admitted
    assert not (await store.take([counter("rl:zero", limit=0)], 5)).admitted
    assert (await store.take([counter(limit=2**32 - 1, need=2**32 - 1)], 5)).admitted


async def test_many_at_once_get_the_limit_and_no_more(store):
    taken = await asyncio.gather(*(store.take([counter(limit=300)], 5) for _ in range(700)))
    assert sum(t.admitted for t in taken) == 300


async def test_a_burst_comes_at_once_and_then_the_limit_evenly(store):
    paced = counter(limit=60, length=60_000, burst=5)
    assert [(await store.take([paced], 5)).admitted for _ in range(7)] == [True] * 5 + [False] * 2
    store.clock.now += 999
    assert not (await store.take([paced], 5)).admitted
    store.clock.now += 1
    assert [(await store.take([paced], 5)).admitted for _ in range(2)] == [True, False]


async def test_no_stretch_of_the_length_sees_more_than_limit_and_burst(store):
    paced = counter(limit=30, length=60_000, burst=4)
    admitted = []
    for _ in range(400):
        if (await store.take([paced], 5)).admitted:
            admitted.append(store.clock.now)
        store.clock.now += 500
    assert max(sum(start <= at < start + 60_000 for at in admitted) for start in admitted) <= 34
    assert len(admitted) >= 400 * 500 * 30 // 60_000


@pytest.mark.parametrize("algorithm", [SLIDING, FIXED, LOG])
async def test_each_algorithm_admits_the_limit_and_lets_again_when_it_says(store, algorithm):
    one = counter(limit=3, length=60_000, algorithm=algorithm)
    taken = [await store.take([one], 5) for _ in range(5)]
    assert [t.admitted for t in taken] == [True] * 3 + [False] * 2
    wait = pace.wait(one, taken[-1].readings[0].state, taken[-1].now, 1)
    store.clock.now += wait - 1
    assert not (await store.take([one], 5)).admitted
    store.clock.now += 1
    assert (await store.take([one], 5)).admitted


@pytest.mark.parametrize("changes", [{}, {"algorithm": FIXED}, {"algorithm": LOG}, {"burst": 4}])
async def test_what_is_given_back_can_be_spent_again_and_is_never_more_than_was_charged(store, changes):
    one = counter(limit=4, length=60_000, **changes)
    assert [(await store.take([one], 5)).admitted for _ in range(5)] == [True] * 4 + [False]
    assert (await store.take([refund(one, 1)], 5)).admitted
    assert [(await store.take([one], 5)).admitted for _ in range(2)] == [True, False]
    await store.take([refund(one, LARGEST)], 5)
    assert [(await store.take([one], 5)).admitted for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("changes", [{}, {"algorithm": FIXED}, {"algorithm": LOG}, {"burst": 4}])
async def test_a_charge_without_a_need_is_made_whatever_else_the_request_meets(store, changes):
    one = counter(limit=4, length=60_000, **changes)
    full = counter("rl:full", limit=0)
    taken = await store.take([one._replace(need=0, charge=9), full], 5)
    assert [reading.over for reading in taken.readings] == [False, True]
    assert not (await store.take([one], 5)).admitted
    await store.take([one._replace(need=0, charge=LARGEST)], 5)
    assert not (await store.take([one], 5)).admitted


async def test_a_limit_that_counts_what_it_refuses_stays_shut_for_who_keeps_knocking(store):
    one, patient = counter(limit=2, length=1000, denied=True), counter("rl:p", limit=2, length=1000)
    for _ in range(10):
        await store.take([one], 5)
        await store.take([patient], 5)
    store.clock.now += 1000 - store.clock.now % 1000 + 600
    assert not (await store.take([one], 5)).admitted
    assert (await store.take([patient], 5)).admitted


async def test_an_entry_of_a_log_is_forgotten_when_it_is_as_old_as_the_window(store):
    one = counter(limit=3, length=1000, algorithm=LOG)
    admitted = []
    for _ in range(200):
        if (await store.take([one], 5)).admitted:
            admitted.append(store.clock.now)
        store.clock.now += 70
    assert max(sum(at - 1000 < other <= at for other in admitted) for at in admitted) == 3
    assert len(admitted) >= 200 * 70 * 3 // 1000 - 3


def counted_apart(operation) -> tuple:
    key, length, _, _, _, (algorithm, burst), *_ = operation
    return key, length, kept_as(algorithm, burst)


def kept_as(algorithm: int, burst: int) -> str:
    return "b" if burst else "l" if algorithm == LOG else ""


operations = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 300), st.integers(-1500, 5000)),  # the clock's step; it may go back
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c"]),
                st.sampled_from([1000, 60_000]),
                st.one_of(st.integers(0, 8), st.just(2**32 - 1)),
                st.one_of(st.integers(-4, 4), st.just(LARGEST), st.just(-LARGEST)),
                st.booleans(),
                st.sampled_from(
                    [(SLIDING, 0), (FIXED, 0), (LOG, 0), (LOG, 0), (GCRA, 1), (GCRA, 6), (GCRA, 1_000_000)]
                ),
                st.sampled_from(["charge", "charge", "charge", "settle"]),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
            unique_by=counted_apart,
        ),
    ),
    max_size=40,
)


def asked(wanted) -> Counter:
    key, length, limit, hits, enforced, (algorithm, burst), kind, denied = wanted
    return counter(
        f"rl:{key}{length}{kept_as(algorithm, burst)}",
        length=length,
        limit=max(limit, 1) if burst else min(limit, 10_000) if algorithm == LOG else limit,
        need=0 if kind == "settle" or hits < 0 else max(hits, 1),
        charge=hits,
        enforced=enforced,
        burst=burst,
        algorithm=algorithm,
        denied=denied and algorithm in (SLIDING, FIXED),
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_memory_and_valkey_agree(valkey, ops):
    async def both() -> None:
        clock = Clock()
        memory, shared = MemoryStore(clock), ValkeyStore(valkey.url, now=clock, timeout=5)
        try:
            await shared._server._client.flushall()
            for step, wanted in ops:
                clock.now += step
                counters = [asked(one) for one in wanted]
                assert await memory.take(counters, 5) == await asked_anew(shared, counters)
        finally:
            await shared.close()

    asyncio.run(both())


async def asked_anew(store: ValkeyStore, counters):
    """The script's answer itself: what is remembered of refusals is looked at in a test of its own."""
    store._denials._denials.clear()
    return await store.take(counters, 5)


# ------------------------------------------------------------------------------------------------- Valkey alone
async def test_valkey_keeps_its_own_time_and_forgets_keys(valkey):
    store = ValkeyStore(valkey.url, timeout=5)
    try:
        taken = await store.take([counter("rl:ttl", length=1000)], 5)
        assert abs(taken.now - time.time() * 1000) < 5000
        assert 0 < await store._server._client.pttl("rl:ttl") <= 2000
    finally:
        await store.close()


async def test_one_turn_of_the_event_loop_is_one_round_trip(valkey):
    store = ValkeyStore(valkey.url, timeout=5)
    try:
        await store.take([counter("rl:warm")], 5)
        before = (await store._server._client.info("stats"))["total_reads_processed"]
        await asyncio.gather(*(store.take([counter(f"rl:turn{n}")], 5) for n in range(100)))
        after = (await store._server._client.info("stats"))["total_reads_processed"]
        assert after - before <= 3  # the batch, which may come in two reads, and INFO itself
    finally:
        await store.close()


async def test_a_refused_key_needs_no_round_trip_until_its_window_allows(valkey):
    clock = Clock()
    store = ValkeyStore(valkey.url, now=clock, timeout=5)
    other = ValkeyStore(valkey.url, now=clock, timeout=5)
    key, wide = counter("rl:loud", limit=2, length=1000), counter("rl:loud-wide", limit=100)
    try:
        await other.take([key._replace(need=2, charge=2)], 5)
        first = await store.take([wide, key], 5)
        calls = await evalsha_calls(store)
        clock.now += 300
        again = await store.take([wide, key], 5)
        assert (first.admitted, again.admitted) == (False, False)
        assert again == await asked_anew(store, [wide, key])
        assert await evalsha_calls(store) == calls + 1  # the one of asked_anew
        clock.now += 2000
        assert (await store.take([wide, key], 5)).admitted
    finally:
        await store.close()
        await other.close()


async def test_a_refund_ends_a_refusal_here_at_once_and_elsewhere_within_a_second(valkey):
    clock = Clock()
    here, there = (ValkeyStore(valkey.url, now=clock, timeout=5) for _ in range(2))
    one = counter("rl:refunded", limit=1)
    try:
        await here.take([one], 5)
        for store in (here, there):
            assert not (await store.take([one], 5)).admitted
        await here.take([refund(one, 1)], 5)
        assert (await here.take([one], 5)).admitted
        await here.take([refund(one, 1)], 5)
        clock.now += 1000
        assert (await there.take([one], 5)).admitted
    finally:
        await here.close()
        await there.close()


async def evalsha_calls(store: ValkeyStore) -> int:
    return int((await store._server._client.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_a_flushed_script_is_loaded_again(valkey):
    store = ValkeyStore(valkey.url, timeout=5)
    try:
        await store.take([counter("rl:flush")], 5)
        await store._server._client.script_flush()
        results = await asyncio.gather(*(store.take([counter("rl:flush", limit=1000)], 5) for _ in range(300)))
        assert results[-1].readings[0].state.current == 301
    finally:
        await store.close()


async def test_full_memory_is_unavailable_and_nothing_is_half_written(valkey):
    store = ValkeyStore(valkey.url, timeout=5)
    try:
        await store.take([counter("rl:before")], 5)
        await store._server._client.config_set("maxmemory", 1)
        with pytest.raises(Unavailable):
            await store.take([counter("rl:full-a"), counter("rl:full-b")], 5)
        assert not store.available
        await store._server._client.config_set("maxmemory", "256mb")
        await until(lambda: store.available)
        assert await store._server._client.exists("rl:full-a", "rl:full-b") == 0
        assert (await store.take([counter("rl:full-a")], 5)).admitted
    finally:
        await store._server._client.config_set("maxmemory", "256mb")
        await store.close()


def _spend(url: str, key: str, tries: int, results) -> None:
    async def run() -> int:
        store = ValkeyStore(url, timeout=10)
        try:
            taken = await asyncio.gather(*(store.take([counter(key, limit=500)], 20) for _ in range(tries)))
            return sum(t.admitted for t in taken)
        finally:
            await store.close()

    results.put(asyncio.run(run()))


def test_several_processes_together_never_pass_the_limit(valkey):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_spend, args=(valkey.url, "rl:shared", 400, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    admitted = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(10)
    assert sum(admitted) == 500


async def test_killed_and_started_again(tmp_path):
    server = Valkey(tmp_path)
    server.start()
    store = ValkeyStore(server.url)
    try:
        assert (await store.take([counter()], 5)).admitted
        server.kill9()
        for _ in range(50):
            with pytest.raises(Unavailable):
                await store.take([counter()], 5)
        server.start()
        await until(lambda: store.available)
        assert (await store.take([counter()], 5)).admitted
    finally:
        await store.close()
        server.stop()


async def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


async def test_a_full_memory_store_says_so_instead_of_lifting_limits():
    clock = Clock()
    store = MemoryStore(clock, max_keys=3)
    for n in range(3):
        await store.take([counter(f"rl:{n}")], 5)
    with pytest.raises(Unavailable):
        await store.take([counter("rl:3")], 5)
    clock.now += 2 * HOUR
    assert (await store.take([counter("rl:3")], 5)).admitted
