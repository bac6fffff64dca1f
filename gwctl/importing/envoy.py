"""An Envoy bootstrap: listeners with HTTP connection managers, their static routes, and clusters.

Filters that keep somebody out and cannot be said close the routes behind them.
"""

from dataclasses import dataclass, field
from typing import Final

from gwctl.importing.draft import Draft, Json, Place, duration, has, keep_order
from gwctl.importing.envoy_routes import LeftOut, hosts_of, routes_of
from gwctl.importing.source import Source

HCM: Final = "envoy.filters.network.http_connection_manager"
# fmt: off
HARMLESS: Final = frozenset({
    "buffer", "compressor", "cors", "csrf", "decompressor", "fault", "grpc_http1_bridge", "grpc_stats",
    "grpc_web", "health_check", "local_ratelimit", "ratelimit", "on_demand", "tap",
})
# fmt: on
"""Filters without which nobody is let in who was not before. Any other one may have kept callers out."""

NO_PLACE: Final = "the gateway has no place for it"
LB: Final = {"ROUND_ROBIN": "round_robin", "LEAST_REQUEST": "least_request", "RANDOM": "random"}
FAMILIES: Final = {
    "AUTO": "auto",
    "V4_ONLY": "v4_only",
    "V6_ONLY": "v6_only",
    "V4_PREFERRED": "v4_preferred",
    "ALL": "all",
}


@dataclass
class _Context:
    draft: Draft
    backends: dict[str, list[Json]] = field(default_factory=dict)


def convert(source: Source) -> Json:
    context = _Context(Draft())
    resources = source["static_resources"]
    for cluster in resources["clusters"].each():
        _cluster(context, cluster)
    for listener in resources["listeners"].each():
        _listener(context, listener)
    resources["secrets"].rest("put secrets into the control plane's secret store")
    for word in ("admin", "node", "stats_sinks", "stats_config", "layered_runtime", "overload_manager"):
        source[word].rest("each Envoy's own bootstrap says it: see `envoy/bootstrap.yaml`")
    return keep_order(context.draft.document())


# ------------------------------------------------------------------------------------------------------------ clusters
def _cluster(context: _Context, cluster: Source) -> None:
    name = cluster["name"].text("cluster")
    kind = cluster["type"].text("STATIC")
    places = [place for group in cluster.at("load_assignment", "endpoints").each() for place in _places(group)]
    if kind not in ("STATIC", "STRICT_DNS", "LOGICAL_DNS") or not places:
        cluster.lose(f"a cluster of the type {kind} without endpoints here: its routes refuse everybody")
        return
    more = _cluster_policies(cluster)
    body = context.draft.balanced(name, places, more)
    for backend in body:
        _dns(cluster, context.draft.of("upstreams")[backend["upstream"]])
    context.backends[name] = body
    cluster.at("load_assignment", "cluster_name").take()
    cluster.rest(NO_PLACE)


def _places(group: Source) -> list[Place]:
    zone = group.at("locality", "zone").text()
    more = {"zone": zone} if zone else {}
    priority = group["priority"].number()
    if priority and has("priority", "upstreams", "*", "endpoints", 0):
        more["priority"] = priority  # type: ignore[assignment]
    elif priority:
        group["priority"].lose("its endpoints are used like the others")
    found = []
    for one in group["lb_endpoints"].each():
        address = one.at("endpoint", "address", "socket_address")
        weight = one["load_balancing_weight"].number() or 1
        host, port = address["address"].text(), address["port_value"].number()
        address.drop("protocol")
        if host and port:
            found.append(Place(host, port, weight, more))
    return found


