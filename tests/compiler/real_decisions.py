"""The real decision service on a real gRPC server, with keys in a dictionary and counters in memory: no database."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

import grpc
from prometheus_client import CollectorRegistry

from gateway.model import Gateway
from policy.authz import keys
from policy.authz.identity import KeyRecord
from policy.authz.lastused import LastUsed
from policy.authz.service import Authorization
from policy.authz.users import Users
from policy.metrics import Metrics
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.service import RateLimit
from policy.view import PolicyView, Views

PEPPER = b"a pepper of thirty-two bytes ...."


class Keys:
    """A key table in memory, as the service sees it."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    async def find(self, key_id: str) -> KeyRecord | None:
        return self.records.get(key_id)

    def make(self, consumer: str, tier: str = "free", scopes: tuple[str, ...] = ()) -> str:
        minted = keys.mint(PEPPER)
        self.records[minted.id] = KeyRecord(minted.id, consumer, tier, scopes, minted.digest, 1)
        return minted.text


class RealDecisions:
    """Serves on `port` from construction on, in a thread with a loop of its own. `view` says by which gateway."""

    def __init__(self, secrets: Path) -> None:
        self.keys, self.views = Keys(), Views()
        self._secrets = secrets
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = self._run(self._start())

    def view(self, gateway: Gateway) -> None:
        self.views.current = PolicyView.of(gateway)

    async def _start(self) -> int:
        self._users = Users(self._secrets)
        metrics = Metrics(CollectorRegistry())
        table: Any = self.keys
        authorization = Authorization(self.views, table, LastUsed(_nowhere), {1: PEPPER}, metrics, self._users)
        limits = RateLimit(self.views, MemoryStore(), metrics)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((authorization.handler(), limits.handler()))
        port: int = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def _stop(self) -> None:
        await self._server.stop(0)
        self._users.close()

    def _run(self, work: Any) -> Any:
        started: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return started.result(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _nowhere(used: Any) -> None:
    """When keys were last used is not kept."""
