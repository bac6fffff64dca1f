"""One decision service as several processes, each with an address of its own, and a parent that looks after them.

Python decides on one core; Envoy spreads its questions over addresses, and asks another one when a process is gone. The
parent starts again what dies, restarts one after the other on SIGHUP (each drains and its successor serves before the
next is asked to go), and takes all of them down with itself.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from gwctl.addresses import Address
from gwctl.notify import READY, SERVING, STOPPING, Listener, notify
from gwctl.up.process import Process
from gwctl.up.services import ROOT
from gwctl.up.supervisor import Supervisor

log = structlog.get_logger(__name__)

READY_SECONDS: Final = 30.0
SETTLED: Final = 1.0
"""Seconds from when a process serves until every Envoy knows it: only then may the next one go."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Member:
    """One process. `variables`: what it reads, as `gwctl serve decisions` would by itself."""

    def __init__(
        self,
        address: Address,
        metrics: Address | None,
        streams: Address | None,
        variables: Mapping[str, str],
        socket: Path,
    ) -> None:
        self.name = f"decisions-{address.port}"
        self._listener = Listener(str(socket))
        own = {"TOLLHOUSE_DECISIONS_ADDRESS": str(address), "NOTIFY_SOCKET": str(socket)}
        own |= {"TOLLHOUSE_DECISIONS_METRICS_ADDRESS": str(metrics)} if metrics else {}
        own |= {"TOLLHOUSE_STREAMS_ADDRESS": str(streams)} if streams else {}
        self.process = Process(
            name=self.name,
            command=[sys.executable, "-P", "-m", "gwctl", "serve", "decisions"],
            log=None,
            ready=lambda: self.says(READY),
            environment={**variables, **own},
        )

    def says(self, state: str) -> bool:
        return self._listener.heard(state)

    def stop(self) -> None:
        self.process.stop()
        self._listener.forget()


class Crew:
    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._supervisor = Supervisor(lambda _: None)
        self._signals: list[int] = []

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ProcessError if a process does not start."""
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            for member in self._members:
                self._supervisor.add(member.name, member.process)
            self._supervisor.until_ready([member.name for member in self._members], READY_SECONDS)
            notify(READY)
            self._supervisor.run(lambda: bool(self._signals) or all(member.says(SERVING) for member in self._members))
            notify(SERVING)
            self._look_after()
        finally:
            notify(STOPPING)
            self._supervisor.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _look_after(self) -> None:
        while True:
            self._supervisor.run(lambda: bool(self._signals))
            if self._signals.pop(0) != signal.SIGHUP:
                return
            self._replace()

    def _replace(self) -> None:
        for member in self._members:
            log.info("replacing", part=member.name)
            member.stop()
            member.process.spawn()
            self._supervisor.run(lambda one=member: one.says(SERVING) or bool(self._signals))  # type: ignore[misc]
            settled = time.monotonic() + SETTLED
            self._supervisor.run(lambda until=settled: time.monotonic() > until or bool(self._signals))  # type: ignore[misc]

    def _hear(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)


def run(
    addresses: Sequence[Address],
    metrics: Sequence[Address],
    streams: Sequence[Address],
    variables: Mapping[str, str],
) -> None:
    """`metrics`, `streams`: as many as `addresses`, or none."""
    path = os.pathsep.join([str(ROOT), *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))])
    with tempfile.TemporaryDirectory(prefix="tollhouse-") as directory:
        sockets = [Path(directory) / f"{number}.sock" for number in range(len(addresses))]
        scraped: Sequence[Address | None] = metrics or [None] * len(addresses)
        apart: Sequence[Address | None] = streams or [None] * len(addresses)
        own = {**variables, "PYTHONPATH": path}
        places = zip(addresses, scraped, apart, sockets, strict=True)
        Crew([Member(one, at, other, own, told) for one, at, other, told in places]).run()
