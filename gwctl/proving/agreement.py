"""Whether a real Envoy did what was explained."""

from collections.abc import Iterator
from typing import Final

from gateway.explain import Asked, Explanation
from gwctl.proving.runner import Observed

STUB: Final = 200
"""What a stub answers, whatever it is asked."""

NAMES: Final = {"redirect": "tollhouse/redirect", "unmatched": "tollhouse/unmatched"}


def disagreements(asked: Asked, found: Explanation, observed: Observed) -> Iterator[str]:
    """One line for each thing that differs; nothing where both agree."""
    if not is_grpc(asked):  # what Envoy itself says to gRPC is 200, with the status in a header
        yield from differs("status", found.answer.status or STUB, observed.status)
        if found.location is not None and not found.location.endswith("…"):
            yield from of_url("location", asked, found.location, observed.headers.get("location", ""))
    if found.kind == "refused":
        return
    if found.kind == "strict_path":
        if "ambiguous-path" not in observed.details:
            yield from differs("details", "ambiguous-path", observed.details)
        return
    yield from differs("route", route_name(found), observed.route)
    if not observed.details.startswith(found.answer.details):
        yield from differs("details", found.answer.details, observed.details)
    if found.answer.by == "upstream":
        yield from of_upstream(asked, found, observed)


def of_upstream(asked: Asked, found: Explanation, observed: Observed) -> Iterator[str]:
    if observed.upstream not in found.upstreams:
        yield from differs("upstream", " or ".join(found.upstreams), observed.upstream)
    yield from of_url("path upstream", asked, found.upstream_path or "", observed.upstream_path or "")
    if found.upstream_host is not None:
        yield from differs("host upstream", found.upstream_host, observed.upstream_host)


def of_url(what: str, asked: Asked, explained: str, seen: str) -> Iterator[str]:
    """A key may stand in the query, and where keys are taken off it nobody says what order the rest has."""
    if asked.key is not None or explained.endswith("?…"):
        explained, seen = explained.partition("?")[0], seen.partition("?")[0]
    yield from differs(what, explained, seen)


def route_name(found: Explanation) -> str:
    if found.kind == "preflight":
        return f"{found.route or 'tollhouse'}/preflight"
    return NAMES.get(found.kind) or found.route or ""


def is_grpc(asked: Asked) -> bool:
    return any(
        name.lower() == "content-type" and text.strip().startswith("application/grpc")
        for name, text in asked.request.headers
    )


def differs(what: str, explained: object, seen: object) -> Iterator[str]:
    if explained != seen:
        yield f"{what}: explained {explained}, Envoy {seen}"