def _cluster_policies(cluster: Source) -> Json:
    made: Json = {}
    connect = duration(cluster["connect_timeout"].text())
    if connect:
        made["connect_timeout"] = connect
    policy = cluster["lb_policy"].text("ROUND_ROBIN")
    if policy not in LB:
        cluster["lb_policy"].change("the requests are spread by turns")
    made["load_balancing"] = {"policy": LB.get(policy, "round_robin")}
    if _speaks_http2(cluster):
        made["protocol"] = "http2"
    for word, read in (
        ("tls", _tls(cluster["transport_socket"])),
        ("health_check", _health(cluster["health_checks"])),
        ("circuit_breaker", _breaker(cluster.at("circuit_breakers", "thresholds"))),
        ("outlier_detection", _outlier(cluster["outlier_detection"])),
    ):
        if read:
            made[word] = read
    return made


def _dns(cluster: Source, body: Json) -> None:
    if body["type"] != "dns":
        return
    refresh, family = duration(cluster["dns_refresh_rate"].text()), cluster["dns_lookup_family"].text()
    made = {"refresh": refresh} if refresh else {}
    if family in FAMILIES:
        made["family"] = family.lower()
    if made:
        body["dns"] = made


def _speaks_http2(cluster: Source) -> bool:
    if "http2_protocol_options" in cluster:
        cluster["http2_protocol_options"].take()
        return True
    for _, options in cluster["typed_extension_protocol_options"].items():  # noqa: PERF102 - no dict
        options.drop("@type")
        explicit = options["explicit_http_config"]
        if "http2_protocol_options" in explicit:
            explicit["http2_protocol_options"].take()
            return True
    return False


def _tls(socket: Source) -> Json:
    if not socket:
        return {}
    context = socket["typed_config"]
    if "raw_buffer" in str(socket["name"].value):
        socket.take()
        return {}
    socket.drop("name")
    context.drop("@type")
    sni = context["sni"].text()
    common = context["common_tls_context"]
    if not sni:
        socket.lose("TLS without a server name cannot be verified")
        return {"sni": "invalid.example", "ca_secret": "upstream-ca"}
    authority = common.at("validation_context", "trusted_ca")
    if authority:
        authority.need("put the authorities into the secret upstream-ca")
    else:
        common.change("the server's certificate is verified: put its authorities into the secret upstream-ca")
    return {"sni": sni, "ca_secret": "upstream-ca"}


def _health(checks: Source) -> Json:
    first, *rest = checks.each() or [checks]
    for other in rest:
        other.lose("one health check is enough here")
    http = first["http_health_check"]
    path = http["path"].text()
    if not path:
        return {}
    host = http["host"].text()
    made: Json = {"http": {"path": path, **({"host": host} if host else {})}}
    for word in ("interval", "timeout"):
        found = duration(first[word].text())
        if found:
            made[word] = found
    for word in ("healthy_threshold", "unhealthy_threshold"):
        number = first[word].number()
        if number:
            made[word] = number
    return made


def _breaker(thresholds: Source) -> Json:
    made: Json = {}
    for one in thresholds.each():
        if one["priority"].text("DEFAULT") != "DEFAULT":
            one.lose("requests have no priority here")
            continue
        for word in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
            number = one[word].number()
            if number is not None:
                made[word] = number
    return made


def _outlier(detection: Source) -> Json:
    made: Json = {}
    words = (
        "consecutive_5xx",
        *(w for w in ("consecutive_gateway_failure",) if has(w, "upstreams", "*", "outlier_detection")),
    )
    for word in words:
        number = detection[word].number()
        if number:
            made[word] = number
    for word in ("interval", "base_ejection_time"):
        found = duration(detection[word].text())
        if found:
            made[word] = found
    percent = detection["max_ejection_percent"].number()
    if percent is not None:
        made["max_ejection_percent"] = f"{percent}%"
    return made


# ----------------------------------------------------------------------------------------------------------- listeners
def _listener(context: _Context, listener: Source) -> None:
    wanted = listener["name"].text("listener")
    address = listener.at("address", "socket_address")
    address.drop("protocol")
    host, port = address["address"].text(), address["port_value"].number()
    managers = [(chain, found) for chain in listener["filter_chains"].each() for found in _managers(chain)]
    if not port or not managers:
        listener.lose("a listener without a port or an HTTP connection manager")
        return
    certificates = [one for chain, _ in managers for one in _certificates(chain, wanted)]
    if certificates and any(not chain["transport_socket"] for chain, _ in managers):
        listener.lose("some of its filter chains speak TLS, and some do not")
        return
    name = context.draft.listener(wanted, port, "HTTPS" if certificates else "HTTP", certificates)
    body = context.draft.of("listeners")[name]
    if host:
        body["address"] = host
    for chain, manager in managers:
        _manager(context, body, name, manager, chain)
    listener.rest(NO_PLACE)


