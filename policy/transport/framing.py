"""gRPC over HTTP/2, as far as it is text and bytes (https://github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md)."""

import base64
import binascii
import re
from functools import lru_cache
from typing import Final, NamedTuple

import grpc

Code = grpc.StatusCode
Headers = tuple[tuple[bytes, bytes], ...]
PREFIX: Final = 5  # a flag that says "compressed", and four bytes of length
HEADERS: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK: Final = ((b"grpc-status", b"0"),)
UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
CONTENT_TYPE: Final = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)


class Refused(NamedTuple):
    """Why a request is not one, as a status."""

    code: grpc.StatusCode
    detail: str


@lru_cache(maxsize=1024)
def timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout`; None if it is malformed."""
    found = TIMEOUT.fullmatch(value)
    return int(found[1]) * UNITS[found[2]] if found else None


@lru_cache(maxsize=64)
def is_grpc(content_type: bytes) -> bool:
    return CONTENT_TYPE.fullmatch(content_type) is not None


def oversized(start: bytes | bytearray, largest: int) -> Refused | None:
    """What can be said of a message as soon as its prefix is there."""
    if len(start) < PREFIX:
        return None
    length = int.from_bytes(start[1:PREFIX], "big")
    if length > largest:
        return Refused(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes; at most {largest} are read")
    return None


def message(body: bytes, largest: int) -> bytes | Refused:
    """The one message of a whole unary request. The codes are those of gRPC's doc/statuscodes.md."""
    if len(body) - PREFIX == int.from_bytes(body[1:PREFIX], "big") <= largest and not body[0]:
        return body[PREFIX:]
    if not body:
        return Refused(Code.UNIMPLEMENTED, "a unary method takes one message, and none was sent")
    if wrong := oversized(body, largest):
        return wrong
    if body[0] > 1:
        return Refused(Code.INTERNAL, "a message's first byte is 0 or 1")
    if len(body) < PREFIX or len(body) - PREFIX < int.from_bytes(body[1:PREFIX], "big"):
        return Refused(Code.INTERNAL, "the message ends before its length")
    if len(body) - PREFIX > int.from_bytes(body[1:PREFIX], "big"):
        return Refused(Code.UNIMPLEMENTED, "a unary method takes one message, and something follows it")
    return Refused(Code.UNIMPLEMENTED, "compressed messages are not read")


def status(code: grpc.StatusCode, detail: str) -> Headers:
    """A call that failed without an answer: its status in the headers ("Trailers-Only")."""
    return (*HEADERS, (b"grpc-status", b"%d" % code.value[0]), (b"grpc-message", percent_encoded(detail)))


def metadata(headers: Headers) -> list[tuple[str, str | bytes]]:
    """As grpcio gives it: without what is HTTP's."""
    return [
        (name.decode("ascii"), _binary(value) if name[-4:] == b"-bin" else value.decode("latin-1"))
        for name, value in headers
        if name[:1] != b":"
    ]


def _binary(value: bytes) -> str | bytes:
    """Base64 that is none is given as it came."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return value.decode("latin-1")


def framed(text: bytes) -> bytes:
    return b"\0" + len(text).to_bytes(4, "big") + text


def percent_encoded(text: str) -> bytes:
    """`grpc-message`: UTF-8, with what is not printable ASCII, and the percent sign, as %XX."""
    raw = text.encode(errors="replace")
    return b"".join(bytes((b,)) if 0x20 <= b <= 0x7E and b != 0x25 else b"%%%02X" % b for b in raw)
