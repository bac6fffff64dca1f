"""Coroutines that start at once, and deadlines that share a timer."""

import asyncio
import time

import pytest

from policy.transport.deadlines import Deadlines
from policy.transport.work import Work
from tests.policy.rig import until


class Outcome:
    def __init__(self) -> None:
        self.ended: list[Work[object]] = []

    async def start(self, coroutine) -> Work[object]:
        """Run for the first time by a callback of the loop, as a transport does."""
        work: Work[object] = Work(asyncio.get_running_loop(), coroutine, self.ended.append)
        asyncio.get_running_loop().call_soon(work.run)
        await asyncio.sleep(0)
        return work

    async def of(self, coroutine) -> Work[object]:
        return await self.end(await self.start(coroutine))

    async def end(self, work: Work[object]) -> Work[object]:
        await until(lambda: work.done)
        assert self.ended == [work]
        return work


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


async def test_what_needs_no_waiting_has_ended_when_run_returns(outcome):
    async def decide() -> int:
        return 7

    assert (await outcome.start(decide())).value == 7
    assert len(outcome.ended) == 1


async def test_what_must_wait_waits(outcome):
    future = asyncio.get_running_loop().create_future()

    async def decide() -> int:
        await asyncio.sleep(0)
        return 1 + await future

    work = await outcome.start(decide())
    assert not work.done
    await asyncio.sleep(0.01)
    future.set_result(1)
    await outcome.end(work)
    assert (work.value, work.error) == (2, None)


async def test_errors_of_what_it_waits_for_arrive_where_it_waits(outcome):
    future = asyncio.get_running_loop().create_future()

    async def decide() -> str:
        try:
            await future
        except KeyError as error:
            return repr(error)
        raise AssertionError

    work = await outcome.start(decide())
    future.set_exception(KeyError("a"))
    await asyncio.sleep(0.01)
    assert work.value == "KeyError('a')"


async def test_its_own_errors_are_kept(outcome):
    async def decide() -> None:
        raise ValueError

    assert isinstance((await outcome.of(decide())).error, ValueError)


async def test_a_timeout_ends_what_takes_too_long(outcome):
    async def decide() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(30)
        except TimeoutError:
            return "late"
        return ""

    work = await outcome.of(decide())
    assert (work.value, work.cancelling()) == ("late", 0)


async def test_asyncios_tools_work_in_it(outcome):
    async def decide() -> list[int]:
        lock, loop = asyncio.Lock(), asyncio.get_running_loop()

        async def one(number: int) -> int:
            async with lock:
                await asyncio.sleep(0.001)
            return number

        async with asyncio.TaskGroup() as group:
            third = group.create_task(one(3))
        return [
            *await asyncio.gather(one(1), one(2)),
            await third,
            await asyncio.wait_for(one(4), 5),
            await loop.run_in_executor(None, lambda: 5),
        ]

    assert (await outcome.of(decide())).value == [1, 2, 3, 4, 5]


async def test_cancelled_while_it_waits(outcome):
    cleaned = []

    async def decide() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    work = await outcome.start(decide())
    assert work.cancel()
    await outcome.end(work)
    assert isinstance(work.error, asyncio.CancelledError)
    assert cleaned
    assert not work.cancel()


async def test_cancelled_between_two_turns(outcome):
    async def decide() -> None:
        await asyncio.sleep(0)
        raise AssertionError

    work = await outcome.start(decide())
    work.cancel()
    await outcome.end(work)
    assert isinstance(work.error, asyncio.CancelledError)


async def test_it_is_the_current_task_and_only_while_it_runs(outcome):
    seen = []

    async def decide() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    work = await outcome.of(decide())
    assert seen == [work, work]
    assert asyncio.current_task() is not work


class Thing:
    done = False


async def test_deadlines_ring_in_their_order_and_not_for_what_is_done():
    deadlines, rung = Deadlines(asyncio.get_running_loop()), []
    now = asyncio.get_running_loop().time()
    things = {name: Thing() for name in "abcd"}
    for name, after in (("a", 0.06), ("b", 0.02), ("c", 0.04), ("d", 30)):
        deadlines.add(now + after, things[name], lambda name=name: rung.append(name))
    things["c"].done = True
    began = time.monotonic()
    await until(lambda: len(rung) == 2)
    assert rung == ["b", "a"]
    assert 0.05 < time.monotonic() - began < 5
    deadlines.close()


async def test_a_deadline_that_has_passed_rings_soon():
    deadlines, rung = Deadlines(asyncio.get_running_loop()), []
    deadlines.add(0, Thing(), lambda: rung.append(1))
    await asyncio.sleep(0.1)
    assert rung == [1]
    deadlines.close()