def _managers(chain: Source) -> list[Source]:
    found = []
    for one in chain["filters"].each():
        config = one["typed_config"]
        if HCM in str(one["name"].value) or "HttpConnectionManager" in str(config["@type"].value):
            one.drop("name")
            config.drop("@type")
            found.append(config)
        else:
            one.lose("the gateway speaks HTTP: there is no other network filter")
    return found


def _certificates(chain: Source, listener: str) -> list[Json]:
    socket = chain["transport_socket"]
    if not socket:
        return []
    context = socket["typed_config"]
    socket.drop("name")
    context.drop("@type")
    secret = f"{listener}-certificate".lower().replace("_", "-")
    common = context["common_tls_context"]
    for word in ("tls_certificates", "tls_certificate_sds_secret_configs"):
        if common[word]:
            common[word].need(f"put the certificate and its key into the secret {secret}")
    common["alpn_protocols"].rest("callers may speak HTTP/2 and HTTP/1.1: `http2`")
    hosts = [host for host in chain.at("filter_chain_match", "server_names").texts() if ":" not in host]
    return [{"secret": secret, **({"hosts": hosts} if hosts else {})}]


def _manager(context: _Context, body: Json, listener: str, manager: Source, chain: Source) -> None:
    hops = manager["xff_num_trusted_hops"].number()
    if hops:
        body["trusted_hops"] = hops
    manager["use_remote_address"].rest("`trusted_hops` says who may be believed")
    for log in ("access_log", "access_log_options"):
        manager[log].rest("the access log is JSON lines: see `access_log`")
    closed = _guards(manager["http_filters"]) or _client_certificates(chain) or _network_guard(chain)
    server_names = [name for name in chain.at("filter_chain_match", "server_names").texts() if ":" not in name]
    for host in manager.at("route_config", "virtual_hosts").each():
        try:
            hosts = hosts_of(host["domains"])
            if hosts == ["*"] and server_names:
                hosts = server_names
                host["domains"].change("the hosts are the names for which the filter chain is chosen")
            module = context.draft.module(host["name"].text("routes"), listener, hosts)
            routes_of(host, module, context.backends, closed)
        except LeftOut as why:
            host.lose(str(why))
    manager["rds"].rest("routes that come over RDS are not here")
    manager.at("route_config", "name").rest(NO_PLACE)
    manager.rest(NO_PLACE)


def _guards(filters: Source) -> str:
    """Why all routes behind the filters must be closed, if they must."""
    closed = ""
    for one in filters.each():
        name = str(one["name"].value)
        if name.endswith(".router"):
            one.take()
        elif name.rpartition(".")[2] in HARMLESS:
            one.lose("the gateway has its own filters")
        else:
            one.lose(f"{name} may keep callers out: the routes behind it refuse everybody")
            closed = f"the filter {name} could not be converted"
    return closed


def _network_guard(chain: Source) -> str:
    """A network filter beside the connection manager, which may refuse connections."""
    for one in chain["filters"].each():
        name = str(one["name"].value)
        manager = HCM in name or "HttpConnectionManager" in str(one.at("typed_config", "@type").value)
        if not manager and name.rpartition(".")[2] not in ("connection_limit", "local_ratelimit"):
            return f"the network filter {name} could not be converted"
    return ""


def _client_certificates(chain: Source) -> str:
    required = chain.at("transport_socket", "typed_config", "require_client_certificate")
    if not required.flag(default=False):
        return ""
    required.lose("write the listener's `tls.client_validation`: until then its routes refuse everybody")
    return "callers must show a certificate"
