"""A decision service under a test's control, on a real gRPC server: it answers as told and keeps what it was asked."""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationServicer, add_AuthorizationServicer_to_server
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from envoy.service.ratelimit.v3.rls_pb2_grpc import RateLimitServiceServicer, add_RateLimitServiceServicer_to_server

Descriptor = tuple[tuple[str, str], ...]


class Decisions(AuthorizationServicer, RateLimitServiceServicer):
    """`identity`: the metadata of an allowed request; None answers with an empty CheckResponse."""

    def __init__(self) -> None:
        self.identity: dict[str, Any] | None = {}
        self.set_headers: dict[str, str] = {}
        self.remove_headers: tuple[str, ...] = ()
        self.over_limit = False
        self.checks: list[CheckRequest] = []
        self.limited: list[RateLimitRequest] = []
        self.server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_AuthorizationServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        add_RateLimitServiceServicer_to_server(self, self.server)  # type: ignore[no-untyped-call]
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Check(self, request: CheckRequest, context: Any) -> CheckResponse:  # noqa: N802 - the service's name
        self.checks.append(request)
        response = CheckResponse()
        if self.identity is None:
            return response
        response.dynamic_metadata.update(self.identity)
        for name, value in self.set_headers.items():
            response.ok_response.headers.append(HeaderValueOption(header=HeaderValue(key=name, value=value)))
        response.ok_response.headers_to_remove.extend(self.remove_headers)
        return response

    def ShouldRateLimit(self, request: RateLimitRequest, context: Any) -> RateLimitResponse:  # noqa: N802
        self.limited.append(request)
        code = RateLimitResponse.OVER_LIMIT if self.over_limit else RateLimitResponse.OK
        return RateLimitResponse(overall_code=code)

    @property
    def descriptors(self) -> list[Descriptor]:
        """Those of the newest request to the rate limit service."""
        return [tuple((e.key, e.value) for e in d.entries) for d in self.limited[-1].descriptors]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.stop(0.1).wait()
