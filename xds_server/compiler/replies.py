"""Local replies: every error that Envoy itself answers is a problem detail (RFC 9457) with the request's id.

Where Envoy's own words would tell strangers about upstreams (502, 503, 504), ours stand instead.
A request that Envoy refuses while still parsing it (400) has no id yet: there `request_id` is null.
"""

from http import HTTPStatus
from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy.config.core.v3.base_pb2 import RuntimeUInt32
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    LocalReplyConfig,
    ResponseMapper,
)
from google.protobuf.struct_pb2 import Struct

CONTENT_TYPE: Final = "application/problem+json"
TITLED: Final = (400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 421, 422, 426, 429, 431, 500, 501, 502, 503, 504)
"""The errors that Envoy makes and operators respond with; about:blank wants the status phrase as their title."""

DETAILS: Final = {
    429: "Too many requests; try again later.",
    502: "The service behind this route gave no valid answer.",
    503: "The service behind this route is unavailable; try again later.",
    504: "The service behind this route took too long to answer.",
}
AS_SAID: Final = "%LOCAL_REPLY_BODY%"
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
    return LocalReplyConfig(mappers=[no_table(), *mappers, mapper(ComparisonFilter.GE, 400, "Error", AS_SAID)])


def no_table() -> ResponseMapper:
    """A request whose scope has no table is answered by the filter `known_scope`, which cannot say why."""
    result = mapper(ComparisonFilter.EQ, 404, HTTPStatus.NOT_FOUND.phrase, UNMATCHED)
    status = AccessLogFilter(status_code_filter=result.filter.status_code_filter)
    flag = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=["NR", "FI"]))
    result.filter.and_filter.CopyFrom(AndFilter(filters=[status, flag]))
    return result


def mapper(operator: ComparisonFilter.Op, status: int, title: str, detail: str) -> ResponseMapper:
    body = Struct()
    body.update(
        {
            "type": "about:blank",
            "title": title,
            "status": "%RESPONSE_CODE%",
            "detail": detail,
            "request_id": "%REQ(X-REQUEST-ID)%",
        }
    )
    value = RuntimeUInt32(default_value=status, runtime_key=f"tollhouse.local_reply.{status}")
    comparison = ComparisonFilter(op=operator, value=value)
    return ResponseMapper(
        filter=AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison)),
        body_format_override=SubstitutionFormatString(json_format=body, content_type=CONTENT_TYPE),
    )
