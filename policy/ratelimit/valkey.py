"""Counters in Valkey, shared by every decision service that uses it.

All requests that arrive in one turn of the event loop travel in one round trip. When Valkey fails, callers hear
Unavailable at once while a probe tries to reach it again: nobody waits for a server that is known to be gone.

A script runs on the counters of one slot. In a cluster a request's counters may lie in several; see `policy.ratelimit.
slots` for what is given up then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import structlog
from valkey.exceptions import NoScriptError

from policy.ratelimit import script, slots
from policy.ratelimit.denials import Denials, monotonic
from policy.ratelimit.store import Counter, Taken, Unavailable
from policy.valkey.connection import Command, connect

log = structlog.get_logger(__name__)

BATCH: Final = 128
"""Requests in one run of the script: Valkey does nothing else meanwhile, so a run must stay short."""
IN_FLIGHT: Final = 2
"""Round trips at once. While they are out, requests gather for the next one."""
WAITING: Final = 20_000
PROBE_EVERY: Final = 0.1


class _Ask(NamedTuple):
    counters: Sequence[Counter]
    answer: "asyncio.Future[Taken]"


class ValkeyStore:
    """`url`: see `policy.valkey.address`. `timeout`: seconds that one round trip may take.

    `now` (milliseconds) replaces the server's clock, for tests. Belongs to the event loop that it is first used in.
    """

    def __init__(self, url: str, *, timeout: float = 0.075, now: Callable[[], int] | None = None) -> None:
        self._server = connect(url, timeout=timeout, connections=IN_FLIGHT + 2, name="tollhouse-decisions")
        self._now = now
        self._denials = Denials(clock=now or monotonic)
        self._waiting: deque[_Ask] = deque()
        self._scheduled = False
        self._trips: set[asyncio.Task[None]] = set()
        self._probe: asyncio.Task[None] | None = None
        self._reason = ""

    @property
    def available(self) -> bool:
        return self._probe is None

    async def take(self, counters: Sequence[Counter], timeout: float) -> Taken:  # noqa: ASYNC109 - see Store
        self._refuse_if_hopeless()
        denied = self._denials.find(counters)
        if denied is not None:
            return denied
        ask = _Ask(counters, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        self._schedule()
        try:
            async with asyncio.timeout(timeout):
                return await ask.answer
        except TimeoutError:
            raise Unavailable("the counters did not answer in time") from None

    async def close(self) -> None:
        tasks = [*self._trips, *([self._probe] if self._probe else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail(self._waiting, "the service is stopping")
        await self._server.close()

    # ------------------------------------------------------------------------------------------------ round trips
    def _refuse_if_hopeless(self) -> None:
        if self._probe is not None:
            raise Unavailable(self._reason)
        if len(self._waiting) >= WAITING:
            raise Unavailable("too many requests wait for the counters")

    def _schedule(self) -> None:
        if not self._scheduled and len(self._trips) < IN_FLIGHT:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        """Sends everybody who waits and still wants an answer; those whose deadline has passed are left behind."""
        self._scheduled = False
        asks = [ask for ask in self._waiting if not ask.answer.done()]
        self._waiting.clear()
        if asks:
            trip = asyncio.get_running_loop().create_task(self._travel(asks))
            self._trips.add(trip)
            trip.add_done_callback(self._arrived)

    def _arrived(self, trip: "asyncio.Task[None]") -> None:
        self._trips.discard(trip)
        if self._waiting:
            self._schedule()

    async def _travel(self, asks: list[_Ask]) -> None:
        asked = self._denials.clock()
        try:
            taken = await self._ask(asks)
        except Exception as error:  # whatever it was, whoever waits must hear it
            self._fail(asks, self._lost(error))
            return
        for ask, decision in zip(asks, taken, strict=True):
            if not decision.admitted:
                self._denials.note(ask.counters, decision, asked)
            if not ask.answer.done():
                ask.answer.set_result(decision)

    async def _ask(self, asks: list[_Ask]) -> list[Taken]:
        requests = [ask.counters for ask in asks]
        return await (slots.decide(requests, self._decide) if self._server.slotted else self._decide(requests))

    async def _decide(self, requests: Sequence[Sequence[Counter]]) -> list[Taken]:
        """Each request atomically, in one round trip; in a cluster the counters of each are of one slot."""
        batches = _batches(requests, slotted=self._server.slotted)
        now = self._now() if self._now else None
        replies = await self._run([[requests[place] for place in batch] for batch in batches], now)
        decided: dict[int, Taken] = {}
        for batch, reply in zip(batches, replies, strict=True):
            decided.update(zip(batch, script.taken(reply, [requests[place] for place in batch]), strict=True))
        return [decided[place] for place in range(len(requests))]

    async def _run(self, batches: list[list[Sequence[Counter]]], now: int | None) -> list[Any]:
        """The script once for each batch, in one round trip; one more when Valkey does not have the script yet."""
        words = [("EVALSHA", script.SHA, *script.arguments(batch, now)) for batch in batches]
        calls = [Command(batch[0][0].key, said) for batch, said in zip(batches, words, strict=True)]
        replies = await self._server.send(calls)
        missed = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missed:
            _raise(await self._server.everywhere("SCRIPT", "LOAD", script.TEXT))
            for place, reply in zip(missed, await self._server.send([calls[place] for place in missed]), strict=True):
                replies[place] = reply
        _raise(replies)
        return replies

    # ---------------------------------------------------------------------------------------------------- failures
    def _lost(self, error: Exception) -> str:
        """Opens the circuit: whoever waits hears it now, whoever comes next at once, until the probe succeeds."""
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if self._probe is None:
            log.warning("counters_lost", reason=reason)
            self._reason = f"the counters cannot be reached: {reason}"
            self._probe = asyncio.get_running_loop().create_task(self._find_again())
        self._fail(self._waiting, self._reason)
        self._waiting.clear()
        return self._reason

    async def _find_again(self) -> None:
        started = time.monotonic()
        while True:
            if await self._answers():
                break
            await asyncio.sleep(PROBE_EVERY)
        self._probe = None
        log.info("counters_found_again", after_seconds=round(time.monotonic() - started, 3))

    async def _answers(self) -> bool:
        """Whether the script runs, without a request in it: each server answers, has room and lets us write."""
        call = ("EVALSHA", script.SHA, *script.arguments([], None))
        try:
            replies = await self._server.everywhere(*call)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                _raise(await self._server.everywhere("SCRIPT", "LOAD", script.TEXT))
                replies = await self._server.everywhere(*call)
            _raise(replies)
        except Exception as error:
            self._reason = f"the counters cannot be reached: {' '.join(str(error).split())[:200]}"
            return False
        return True

    @staticmethod
    def _fail(asks: "Sequence[_Ask] | deque[_Ask]", reason: str) -> None:
        for ask in asks:
            if not ask.answer.done():
                ask.answer.set_exception(Unavailable(reason))


def _raise(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def _batches(requests: Sequence[Sequence[Counter]], *, slotted: bool) -> list[list[int]]:
    """Places of requests that may go into one run of the script."""
    by_slot: dict[int, list[int]] = {}
    for place, counters in enumerate(requests):
        by_slot.setdefault(slots.of(counters[0]) if slotted else 0, []).append(place)
    return [places[at : at + BATCH] for places in by_slot.values() for at in range(0, len(places), BATCH)]
