"""What Envoy is told: go on, go on and show me the body, or answer with this."""

from collections.abc import Iterator
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as wire
from envoy.type.v3.http_status_pb2 import HttpStatus

from policy.cache import rules
from policy.cache.library import Found
from policy.cache.message import Request, Response

Answer = wire.ProcessingResponse
HIT: Final = "cache_hit"
"""In the access log's `details`."""

GO_ON: Final = Answer(request_headers=wire.HeadersResponse())
PASS_HEADERS: Final = Answer(response_headers=wire.HeadersResponse())
PASS_BODY: Final = Answer(response_body=wire.BodyResponse())
SHOW_BODY: Final = Answer(
    response_headers=wire.HeadersResponse(),
    mode_override=ProcessingMode(response_header_mode=ProcessingMode.SEND, response_body_mode=ProcessingMode.STREAMED),
)
OF_304: Final = frozenset({"cache-control", "content-location", "date", "etag", "expires", "vary", "last-modified"})


def hit(request: Request, found: Found) -> Answer:
    """The kept answer, or 304 where the caller has it already. To HEAD, Envoy sends the length and no body."""
    stored = found.stored
    unchanged = rules.not_modified(request, Response(stored.status, stored.headers))
    lines = [line for line in stored.headers if not unchanged or line[0] in OF_304]
    return Answer(
        immediate_response=wire.ImmediateResponse(
            status=HttpStatus(code=304 if unchanged else stored.status),  # type: ignore[arg-type] # an enum's number
            headers=wire.HeaderMutation(set_headers=_written([*lines, ("age", str(found.age))])),
            body=b"" if unchanged else stored.body,
            details=HIT,
        )
    )


def _written(lines: list[tuple[str, str]]) -> Iterator[HeaderValueOption]:
    """The first line of a name replaces what Envoy has put there, such as the route's edits, which it has in it."""
    seen: set[str] = set()
    for name, value in lines:
        action = (
            HeaderValueOption.APPEND_IF_EXISTS_OR_ADD if name in seen else HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        )
        seen.add(name)
        yield HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value.encode("latin-1")), append_action=action, keep_empty_value=True
        )
