"""Requests through Envoy from a process of their own for as long as a block lasts, and what became of them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.load import read_answer
from tests.support.child import Child, answer

CONNECTIONS = 4
AFTER = 2_000  # requests a connection is another one: new connections must work too


@dataclass
class Outcome:
    """Known once the block has ended."""

    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.statuses.total()

    @property
    def failed(self) -> int:
        return self.requests - self.statuses["200"]


@contextmanager
def loaded(port: int, path: str, pause: float = 0.0) -> Iterator[Outcome]:
    """`pause` seconds between two requests of each of the callers. Nothing is tried again."""
    outcome = Outcome()
    with Child("tests.support.loaded", port, path, pause) as child:
        yield outcome
        outcome.statuses.update(child.ask("end"))


async def call(port: int, path: str, pause: float, seen: Counter[str]) -> None:
    request = f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(AFTER):
                writer.write(request)
                seen[str(await read_answer(reader))] += 1
                await asyncio.sleep(pause)
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            seen[type(error).__name__] += 1


async def run(port: int, path: str, pause: float) -> None:
    seen: Counter[str] = Counter()
    callers = [asyncio.create_task(call(port, path, pause, seen)) for _ in range(CONNECTIONS)]

    async def end() -> dict[str, int]:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        return dict(seen)

    await answer(True, {"end": end})


if __name__ == "__main__":
    import sys

    asyncio.run(run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
