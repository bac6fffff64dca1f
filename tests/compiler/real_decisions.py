"""The real decision service on a real gRPC server, with keys in a dictionary and counters in memory: no database.

Its response cache is in memory too, or in a Valkey that is there.
"""

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
from policy.cache import store as cache_stores
from policy.cache.library import Library
from policy.cache.processor import ResponseCache
from policy.cache.valkey import ValkeyStore as ValkeyCache
from policy.metrics import Metrics
from policy.ratelimit.memory import MemoryStore
from policy.ratelimit.service import RateLimit
from policy.transport import grpcio
from policy.view import PolicyView, Views

PEPPER = b"a pepper of thirty-two bytes ...."


class Keys:
    """A key table in memory, as the service sees it."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    def remembered(self, key_id: str) -> KeyRecord | None:
        return self.records.get(key_id)

    async def find(self, key_id: str) -> KeyRecord | None:
        return self.remembered(key_id)

    def make(self, consumer: str, tier: str = "free", scopes: tuple[str, ...] = ()) -> str:
        minted = keys.mint(PEPPER)
        self.records[minted.id] = KeyRecord(minted.id, consumer, tier, scopes, minted.digest, 1)
        return minted.text


class RealDecisions:
    """Serves on `port` from construction on, in a thread with a loop of its own. `view` says by which gateway."""

    def __init__(self, secrets: Path, valkey_url: str | None = None) -> None:
        self.keys, self.views = Keys(), Views()
        self._secrets = secrets
        self._valkey_url = valkey_url
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
        limits = RateLimit(self.views, MemoryStore(), metrics)
        authorization = Authorization(self.views, table, LastUsed(_nowhere), {1: PEPPER}, metrics, self._users, limits)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._library = Library(ValkeyCache(self._valkey_url) if self._valkey_url else cache_stores.MemoryStore())
        cache = ResponseCache(self._library, metrics)
        methods = grpcio.handlers((authorization.method(), limits.method()))
        self._server.add_generic_rpc_handlers((*methods, cache.handler()))
        port: int = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    def hang_up(self) -> None:
        """Nobody is answered any more."""
        self._run(self._server.stop(0))

    async def _stop(self) -> None:
        await self._server.stop(0)
        await self._library.close()
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
