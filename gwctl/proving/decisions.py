"""The decision service in this process: keys in a dictionary, counters in memory under a clock that may be ours."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, Final

import grpc
from prometheus_client import CollectorRegistry

from gateway.model import Gateway
from policy.authz.identity import KeyRecord
from policy.authz.lastused import LastUsed
from policy.authz.service import Authorization
from policy.authz.users import Users
from policy.metrics import Metrics
from policy.ratelimit.memory import MemoryStore, clock
from policy.ratelimit.service import RateLimit
from policy.transport import grpcio
from policy.view import PolicyView, Views

PEPPER: Final = b"a pepper for what is of no worth"
PEPPER_VERSION: Final = 1


class Keys:
    """A key table in memory, as the service sees it."""

    def __init__(self, records: Mapping[str, KeyRecord]) -> None:
        self._records = records

    def remembered(self, key_id: str) -> KeyRecord | None:
        return self._records.get(key_id)

    async def find(self, key_id: str) -> KeyRecord | None:
        return self.remembered(key_id)


class Decisions:
    """Serves `gateway` on `port` from construction on, in a thread with a loop of its own.

    `now`: milliseconds since the epoch, for limits. `users`: the directory with files of users.
    """

    def __init__(
        self, gateway: Gateway, records: Mapping[str, KeyRecord], users: Path, now: Callable[[], int] = clock
    ) -> None:
        self._views = Views(PolicyView.of(gateway))
        self._users, self._now, self._keys = Users(users), now, Keys(records)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = self._run(self._start())

    async def _start(self) -> int:
        metrics = Metrics(CollectorRegistry())
        table: Any = self._keys
        limits = RateLimit(self._views, MemoryStore(self._now), metrics)
        peppers = {PEPPER_VERSION: PEPPER}
        checks = Authorization(self._views, table, LastUsed(_nowhere), peppers, metrics, self._users, limits)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(tuple(grpcio.handlers((checks.method(), limits.method()))))
        port: int = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def _stop(self) -> None:
        await self._server.stop(0)
        self._users.close()

    def _run(self, work: Any) -> Any:
        started: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return started.result(20)

    def close(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _nowhere(used: Any) -> None:
    """When keys were last used is not kept."""
