"""What Envoy tells of a request, down to what is counted. Paths, queries, addresses and clients are not looked at."""

from typing import Final

from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry

from policy.accesslog.tally import Entry

DECIDED: Final = "envoy.filters.http.ext_authz"
"""Where the decision service's own answer lies in Envoy's dynamic metadata."""
VIA_UPSTREAM: Final = "via_upstream"
"""Envoy's response code detail of an answer that it passes on."""


def entry(logged: HTTPAccessLogEntry) -> Entry:
    common, response = logged.common_properties, logged.response
    decided = common.metadata.filter_metadata
    tier = decided[DECIDED].fields["tier"].string_value if DECIDED in decided else ""
    return Entry(
        common.route_name,
        tier,
        response.response_code.value,
        response.response_code_details == VIA_UPSTREAM,
        common.duration.seconds * 1000 + common.duration.nanos / 1e6,
    )
