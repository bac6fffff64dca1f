"""What depends on a node's version of Envoy: the holes that it has, and what it would refuse or misread.

Every node says its version with its first request. The second table was learnt by giving the golden cases to
`envoy --mode validate` of 1.36.4, 1.37.0, 1.38.3, 1.39.3 and 1.40.0.
"""

from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from xds_server.resources import LISTENER, ROUTES, Snapshot

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Hole:
    """A fault that the world knows of. `fixed`: the first good release of each line that has one, the lowest first."""

    name: str
    what: str
    fixed: tuple[Version, ...]

    def open_in(self, version: Version) -> bool:
        """A line without an entry has the hole if it is older than the newest that has one."""
        of_line = [fixed for fixed in self.fixed if fixed[:2] == version[:2]]
        return version < (of_line[0] if of_line else self.fixed[-1])


@dataclass(frozen=True, slots=True)
class Feature:
    """What an older Envoy cannot carry out. It is used where the type's resources hold `mark`."""

    name: str
    since: Version
    type_url: str
    mark: bytes


HOLES: Final = (
    Hole("CVE-2023-44487", "HTTP/2 rapid reset", ((1, 24, 11), (1, 25, 10), (1, 26, 5), (1, 27, 1))),
    Hole("CVE-2026-47774", "HTTP/2 cookies that take all memory", ((1, 38, 1),)),
    Hole("CVE-2026-73552", "RBAC regexes that fail open", ((1, 36, 10), (1, 37, 6), (1, 38, 4), (1, 39, 1))),
)

FEATURES: Final = (
    # Every listener has the place for logins, whose settings come with routes: older Envoys want them in the filter.
    Feature("logins by route", (1, 38, 0), LISTENER, b"tollhouse/oauth2"),
    # Compressors by route; content types by matcher, which 1.39 would silently leave out.
    Feature("compression", (1, 40, 0), ROUTES, b"envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"),
)
NEWEST: Final = max(feature.since for feature in FEATURES)


def version_of(node: NodeMessage) -> Version | None:
    """None for a client that says none, such as a program that is no Envoy."""
    found = node.user_agent_build_version.version
    version = (found.major_number, found.minor_number, found.patch)
    return version if any(version) else None


def parsed(build: str) -> Version | None:
    """A version as the board has it, such as "1.40.0"."""
    version = tuple(map(int, build.split(".")))
    return version if any(version) else None  # type: ignore[return-value]


def warnings(version: Version | None) -> tuple[str, ...]:
    """The known holes of that version, a sentence each."""
    if version is None:
        return ()
    return tuple(
        f"Envoy {_text(version)} has {hole.name} ({hole.what}): update it to {_text(hole.fixed[-1])} or later"
        for hole in HOLES
        if hole.open_in(version)
    )


def too_old(version: Version | None, view: Snapshot) -> str:
    """Why this version of Envoy cannot have the view, "" if it can. A client that says no version is not judged."""
    if version is None or version >= NEWEST:
        return ""
    missing = [feature for feature in FEATURES if version < feature.since and used(feature, view)]
    if not missing:
        return ""
    last = max(missing, key=lambda feature: feature.since)
    return f"needs Envoy {last.since[0]}.{last.since[1]}: {', '.join(feature.name for feature in missing)}"


def used(feature: Feature, view: Snapshot) -> bool:
    of_type = view.types.get(feature.type_url)
    return of_type is not None and any(feature.mark in resource.data for resource in of_type.resources.values())


def _text(version: Version) -> str:
    return ".".join(map(str, version))
