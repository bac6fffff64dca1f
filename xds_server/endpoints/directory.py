"""Endpoints of services, from a directory with one file `<service>.yaml` for each: a list of endpoints.

    - {address: 10.0.1.10, port: 8080}
    - {address: 10.0.1.11, port: 8080, weight: 2, zone: eu-1b, priority: 1}
    - {address: 10.0.1.12, port: 8080, state: draining}

An empty list is a service without endpoints. A file that cannot be used changes nothing: the last good one stays.
"""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
import yaml
from pydantic import TypeAdapter, ValidationError

from gateway.checks.upstreams import endpoints as checked
from gateway.model import ServiceEndpoint
from gateway.problems import dotted
from gateway.yaml_events import Builder, Stop
from xds_server.endpoints.services import Services

log = structlog.get_logger(__name__)

LARGEST: Final = 4 << 20  # bytes
POLL: Final = 0.25  # seconds
_FILE: Final = re.compile(r"([a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?)\.yaml")
_ENDPOINTS: Final = TypeAdapter(tuple[ServiceEndpoint, ...])

Stamp = tuple[tuple[str, int, int, int], ...]
"""Name, modification time (ns), size and inode of each file: differs when one was written."""


class Directory:
    """Looks at its files every `POLL` seconds and reads them when one was written."""

    name = "directory"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.services: Services | None = None
        self._good: dict[str, tuple[ServiceEndpoint, ...]] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        stamp: Stamp | None = None
        while True:
            try:
                seen = await asyncio.to_thread(self.stamp)
                if seen != stamp:
                    self.services, stamp = await asyncio.to_thread(self.read), seen
                    changed()
            except OSError as error:
                log.warning("endpoints_directory_unreadable", directory=str(self.directory), reason=str(error))
            await asyncio.sleep(POLL)

    def stamp(self) -> Stamp:
        """Equal as long as nothing changed. Raises OSError for a directory that cannot be read."""
        found = [(name, path.stat()) for name, path in self._files().items()]
        return tuple((name, status.st_mtime_ns, status.st_size, status.st_ino) for name, status in found)

    def read(self) -> Services:
        """Every service that has a file. Raises OSError for a directory that cannot be read."""
        files = self._files()
        good = {name: found for name, found in self._good.items() if name in files}
        faults = {}
        for name, path in files.items():
            try:
                good[name] = parse(path.name, _content(path))
            except (ValueError, OSError) as error:
                faults[name] = str(error)
                log.warning("endpoints_unusable", service=name, reason=str(error))
        self._good = good
        return Services(good, faults)

    def _files(self) -> dict[str, Path]:
        """By service, in the order of their names."""
        try:
            paths = sorted(self.directory.iterdir())
        except FileNotFoundError:
            if self._good:  # a mount that is gone is not the wish to have nothing
                raise
            return {}
        return {found[1]: path for path in paths if (found := _FILE.fullmatch(path.name)) and path.is_file()}


def parse(file: str, data: bytes) -> tuple[ServiceEndpoint, ...]:
    """The endpoints of one file. Raises ValueError with what is wrong."""
    try:
        endpoints = _ENDPOINTS.validate_json(json.dumps(_value(file, data.decode("utf-8-sig"))))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        raise ValueError(f"{dotted(('endpoints', *first['loc']))}: {first['msg']}") from None
    wrong = next(checked(endpoints, ("endpoints",)), None)
    if wrong is not None:
        raise ValueError(f"{dotted(wrong.path)}: {wrong.message}")
    return endpoints


def _value(file: str, text: str) -> Any:
    """The YAML text as plain values, under the limits that a gateway's documents have."""
    builder = Builder(file)
    try:
        parser = yaml.CSafeLoader(text)
        while (event := parser.get_event()) is not None:
            builder.take(event)
    except Stop as stop:
        builder.problems.append(stop.problem)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {str(error).splitlines()[0]}") from None
    wrong = next((problem for problem in builder.problems if problem.severity == "error"), None)
    if wrong is not None:
        raise ValueError(wrong.message)
    return builder.root


def _content(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"the file is larger than {LARGEST} bytes")
    return path.read_bytes()
