"""Who knows the endpoints of services, and how what several of them say becomes one."""

import asyncio
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from gateway.model import EdsUpstream, Gateway, ServiceEndpoint
from gateway.problems import Problem

log = structlog.get_logger(__name__)

RESTART: Final = 1.0  # seconds until a source that crashed is started again


@dataclass(frozen=True, slots=True)
class Services:
    """`endpoints` by service. `faults`: why what is told of a service cannot be used; its last good endpoints stay.

    `complete`: whether every source was read at least once. `origins`: the source of each endpoint, in order.
    """

    endpoints: Mapping[str, tuple[ServiceEndpoint, ...]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def problems(self, gateway: Gateway) -> tuple[Problem, ...]:
        """The faults of services that the gateway uses, as warnings at its upstreams."""
        return tuple(
            Problem("GW608", ("upstreams", name, "service"), self._told(spec.service), severity="warning")
            for name, spec in gateway.upstreams.items()
            if isinstance(spec, EdsUpstream) and spec.service in self.faults
        )

    def _told(self, service: str) -> str:
        kept = "the last good ones stay" if service in self.endpoints else "there are none yet"
        return f"the endpoints of '{service}' cannot be used, and {kept}: {self.faults[service]}"


class Source(Protocol):
    """Somebody who knows services. A source that fails keeps what it knew: nothing is taken away by a failure."""

    name: str

    @property
    def services(self) -> Services | None:
        """The newest that is known; None until it was read once."""
        ...

    async def run(self, changed: Callable[[], None]) -> None:
        """Keeps `services` fresh until cancelled, and calls `changed` after each change."""
        ...


class ServiceRegistry:
    """All sources as one. Of one address and port of a service, the first source that has it is believed."""

    def __init__(self, sources: Sequence[Source] = ()) -> None:
        self.services = merged(sources)
        self._sources = tuple(sources)
        self._news = asyncio.Event()
        self._read = asyncio.Event()
        if self.services.complete:
            self._read.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for source in self._sources:
                tasks.create_task(self._kept_running(source))

    async def _kept_running(self, source: Source) -> None:
        """A fault of ours in one source must not take the streams down, nor the other sources."""
        while True:
            try:
                await source.run(self._changed)
            except Exception as error:
                trace = "".join(traceback.format_exception(error))
                log.error("endpoints_source_crashed", source=source.name, trace=trace)
            await asyncio.sleep(RESTART)

    async def news(self) -> None:
        """Returns when `services` is another one than at the last call."""
        await self._news.wait()
        self._news.clear()

    async def complete(self, patience: float) -> None:
        """Returns when every source was read once, or after `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._read.wait()
        unread = [source.name for source in self._sources if source.services is None]
        if unread:
            log.warning("endpoints_incomplete", sources=unread, effect="what only they know is left as it is")

    def _changed(self) -> None:
        services = merged(self._sources)
        if services != self.services:
            self.services = services
            self._news.set()
        if services.complete:
            self._read.set()


def merged(sources: Sequence[Source]) -> Services:
    read = [(source.name, source.services) for source in sources if source.services is not None]
    found: dict[str, dict[tuple[str, int], tuple[ServiceEndpoint, str]]] = {}
    for name, service, endpoint in _each(read):
        members = found.setdefault(service, {})
        if endpoint is not None:
            members.setdefault((endpoint.address, endpoint.port), (endpoint, name))
    return Services(
        {service: tuple(endpoint for endpoint, _ in members.values()) for service, members in found.items()},
        {service: why for _, services in reversed(read) for service, why in services.faults.items()},
        complete=len(read) == len(sources),
        origins={service: tuple(name for _, name in members.values()) for service, members in found.items()},
    )


def _each(read: Sequence[tuple[str, Services]]) -> Iterator[tuple[str, str, ServiceEndpoint | None]]:
    """None for the service itself: one without endpoints is known too."""
    for name, services in read:
        for service, endpoints in services.endpoints.items():
            yield name, service, None
            for endpoint in endpoints:
                yield name, service, endpoint
