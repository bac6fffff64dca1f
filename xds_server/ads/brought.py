"""What a client had already when its stream began, from this server before or from another replica."""

from collections.abc import Mapping

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest

from xds_server.resources import Snapshot, TypeSnapshot


class Brought:
    """By type, from the first request of each: versions by name (delta) or the last accepted one of all (SotW)."""

    def __init__(self) -> None:
        self._types: dict[str, Mapping[str, str] | str] = {}
        self._matters = True

    def note(self, request: DiscoveryRequest | DeltaDiscoveryRequest) -> None:
        if not self._matters or request.type_url in self._types:
            return
        if isinstance(request, DeltaDiscoveryRequest):
            self._types[request.type_url] = dict(request.initial_resource_versions)
        else:
            self._types[request.type_url] = request.version_info

    def forget(self) -> None:
        """It does not matter any more, and takes no more memory."""
        self._matters = False
        self._types.clear()

    def differs(self, snapshot: Snapshot) -> bool:
        """Whether the client has something that is not in `snapshot`: that may be older, or newer."""
        return any(_differs(had, snapshot.types[url]) for url, had in self._types.items() if url in snapshot.types)


def _differs(had: Mapping[str, str] | str, resources: TypeSnapshot) -> bool:
    if isinstance(had, str):
        return had not in ("", resources.version)
    known = resources.resources
    return any(name not in known or known[name].version != version for name, version in had.items())
