"""A snapshot in a file, to start from when whoever knows better cannot be asked.

    tollhouse-kept 1 CHECKSUM\\n      BLAKE2b-256, in hexadecimal, of all that follows
    {"…": …}\\n                       what the writer says about it, JSON on one line
    DeltaDiscoveryResponse            every resource with its name and version; `system_version_info` is the revision

It holds what Envoy is given, private keys included, so only its owner may read it. A file is replaced in one step and
is on the disk before the old one is gone: a crash leaves the old one or the new one, and anything else is refused.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as ResourceMessage
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from xds_server.resources import CLUSTER, Resource, Snapshot, endpoints_of

FORMAT: Final = b"tollhouse-kept 1 "

About = Mapping[str, Any]


class Unusable(Exception):  # noqa: N818 - a state of the file
    """There is a file, and it cannot be believed. The text says why and holds nothing of its content."""


class KeptFile:
    """The file `path`; its directory is made, for the owner only, when something is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, snapshot: Snapshot, about: About) -> None:
        """Replaces what was kept. Raises OSError, and then the old file is as it was."""
        body = json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" + _serialised(snapshot)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(FORMAT + _checksum(body) + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        _sync(self.path.parent)

    def read(self) -> tuple[Snapshot, About] | None:
        """What was kept, None if nothing was. Raises Unusable, or OSError for a file that cannot be read."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        head, _, body = data.partition(b"\n")
        if not head.startswith(FORMAT):
            raise Unusable(f"{self.path} is not of a format that this version reads")
        if not hmac.compare_digest(head.removeprefix(FORMAT), _checksum(body)):
            raise Unusable(f"{self.path} is torn or was changed: its checksum is wrong")
        about, _, message = body.partition(b"\n")
        try:
            return _snapshot(DeltaDiscoveryResponse.FromString(message)), json.loads(about)
        except (ValueError, DecodeError) as error:
            raise Unusable(f"{self.path} does not hold a snapshot ({type(error).__name__})") from None


def resource_of(message: Message) -> Resource:
    """A resource as a delta response carries it, under the version that it came with. Raises DecodeError."""
    assert isinstance(message, ResourceMessage)  # noqa: S101 - `Snapshot.of` takes messages of any type
    url, data = message.resource.type_url, message.resource.value
    endpoints = endpoints_of(Cluster.FromString(data)) if url == CLUSTER else ""
    return Resource(url, message.name, data, message.version, endpoints, tuple(message.aliases))


def _message(resource: Resource) -> ResourceMessage:
    body = AnyMessage(type_url=resource.type_url, value=resource.data)
    return ResourceMessage(name=resource.name, aliases=resource.aliases, version=resource.version, resource=body)


def _serialised(snapshot: Snapshot) -> bytes:
    resources = (r for of_type in snapshot.types.values() for r in of_type.resources.values())
    message = DeltaDiscoveryResponse(system_version_info=str(snapshot.revision), resources=map(_message, resources))
    return message.SerializeToString(deterministic=True)


def _snapshot(message: DeltaDiscoveryResponse) -> Snapshot:
    return Snapshot.of(int(message.system_version_info), message.resources, resource_of)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32).hexdigest().encode()


def _sync(directory: Path) -> None:
    """The new name itself must outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
