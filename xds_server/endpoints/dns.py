"""Services that are names: their addresses are asked for again and again, by the control plane, for all Envoys.

`getaddrinfo` tells no time to live, so the interval is ours. An answer without an address is not believed: a name that
resolves to nothing is a fault far more often than a wish.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from gateway.model import ServiceEndpoint
from xds_server.endpoints.services import Services

log = structlog.get_logger(__name__)

INTERVAL: Final = 5.0  # seconds
PATIENCE: Final = 5.0


class Dns:
    """`names`: (host, port) by service. A and AAAA records; what fails keeps its last good addresses."""

    name = "dns"

    def __init__(self, names: Mapping[str, tuple[str, int]], interval: float = INTERVAL) -> None:
        self.services: Services | None = None
        self._names = names
        self._interval = interval
        self._good: dict[str, tuple[ServiceEndpoint, ...]] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        while True:
            found = await asyncio.gather(*(self._resolve(service) for service in self._names))
            faults = {service: why for service, why in zip(self._names, found, strict=True) if why}
            services = Services(dict(self._good), faults)
            if services != self.services:
                self.services = services
                changed()
            await asyncio.sleep(self._interval)

    async def _resolve(self, service: str) -> str:
        """Why it could not be resolved, or ""."""
        host, port = self._names[service]
        try:
            async with asyncio.timeout(PATIENCE):
                loop = asyncio.get_running_loop()
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            why = f"{host} cannot be resolved: {error or 'no answer in time'}"
            log.warning("endpoints_unresolved", service=service, reason=why)
            return why
        addresses = sorted({str(address[0]).partition("%")[0] for *_, address in answers})
        self._good[service] = tuple(ServiceEndpoint(address=address, port=port) for address in addresses)
        return ""
