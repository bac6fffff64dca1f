"""Where in the document a refusal of Envoy's comes from.

Envoy seldom says. What it does say is compared with what is written: the resource or route that the message names, else
the value that it quotes. When nothing of it is written anywhere, a real Envoy is shown the refused resources without
parts of them until one part is left.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path as FilePath
from typing import Final, Protocol

import structlog
from google.protobuf.message import Message

from gateway.document import Object, path_of
from gateway.problems import Path
from xds_server.ads.board import NodeRow
from xds_server.ads.events import Acked, Nacked
from xds_server.compiler import names
from xds_server.compiler.shown import message_of
from xds_server.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, PREFIX, ROUTES, SCOPED_ROUTES, Snapshot
from xds_server.rollout.publisher import State
from xds_server.validate import locate

log = structlog.get_logger(__name__)

KINDS: Final = {
    CLUSTER: ("upstreams",),
    ENDPOINTS: ("upstreams",),
    LISTENER: ("listeners",),
    ROUTES: ("modules", "listeners"),
    SCOPED_ROUTES: ("modules", "listeners"),
    EXTENSION: ("jwt_providers", "oidc", "listeners"),
}
"""The kinds of objects that resources of the type are made of."""

ONE_OBJECT: Final = frozenset({CLUSTER, ENDPOINTS, LISTENER})
"""Types whose resources are made of one object each, which has their name."""

NAMED: Final = frozenset({"jwt_providers", "oidc"})
"""Kinds whose names Envoy quotes."""

SHORTEST: Final = 3
"""Shorter words are found everywhere."""

REMEMBERED: Final = 256

_ROUTE: Final = re.compile(r"[a-z0-9_-]+/[a-z0-9_-]+")
_QUOTED: Final = re.compile(r"'([^']+)'|\"([^\"]+)\"")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK without its node: nodes that refuse the same for the same reason share one answer."""

    type_url: str
    version: str
    message: str
    names: tuple[str, ...]


def culprit(refusal: Refusal, objects: Iterable[Object]) -> Path | None:
    """The most exact place that the message speaks of; None if it names nothing that is written."""
    resource = _resource(refusal)
    written = [item for item in objects if item.kind in KINDS.get(refusal.type_url, ())]
    if refusal.type_url in ONE_OBJECT:
        written = [item for item in written if item.name == resource] or written
    said = [first or second for first, second in _QUOTED.findall(refusal.message)]
    return (
        _route(refusal.message, written)
        or _object(said, written)
        or _value(refusal, said, written)
        or (names.document_path(refusal.type_url, resource, refusal.message) if resource else None)
    )


def _resource(refusal: Refusal) -> str | None:
    """The refused resource: the one that the message names, else the only one that was sent."""
    named = [name for name in refusal.names if name in refusal.message]
    return max(named, key=len, default=None) or (refusal.names[0] if len(refusal.names) == 1 else None)


def _route(message: str, written: Iterable[Object]) -> Path | None:
    routes = {f"{item.name}/{name}" for item in written if item.kind == "modules" for name in item.body["routes"]}
    return next((names.route_path(found) for found in _ROUTE.findall(message) if found in routes), None)


def _object(said: Iterable[str], written: Iterable[Object]) -> Path | None:
    return next((path_of(item.key) for item in written if item.name in said and item.kind in NAMED), None)


def _value(refusal: Refusal, said: list[str], written: Iterable[Object]) -> Path | None:
    """The value that the message speaks of; where it is written several times, what these places have in common."""
    message, names_sent = refusal.message, frozenset(refusal.names)
    leaves = [
        (path, value)
        for item in written
        for path, value in _leaves(item.body, path_of(item.key))
        if value not in names_sent  # a reference to what was sent says nothing about what is wrong with it
    ]
    said = [text for text in (*said, message.rpartition(": ")[2].strip()) if len(text) >= SHORTEST]
    for text in said:
        if found := [path for path, value in leaves if value == text]:
            return _common(found)
    spoken = [value for _, value in leaves if len(value) > SHORTEST and value in message]
    if spoken:
        longest = max(spoken, key=len)
        return _common([path for path, value in leaves if value == longest])
    for text in said:
        if found := [path for path, value in leaves if text in value]:
            return _common(found)
    return None


def _leaves(body: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text of the body with its place."""
    if isinstance(body, str):
        yield path, body
    elif isinstance(body, dict):
        for key, value in body.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from _leaves(value, (*path, index))


def _common(paths: list[Path]) -> Path | None:
    """The longest path around all of them; None for different objects."""
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    common = tuple(parts[0] for parts in shared)
    return common if len(common) > 1 else None


class Source(Protocol):
    """Who knows what is published (`publisher.Publisher`)."""

    @property
    def state(self) -> State: ...


class Events(Protocol):
    """Who tells of NACKs (`ads.hub.Hub`)."""

    def listen(self, listener: Callable[[NodeRow, Acked | Nacked], None]) -> object: ...


class Culprits:
    """The places of refusals, looked up when they are shown; what needs an Envoy is asked as soon as a NACK comes.

    `envoy`: the binary; None leaves that last resort out.
    """

    def __init__(self, published: Source, events: Events, envoy: FilePath | None) -> None:
        self._published = published
        self._envoy = envoy
        self._asked: OrderedDict[Refusal, asyncio.Task[Path | None]] = OrderedDict()
        events.listen(self._hear)

    def path(self, refusal: Refusal) -> Path | None:
        """The place, as exact as is known by now."""
        task = self._asked.get(refusal)
        if task is not None and task.done():
            return task.result()
        return culprit(refusal, self._objects())

    async def settled(self) -> None:
        """Wait until Envoy has said what it was asked by now."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    def _objects(self) -> tuple[Object, ...]:
        published = self._published.state.newest_compiled
        return published.objects if published is not None else ()

    def _hear(self, _node: NodeRow, event: Acked | Nacked) -> None:
        if not isinstance(event, Nacked) or self._envoy is None:
            return
        refusal = Refusal(event.type_url, event.version, event.message, event.names)
        published = self._published.state.newest_compiled
        if published is None or refusal in self._asked or _exact(culprit(refusal, published.objects)):
            return
        self._asked[refusal] = asyncio.create_task(self._ask(refusal, published.snapshot, self._envoy))
        while len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)[1].cancel()

    async def _ask(self, refusal: Refusal, snapshot: Snapshot, envoy: FilePath) -> Path | None:
        """Never raises: it is only for people to read."""
        found: Path = ()
        try:
            found = await locate(await asyncio.to_thread(messages_of, snapshot), envoy)
        except Exception as error:
            log.warning("nack_not_traced", type=refusal.type_url.removeprefix(PREFIX), reason=type(error).__name__)
        return found or culprit(refusal, self._objects())


def _exact(path: Path | None) -> bool:
    """Whether it is more than a listener: nearly everything is part of one."""
    return path is not None and (path[0] != "listeners" or len(path) > 2)


def messages_of(snapshot: Snapshot) -> tuple[Message, ...]:
    """The resources as messages again."""
    return tuple(
        message_of(resource) for resources in snapshot.types.values() for resource in resources.resources.values()
    )
