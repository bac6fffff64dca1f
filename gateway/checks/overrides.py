"""Raw Envoy settings: told each time, with what they undo; and refused where they would undo who may call."""

from collections.abc import Iterator
from typing import Any, Final

from gateway.checks.scope import Scope
from gateway.model import Gateway
from gateway.problems import Path, Problem

HARDENED: Final[dict[str, frozenset[str]]] = {
    "runtime": frozenset(),
    "route": frozenset({"request_headers_to_add", "request_headers_to_remove", "typed_per_filter_config"}),
    "cluster": frozenset(
        {
            "circuit_breakers",
            "common_lb_config",
            "connect_timeout",
            "outlier_detection",
            "per_connection_buffer_limit_bytes",
            "transport_socket",
            "typed_extension_protocol_options",
        }
    ),
    "listener": frozenset(
        {
            "continue_on_listener_filters_timeout",
            "listener_filters",
            "listener_filters_timeout",
            "per_connection_buffer_limit_bytes",
            "tcp_backlog_size",
        }
    ),
    "http_connection_manager": frozenset(
        {
            "access_log",
            "always_set_request_id_in_response",
            "common_http_protocol_options",
            "delayed_close_timeout",
            "drain_timeout",
            "forward_client_cert_details",
            "http2_protocol_options",
            "http3_protocol_options",
            "http_protocol_options",
            "local_reply_config",
            "max_request_headers_kb",
            "merge_slashes",
            "normalize_path",
            "path_with_escaped_slashes_action",
            "preserve_external_request_id",
            "request_headers_timeout",
            "request_timeout",
            "server_header_transformation",
            "skip_xff_append",
            "stream_error_on_invalid_http_message",
            "stream_flush_timeout",
            "stream_idle_timeout",
            "strip_any_host_port",
            "strip_trailing_host_dot",
            "use_remote_address",
            "xff_num_trusted_hops",
        }
    ),
}
"""By Envoy message, the fields that hardening writes: an override that touches one is told with its name."""

FORBIDDEN: Final = {
    "runtime": frozenset(
        {
            "envoy.reloadable_features.http2_include_cookies_in_limits",
            "envoy.restart_features.xds_failover_support",
            "http.max_requests_per_io_cycle",
            "overload.premature_reset_min_stream_lifetime_seconds",
            "overload.premature_reset_total_stream_count",
            "re2.max_program_size.error_level",
        }
    ),
    "route": frozenset({"name", "match"}),
    "cluster": frozenset({"name", "type", "cluster_type", "eds_cluster_config", "load_assignment"}),
    "listener": frozenset(
        {"name", "address", "additional_addresses", "filter_chains", "default_filter_chain", "filter_chain_matcher"}
        | {"internal_listener", "api_listener", "use_original_dst", "udp_listener_config"}
    ),
    "http_connection_manager": frozenset(
        {"http_filters", "rds", "route_config", "scoped_routes", "upgrade_configs", "internal_address_config"}
        | {"early_header_mutation_extensions"}  # by which routes are found
        | {"original_ip_detection_extensions", "typed_header_validation_config", "early_header_mutation_extensions"}
        | {"codec_type", "forward_client_cert_details", "forward_client_cert_matcher"}
        | {"set_current_client_cert_details"}
    ),
}
"""What no override may touch: names, where traffic comes from and goes to, and the chain that decides who may call.

Of the runtime, the keys by which the bootstrap hardens each Envoy.
"""

OURS: Final = "tollhouse."
"""What runtime keys begin with that the compiler makes."""

PER_FILTER: Final = frozenset({"typed_per_filter_config", "typedPerFilterConfig"})


def problems(scope: Scope) -> Iterator[Problem]:
    for message, overrides, path in written(scope.gateway):
        yield _warning(message, overrides, path)
        for name in overrides:
            if forbidden(message, name):
                help_ = "write it in the document's own words"
                yield Problem("GW281", (*path, name), f"a raw override may not touch '{name}' of a {message}", help_)


def forbidden(message: str, name: str) -> bool:
    return name in FORBIDDEN[message] or (message == "runtime" and name.startswith(OURS))


def written(gateway: Gateway) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """Every raw override: the Envoy message that it is about, what is written, and where."""
    if gateway.envoy is not None:
        yield "runtime", gateway.envoy.runtime, ("envoy", "runtime")
    yield from _of_listeners(gateway)
    for name, upstream in gateway.upstreams.items():
        if upstream.envoy is not None:
            yield "cluster", upstream.envoy.cluster, ("upstreams", name, "envoy", "cluster")
    for module_name, module in gateway.modules.items():
        for name, route in module.routes.items():
            if route.envoy is not None:
                yield "route", route.envoy.route, ("modules", module_name, "routes", name, "envoy", "route")


def _of_listeners(gateway: Gateway) -> Iterator[tuple[str, dict[str, Any], Path]]:
    for name, listener in gateway.listeners.items():
        if listener.envoy is not None:
            for message in ("listener", "http_connection_manager"):
                overrides = getattr(listener.envoy, message)
                if overrides:
                    yield message, overrides, ("listeners", name, "envoy", message)


def _warning(message: str, overrides: dict[str, Any], path: Path) -> Problem:
    touched = sorted(HARDENED[message] & overrides.keys())
    undone = f"; it may undo the hardening of {', '.join(touched)}" if touched else ""
    return Problem("GW280", path, f"a raw override of Envoy's settings, unsafe{undone}", severity="warning")
