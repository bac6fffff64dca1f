"""A load generator for one core: keep-alive HTTP/1.1 connections, one request in flight on each, counted by status."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

REQUESTS_A_CONNECTION = 5_000  # Envoy closes one after 10,000


@dataclass(frozen=True)
class Load:
    seconds: float
    statuses: Counter[int]
    latencies: list[float]

    @property
    def per_second(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))] * 1000


async def load(port: int, path: str, headers: dict[str, str], *, connections: int, seconds: float) -> Load:
    """Requests to 127.0.0.1:`port` for `seconds`, from `connections` callers that never pause."""
    lines = [f"GET {path} HTTP/1.1", "host: bench", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    request = "\r\n".join(lines).encode()
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    started = time.perf_counter()

    async def caller() -> None:
        while time.perf_counter() < started + seconds:
            await connection()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(REQUESTS_A_CONNECTION):
            if (sent := time.perf_counter()) >= started + seconds:
                break
            writer.write(request)
            status = await read_answer(reader)
            statuses[status] += 1
            latencies.append(time.perf_counter() - sent)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(caller() for _ in range(connections)))
    return Load(time.perf_counter() - started, statuses, latencies)


async def read_answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.find(b"content-length:")
    if length >= 0:
        await reader.readexactly(int(head[length + 15 : head.index(b"\r\n", length)]))
    elif b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    return int(head[9:12])
