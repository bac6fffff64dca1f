"""A Python process beside the test, with an event loop of its own: it answers each line with a line of JSON."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psutil

Command = Callable[..., Awaitable[Any]]


class Child:
    """`python -m module arguments…`, killed at the end of the `with`. Its first line says that it is ready."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
        )
        self.process = psutil.Process(self._process.pid)
        self.ready = self.hear()

    def ask(self, *words: object) -> Any:
        """The answer to one command. Raises AssertionError if the process ends instead."""
        self.tell(*words)
        return self.hear()

    def tell(self, *words: object) -> None:
        """One command, whose answer is heard later."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} ended with {self._process.wait()}"
        return json.loads(line)

    @property
    def cpu(self) -> float:
        """Seconds used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        return int(self.process.memory_info().rss)

    def kill(self) -> None:
        """kill -9."""
        self._process.send_signal(signal.SIGKILL)
        self._end()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


async def answer(ready: Any, commands: Mapping[str, Command]) -> None:
    """In the child: say that it is ready, then run command after command until nobody asks any more."""
    tell(ready)
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = line.split()
        tell(await commands[name](*arguments))


def tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
