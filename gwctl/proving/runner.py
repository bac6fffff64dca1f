"""Runs a gateway on a real Envoy of this machine and tells what becomes of requests."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import argon2
import httpx

from gateway.explain import Asked
from gateway.match import Index, index, route_for
from gateway.model import Gateway
from gateway.passwords import MEMORY_COST, PARALLELISM, TIME_COST
from gateway.resolve import ResolvedRoute
from gateway.secrets import referenced
from gwctl.proving.credentials import PASSWORD, Purse, Signer
from gwctl.proving.decisions import PEPPER, Decisions
from gwctl.proving.stubs import SEEN, Stubs
from gwctl.proving.surroundings import key_name, surrounded
from gwctl.proving.telling import telling
from gwctl.proving.wire import Answer, ask, wire
from gwctl.throwaway import stand_ins
from gwctl.up.process import Process, free_port
from xds_server.compiler import HmacKey, Secret, Settings, compile  # noqa: A004
from xds_server.compiler.inline import bootstrap
from xds_server.validate import find_envoy

UNDECIDED: Final = frozenset({"ext_authz_error", "rate_limiter_error"})
"""Response code details of Envoy's when the decision service did not answer in time."""

TRIES: Final = 3
PAUSE: Final = 0.5  # seconds
OPTIONS: Final = ("--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "error")


@dataclass(frozen=True, slots=True)
class Observed:
    """What Envoy did. `route`: its name in Envoy, "" where none was chosen; `upstream`: whose stub answered.

    `upstream_path`, `upstream_host`: what the stub was asked for. `headers` of the answer, names in lower case.
    """

    status: int
    route: str
    details: str
    headers: Mapping[str, str]
    upstream: str | None = None
    upstream_path: str | None = None
    upstream_host: str | None = None

    @classmethod
    def of(cls, answer: Answer) -> "Observed":
        status, raw = answer
        headers = {name.decode("latin-1"): value.decode("utf-8", "surrogateescape") for name, value in raw.items()}
        stub = SEEN.decode()
        return cls(
            status=status,
            route=headers.get("x-seen-route", ""),
            details=headers.get("x-seen-details", ""),
            headers=headers,
            upstream=headers.get(f"{stub}name"),
            upstream_path=headers.get(f"{stub}path"),
            upstream_host=headers.get(f"{stub}host"),
        )


class Unrunnable(RuntimeError):  # noqa: N818 - a state of this machine
    """There is no Envoy here, or it does not take this gateway."""


class Runner:
    """A gateway in surroundings of its own, ready to be asked. Starts in a second or so; close it.

    `signers`: providers that keep the keys that they have, and who signs for them; `store`: more of the secret store.
    `now`: milliseconds since the epoch, what limits are counted by.
    """

    def __init__(
        self,
        directory: Path,
        gateway: Gateway,
        *,
        signers: Mapping[str, Signer] | None = None,
        store: Mapping[str, Secret] | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        own, self._directory = dict(signers or {}), directory
        self._closing = ExitStack()
        with ExitStack() as undo:
            undo.enter_context(self._closing)
            stubs = self._closing.enter_context(Stubs(gateway.upstreams))
            ports = {name: free_port() for name in gateway.listeners}
            self.gateway = surrounded(gateway, ports, stubs.ports, frozenset(own))
            ours = {name: secrets.token_bytes(32) for name in gateway.jwt_providers if name not in own}
            self._secrets = stand_ins(referenced(self.gateway)) | dict(store or {})
            self._secrets |= {key_name(name): HmacKey(key) for name, key in ours.items()}
            self._purse = Purse(self.gateway, own | {name: Signer("HS256", key) for name, key in ours.items()}, PEPPER)
            self._users = directory / "users"
            self._users.mkdir(exist_ok=True)
            more = {"now": now} if now is not None else {}
            self._decisions = Decisions(self.gateway, self._purse.records, self._users, **more)
            self._closing.callback(self._decisions.close)
            self.index: Index = index(self.gateway)
            self._start()
            undo.pop_all()

    def _start(self) -> None:
        envoy = find_envoy()
        if envoy is None:
            raise Unrunnable("no Envoy is installed here")
        settings = Settings(decisions=(("127.0.0.1", self._decisions.port),))
        compiled = compile(self.gateway, settings, self._secrets)
        admin = free_port()
        config = self._directory / "proving.pb"
        config.touch(0o600)
        messages = [telling(message) for message in compiled.messages]
        config.write_bytes(bootstrap(messages, admin=("127.0.0.1", admin)).SerializeToString())
        command = [str(envoy), "--config-path", str(config), *OPTIONS]
        process = Process("envoy", command, self._directory / "proving.log", ready=lambda: ready(admin))
        self._closing.callback(process.stop)
        process.start()

    def ask(self, asked: Sequence[Asked]) -> Iterator[Observed]:
        """What becomes of each, in order. Each must name its listener. Raises Unprovable."""
        for (listener, tls), group in groupby(asked, key=lambda one: (one.request.listener or "", self._sni(one))):
            requests = [wire(self._purse.carried(one, self._route(one))) for one in group]
            self._write_users()
            yield from self._answers(self.gateway.listeners[listener].port, requests, tls)

    def _answers(self, port: int, requests: Sequence[bytes], tls: str | None) -> Iterator[Observed]:
        """Who is not decided about in time is asked again: then this machine was busy, and nothing is known."""
        for request, answer in zip(requests, ask(port, requests, tls), strict=True):
            observed, tries = Observed.of(answer), TRIES
            while observed.details in UNDECIDED and tries:
                time.sleep(PAUSE)
                observed, tries = Observed.of(next(iter(ask(port, [request], tls)))), tries - 1
            yield observed

    def _sni(self, asked: Asked) -> str | None:
        secure = self.gateway.listeners[asked.request.listener or ""].protocol == "HTTPS"
        return (asked.sni or asked.request.host.partition(":")[0]) if secure else None

    def _route(self, asked: Asked) -> ResolvedRoute | None:
        return route_for(self.index, asked.request).route

    def _write_users(self) -> None:
        for name, users in self._purse.users.items():
            (self._users / name).write_text("".join(f"{user}:{hashed(PASSWORD)}\n" for user in sorted(users)))

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@cache
def hashed(password: str) -> str:
    hasher = argon2.PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)
    return hasher.hash(password)


def ready(admin: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin}/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False
