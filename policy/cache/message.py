"""HTTP messages as the cache sees them: names in lower case, values as text in latin-1, which loses no byte."""

from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """`has_body`: something follows the headers."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Headers
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Headers


def request_of(message: Any) -> Request:
    """From Envoy's HttpHeaders."""
    pseudo, headers = _split(message)
    method, scheme, authority, path = (pseudo.get(name, "") for name in (":method", ":scheme", ":authority", ":path"))
    return Request(method, scheme, authority, path, headers, has_body=not message.end_of_stream)


def response_of(message: Any) -> Response:
    """From Envoy's HttpHeaders. A status that is not there is 0, which nothing may be done with."""
    pseudo, headers = _split(message)
    status = pseudo.get(":status", "")
    return Response(int(status) if status.isdecimal() else 0, headers)


def joined(headers: Headers, name: str) -> str | None:
    """The value of a field, its lines joined (RFC 9110, section 5.3); None if there is no such line."""
    lines = [value for one, value in headers if one == name]
    return ", ".join(lines) if lines else None


def _split(message: Any) -> tuple[dict[str, str], Headers]:
    lines = [(line.key.lower(), line.raw_value.decode("latin-1") or line.value) for line in message.headers.headers]
    pseudo = {name: value for name, value in lines if name.startswith(":")}
    return pseudo, tuple(line for line in lines if not line[0].startswith(":"))
