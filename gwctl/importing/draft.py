"""A document of ours while it is being made from another one."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.document import KINDS
from gateway.words import fields_at, planned

TIER: Final = "everybody"
ANYWHERE: Final = "127.0.0.1"
NAME_LENGTH: Final = 63
BODY: Final = "closed at import: see its description"

Json = dict[str, Any]


class Place(NamedTuple):
    """A server: an address or a name, and its share of the requests."""

    host: str
    port: int
    weight: int = 1
    more: Json = {}  # noqa: RUF012 - never changed


@dataclass
class Draft:
    """Collections by kind, filled in place. Names are made here, so that no two are the same."""

    collections: dict[str, Json] = field(default_factory=dict)

    def of(self, kind: str) -> Json:
        return self.collections.setdefault(kind, {})

    def name(self, kind: str, wanted: str) -> str:
        """A name that the language allows and that no other object of the kind has."""
        return unique(wanted, self.of(kind))

    def add(self, kind: str, wanted: str, body: Json) -> str:
        """The name that it got."""
        name = self.name(kind, wanted)
        self.of(kind)[name] = body
        return name

    def listener(self, wanted: str, port: int, protocol: str = "HTTP", secrets: Sequence[Json] = ()) -> str:
        body: Json = {"port": port, "protocol": protocol}
        if secrets:
            body["tls"] = {"certificates": list(secrets)}
        return self.add("listeners", wanted, body)

    def upstream(self, wanted: str, host: str, port: int, more: Json | None = None) -> str:
        """A static upstream for an IP address, else one that is looked up."""
        if is_address(host):
            body: Json = {"type": "static", "endpoints": [{"address": host.strip("[]"), "port": port}]}
        else:
            body = {"type": "dns", "host": host, "port": port}
        return self.add("upstreams", wanted, body | (more or {}))

    def balanced(self, wanted: str, places: Sequence[Place], more: Json) -> list[Json]:
        """Backends for a list of places: one upstream for all addresses, one for each name, sharing by weight."""
        fixed = [place for place in places if is_address(place.host)]
        backends = []
        if fixed:
            body = {"type": "static", "endpoints": [_endpoint(place) for place in fixed], **more}
            backends.append(_backend(self.add("upstreams", wanted, body), sum(place.weight for place in fixed)))
        for place in places:
            if not is_address(place.host):
                name = wanted if len(places) == 1 else f"{wanted}-{place.host}"
                backends.append(_backend(self.upstream(name, place.host, place.port, more), place.weight))
        if len(backends) == 1:
            del backends[0]["weight"]
        return backends

    def module(self, wanted: str, listener: str, hosts: Sequence[str] = ()) -> Json:
        """A module for everybody, to be filled with routes."""
        self.of("tiers").setdefault(TIER, {"unlimited": True})
        body: Json = {"tier": TIER, "listener": listener, "authentication": "none", "routes": {}}
        if hosts:
            body["hosts"] = list(hosts)
        self.add("modules", wanted, body)
        return body

    def document(self) -> Json:
        """What was made, without modules that have no routes."""
        made: Json = {"version": 1}
        modules = self.of("modules")
        for name in [name for name, body in modules.items() if not body["routes"]]:
            del modules[name]
        kinds = [*KINDS, *(kind for kind in self.collections if kind not in KINDS)]
        return made | {kind: self.collections[kind] for kind in kinds if self.collections.get(kind)}


def has(word: str, *path: str | int) -> bool:
    """Whether the language has the field there now. `*` in a path stands for a name."""
    return word in fields_at(path) and not planned(path, word)


def unique(wanted: str, taken: Iterable[str]) -> str:
    taken = set(taken)
    base = re.sub(r"[^a-z0-9_-]+", "-", _snake(wanted)).strip("-_")[:NAME_LENGTH].strip("-_") or "unnamed"
    name, number = base, 2
    while name in taken:
        tail = f"-{number}"
        name, number = base[: NAME_LENGTH - len(tail)].rstrip("-_") + tail, number + 1
    return name


def add_route(module: Json, wanted: str, route: Json) -> str:
    name = unique(wanted, module["routes"])
    module["routes"][name] = route
    return name


def closed(match: Json, why: str) -> Json:
    """A route that refuses everybody: what cannot be said leaves no door open, nor its requests to other routes."""
    return {"match": match, "description": f"closed at import: {why}"[:500], "respond": {"status": 403, "body": BODY}}


def keep_order(document: Json) -> Json:
    """The document with a `priority` on each route of the modules that would be tried in another order than written."""
    for name, module in document.get("modules", {}).items():
        written = list(module["routes"])
        if len(written) > 1 and _order(document, name) != written:
            for at, route in enumerate(written):
                module["routes"][route]["priority"] = max(
                    -1000, len(written) - at if len(written) <= 1000 else 1000 - at
                )
    return document


def _order(document: Json, module: str) -> list[str] | None:
    from gateway.model import decode
    from gateway.resolve import resolve

    alone = {**document, "modules": {module: document["modules"][module]}}
    try:
        return [route.name for route in resolve(decode(alone))]
    except ValueError:
        return None


def _endpoint(place: Place) -> Json:
    shares = {} if place.weight == 1 else {"weight": max(1, min(128, place.weight))}
    return {"address": place.host.strip("[]"), "port": place.port, **shares, **place.more}


def _backend(name: str, weight: int) -> Json:
    return {"upstream": name, "weight": weight}


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def tls_to(host: str) -> Json:
    """The `tls` block of an upstream on the internet, verified with the system's authorities where the language can."""
    if has("ca", "upstreams", "*", "tls"):
        return {"sni": host, "ca": "system"}
    return {"sni": host, "ca_secret": "system-ca"}


def url_parts(text: str) -> tuple[str, int, bool, str]:
    """Host ("" if there is none), port, whether it is https, and path. Never raises."""
    try:
        url = urlsplit(text)
        secure = url.scheme in ("https", "grpcs")
        return (url.hostname or "").lower(), url.port or (443 if secure else 80), secure, url.path
    except ValueError:
        return "", 80, False, ""


def milliseconds(value: int) -> str:
    """A duration as it is written: 15000 is `15s`."""
    return f"{value // 1000}s" if value % 1000 == 0 else f"{value}ms"


def duration(text: str) -> str | None:
    """Of Go, protobuf JSON and Gateway API (`1h30m`, `0.25s`, `500ms`) to ours, or None."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    scale = {"h": 3_600_000.0, "m": 60_000.0, "s": 1_000.0, "ms": 1.0}
    if any(unit not in scale for _, unit in parts):
        return None
    total = sum(float(number) * scale[unit] for number, unit in parts)
    return milliseconds(int(total)) if total >= 1 else None


def _snake(text: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", text).lower()
