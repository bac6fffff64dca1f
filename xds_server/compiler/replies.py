"""Local replies: every error that Envoy itself answers is a problem detail (RFC 9457) with the request's id.

Where Envoy's own words would tell strangers about upstreams (502, 503, 504), ours stand instead. Whoever is not let in
gets a `code` too, for programs: the decision service's, or one for what Envoy's own filters found.
A request that Envoy refuses while still parsing it (400) has no id yet: there `request_id` is null.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ExtensionFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.access_loggers.filters.cel.v3.cel_pb2 import ExpressionFilter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)
from google.protobuf.struct_pb2 import Struct

from xds_server.compiler.identity import DECIDED_NAMESPACE
from xds_server.compiler.wire import pack, uint32

CONTENT_TYPE: Final = "application/problem+json"
TITLED: Final = (400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 421, 422, 426, 429, 431, 500, 501, 502, 503, 504)
"""The errors that Envoy makes and operators respond with; about:blank wants the status phrase as their title."""

DETAILS: Final = {
    429: "Too many requests; try again later.",
    502: "The service behind this route gave no valid answer.",
    503: "The service behind this route is unavailable; try again later.",
    504: "The service behind this route took too long to answer.",
}
CEL: Final = "envoy.access_loggers.extension_filters.cel"
DECIDED_CODE: Final = f"%DYNAMIC_METADATA({DECIDED_NAMESPACE}:code)%"
AS_SAID: Final = "%LOCAL_REPLY_BODY%"
FORBIDDEN: Final = "The caller may not do this."
UNMATCHED: Final = "No route of this gateway takes this request."


def closed(code: str) -> str:
    """What callers of a route hear that could not be compiled. The operator finds `code` in the problems."""
    return f"This route is closed because its configuration is incomplete ({code})."


def local_replies() -> LocalReplyConfig:
    errors = [HTTPStatus(status) for status in TITLED]
    mappers = [
        mapper(ComparisonFilter.EQ, status.value, status.phrase, DETAILS.get(status.value, AS_SAID))
        for status in errors
    ]
    others = mapper(ComparisonFilter.GE, 400, "Error", AS_SAID)
    return LocalReplyConfig(mappers=[no_table(), *denials(), *mappers, others])


def no_table() -> ResponseMapper:
    """A request whose scope has no table is answered by the filter `known_scope`, which cannot say why."""
    result = mapper(ComparisonFilter.EQ, 404, HTTPStatus.NOT_FOUND.phrase, UNMATCHED)
    status = AccessLogFilter(status_code_filter=result.filter.status_code_filter)
    flag = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR", "FI"]))
    result.filter.and_filter.CopyFrom(AndFilter(filters=[status, flag]))
    return result


def denials() -> Iterator[ResponseMapper]:
    """By what refused the request, which Envoy keeps as the response's details or its flag.

    A token for somebody else's audience is no worse than any other bad token, and Envoy says so in WWW-Authenticate;
    only its status says 403 (RFC 6750, 3.1: 401).
    """
    refused = "response.code_details.startsWith('jwt_authn_access_denied{%s')"
    yield by_details(refused % "Jwt_is_missing}", 401, AS_SAID, "no_credentials")
    yield by_details(refused % "Audiences_in_Jwt_are_not_allowed}", 401, AS_SAID, "invalid_token", become=401)
    yield by_details(refused % "" + " && response.code == 401", 401, AS_SAID, "invalid_token")
    yield by_details("response.code_details.startsWith('rbac_access_denied')", 403, FORBIDDEN, "forbidden")
    for status in (401, 403):
        result = mapper(ComparisonFilter.EQ, status, HTTPStatus(status).phrase, AS_SAID, DECIDED_CODE)
        equal = AccessLogFilter(status_code_filter=result.filter.status_code_filter)
        decided = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["UAEX"]))
        result.filter.and_filter.CopyFrom(AndFilter(filters=[equal, decided]))
        yield result


def by_details(expression: str, status: int, detail: str, code: str, become: int | None = None) -> ResponseMapper:
    """`expression`: in CEL, of the response."""
    found = ExtensionFilter(name=CEL, typed_config=pack(ExpressionFilter(expression=expression)))
    return ResponseMapper(
        filter=AccessLogFilter(extension_filter=found),
        status_code=uint32(become) if become is not None else None,
        body_format_override=problem(HTTPStatus(status).phrase, detail, code),
    )


def problem(title: str, detail: str, code: str | None = None) -> SubstitutionFormatString:
    """A problem detail. The status is what the caller sees."""
    body = Struct()
    body.update(
        {
            "type": "about:blank",
            "title": title,
            "status": "%RESPONSE_CODE%",
            "detail": detail,
            "request_id": "%REQ(X-REQUEST-ID)%",
        }
        | ({"code": code} if code is not None else {})
    )
    return SubstitutionFormatString(json_format=body, content_type=CONTENT_TYPE)


def mapper(
    operator: ComparisonFilter.Op, status: int, title: str, detail: str, code: str | None = None
) -> ResponseMapper:
    value = RuntimeUInt32(default_value=status, runtime_key=f"tollhouse.local_reply.{status}")
    comparison = ComparisonFilter(op=operator, value=value)
    return ResponseMapper(
        filter=AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison)),
        body_format_override=problem(title, detail, code),
    )
