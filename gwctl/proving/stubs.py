"""Stubs for upstreams: one server, a port for each of them; every answer says what was asked for."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self

SEEN: Final = b"x-stub-"
"""How the names of the headers begin in which a stub tells what it saw: `path`, `host`, `name`."""


class Stubs:
    """`ports` by upstream, from construction on. Every answer is 200 with JSON: `upstream method path host headers`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(tuple(dict.fromkeys(names))), self._loop)
        self.ports: Mapping[str, int] = started.result(20)

    async def _start(self, names: tuple[str, ...]) -> dict[str, int]:
        found = {}
        for name in names:
            server = await self._loop.create_server(lambda name=name: Stub(name), "127.0.0.1", 0)  # type: ignore[misc]
            self._servers.append(server)
            found[name] = int(server.sockets[0].getsockname()[1])
        return found

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Stub(asyncio.Protocol):
    """HTTP/1.1 as Envoy speaks it: a head, then a body by its length or in chunks, one request after the other."""

    def __init__(self, name: str) -> None:
        self.name, self.buffer = name, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, rest = self.buffer[:end], self.buffer[end + 4 :]
            line, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
            whole = body_end(rest, headers)
            if whole is None:
                return
            self.buffer = rest[whole:]
            self.transport.write(answer(self.name, line, headers))


def body_end(rest: bytes, headers: Mapping[str, str]) -> int | None:
    """Where the next request begins; None while the body is not whole."""
    if headers.get("transfer-encoding") == "chunked":
        end = rest.find(b"0\r\n\r\n")
        return None if end < 0 else end + 5
    length = int(headers.get("content-length", "0"))
    return length if len(rest) >= length else None


def answer(name: str, line: str, headers: Mapping[str, str]) -> bytes:
    method, path, _ = line.split(" ", 2)
    host = headers.get("host", "")
    saw = {"upstream": name, "method": method, "path": path, "host": host, "headers": dict(headers)}
    body = b"" if method == "HEAD" else json.dumps(saw).encode()
    told = {"name": name, "path": path, "host": host}
    lines = b"".join(SEEN + key.encode() + b": " + value.encode("latin-1") + b"\r\n" for key, value in told.items())
    kind = b"content-type: application/json\r\n"
    return b"HTTP/1.1 200 OK\r\n" + kind + lines + b"content-length: %d\r\n\r\n" % len(body) + body
