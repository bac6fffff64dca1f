"""What may happen to a route's traffic besides being sent on: checks, faults, limits, compression, a cache."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model
from gateway.scalars import ByteRate, Duration, HeaderName, Percent, Size

OriginHost = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$", max_length=260)
]
"""`app.example.com`, `*.example.com` or `localhost:3000`: what a browser's Origin header says after its scheme."""

MediaType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+$", max_length=100)]
COMPRESSIBLE: Final = (
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/plain",
    "text/xml",
)


class Csrf(Model):
    """Changes are taken from pages of this host only, and of `additional_origins` (hosts: no scheme is looked at)."""

    additional_origins: tuple[OriginHost, ...] = ()


class Compression(Model):
    """Long enough answers are compressed with what the caller likes best of `types`; the first of equals."""

    types: tuple[Literal["br", "gzip", "zstd"], ...] = Field(min_length=1)
    min_content_length: Size = 1024
    content_types: tuple[MediaType, ...] = Field(default=COMPRESSIBLE, min_length=1)


class CacheVary(Model):
    """What answers differ by, besides the route, the host, the path, the query and what their `Vary` names."""

    headers: tuple[HeaderName, ...] = Field(min_length=1)


class Cache(Model):
    """Answers to GET are kept for `ttl` at most, if they allow it and are not longer than `max_size`."""

    ttl: Duration
    vary_by: CacheVary | None = None
    max_size: Size = 262_144


class FaultDelay(Model):
    fixed_delay: Duration
    percentage: Percent


class FaultAbort(Model):
    """`status` (HTTP) or `grpc_status` (0 to 16) is what the caller gets instead of an answer."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    grpc_status: Annotated[int, Field(ge=1, le=16)] | None = None
    percentage: Percent

    @model_validator(mode="after")
    def _one_status(self) -> Self:
        if (self.status is None) == (self.grpc_status is None):
            raise ValueError("write either status or grpc_status")
        return self


class FaultInjection(Model):
    """Failures on purpose, for a share of the requests that would have been let through."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.delay is None and self.abort is None:
            raise ValueError("write delay, abort or both")
        return self


class RequestBuffer(Model):
    """A request's body is held back until it is whole; a longer one than `limit` is refused with 413."""

    limit: Size


class BandwidthLimit(Model):
    """What all requests of the route together may take, on each Envoy."""

    request: ByteRate | None = None
    response: ByteRate | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.request is None and self.response is None:
            raise ValueError("write request, response or both")
        return self
