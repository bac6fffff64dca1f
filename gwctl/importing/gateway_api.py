"""Gateway API: Gateways become listeners, HTTPRoutes and GRPCRoutes modules, Services upstreams.

Of Envoy Gateway's policies: BackendTrafficPolicy for timeouts, retries and limits, SecurityPolicy for CORS and JWTs. A
SecurityPolicy that says more than that closes the routes that it is for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gwctl.importing.draft import Draft, Json, Place, add_route
from gwctl.importing.envoy_routes import LeftOut
from gwctl.importing.gateway_policies import Policy, policies_of
from gwctl.importing.gateway_routes import http_rule, rule_matches
from gwctl.importing.source import Source

NO_PLACE: Final = "the gateway has no place for it"
KUBERNETES: Final = "the cluster's business"
ROUTES: Final = ("HTTPRoute", "GRPCRoute")
KNOWN: Final = (*ROUTES, "Gateway", "GatewayClass", "Service", "Backend", "BackendTrafficPolicy", "SecurityPolicy")


@dataclass
class Context:
    """`listeners`: ours by Gateway (namespace/name) and section; `backends`: of a Service or Backend and its port."""

    draft: Draft
    objects: dict[str, Source]
    listeners: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    backends: dict[tuple[str, int], list[Json]] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)


def convert(source: Source) -> Json:
    context = Context(Draft(), dict(source.items()))
    for one in context.objects.values():
        one.drop("apiVersion", "kind")
        one["status"].rest("it is the cluster's report")
        for word in ("name", "namespace"):
            one["metadata"].drop(word)
    for key, gateway in _of(context, "Gateway"):
        _gateway(context, key, gateway)
    context.policies = list(policies_of(context.draft, context.objects))
    for kind in ROUTES:
        for key, route in _of(context, kind):
            _route(context, kind, key, route)
    for policy in context.policies:
        policy.finish()
    for key, one in context.objects.items():
        kind = key.split("/", 1)[0]
        one.at("metadata").rest(NO_PLACE)
        one.rest(KUBERNETES if kind in KNOWN else f"there is no {kind} here")
    return context.draft.document()


def _of(context: Context, kind: str) -> Iterator[tuple[str, Source]]:
    for key, one in context.objects.items():
        if key.startswith(f"{kind}/"):
            yield key.split("/", 1)[1], one


# ------------------------------------------------------------------------------------------------------------ gateways
def _gateway(context: Context, key: str, gateway: Source) -> None:
    spec = gateway["spec"]
    spec.drop("gatewayClassName")
    ours: dict[tuple[int, str], str] = {}
    for listener in spec["listeners"].each():
        name, protocol = listener["name"].text(), listener["protocol"].text("HTTP")
        port = listener["port"].number()
        if protocol not in ("HTTP", "HTTPS") or not port:
            listener.lose(f"the gateway speaks HTTP, not {protocol}")
            continue
        host = listener["hostname"].text()
        if (port, protocol) not in ours:  # several listeners of a port are told apart by their hostname
            ours[port, protocol] = context.draft.listener(name, port, protocol)
        made = ours[port, protocol]
        context.listeners[key, name] = (made, host)
        if protocol == "HTTPS":
            _certificates(context.draft.of("listeners")[made], listener, host)
        listener["allowedRoutes"].rest("a route names its gateway, from whatever namespace")
    spec.rest(NO_PLACE)


def _certificates(body: Json, listener: Source, host: str) -> None:
    tls = listener["tls"]
    if tls["mode"].text("Terminate") != "Terminate":
        tls["mode"].change("TLS ends at the gateway")
    found = body.setdefault("tls", {"certificates": []})["certificates"]
    for reference in tls["certificateRefs"].each():
        name = reference["name"].text()
        reference.need(f"put the certificate into the secret {name}")
        found.append({"secret": name, **({"hosts": [host]} if host else {})})
    if not found:
        listener.need("put a certificate into the secret default-certificate")
        found.append({"secret": "default-certificate"})


# -------------------------------------------------------------------------------------------------------------- routes
def _route(context: Context, kind: str, key: str, route: Source) -> None:
    namespace, _, name = key.partition("/")
    spec = route["spec"]
    hostnames = [host.lower() for host in spec["hostnames"].texts()]
    placed = list(_placed(context, namespace, spec["parentRefs"], hostnames))
    if not placed:
        route.lose("no listener of a Gateway here has it")
        return
    mine = [policy for policy in context.policies if policy.is_for(kind, key, [parent for parent, _, _ in placed])]
    for _, listener, hosts in placed:
        module = context.draft.module(name, listener, hosts)
        for at, rule in enumerate(spec["rules"].each(), 1):
            _rule(context, kind, namespace, module, rule, rule["name"].text(f"rule-{at}"), mine)
    spec.rest(NO_PLACE)


def _placed(
    context: Context, namespace: str, parents: Source, hostnames: list[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """The Gateway, our listener, and the hosts on it, for each place where the route is attached."""
    found: dict[tuple[str, str], list[str]] = {}
    for parent in parents.each():
        gateway = f"{parent['namespace'].text(namespace)}/{parent['name'].text()}"
        section, port = parent["sectionName"].text(), parent["port"].value
        parent.drop("group", "kind", "port")
        seen = False
        for (owner, name), (listener, host) in context.listeners.items():
            if owner != gateway or section not in ("", name):
                continue
            if port is not None and context.draft.of("listeners")[listener]["port"] != port:
                continue
            seen = True
            hosts = _shared(hostnames, host)
            if hosts is not None:
                found.setdefault((owner, listener), []).extend(hosts)
        if not seen:
            parent.lose("there is no such listener here")
    for (owner, listener), hosts in found.items():
        yield owner, listener, [] if "" in hosts else list(dict.fromkeys(hosts))


def _shared(hostnames: list[str], listener: str) -> list[str] | None:
    """The hosts of a route on a listener with a hostname; [""] for all hosts, None for none."""
    if not hostnames:
        return [listener.lower()]
    if not listener:
        return hostnames
    shared = [one if _within(one, listener) else listener for one in hostnames if _meet(one, listener)]
    return shared or None


def _within(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _meet(one: str, other: str) -> bool:
    return _within(one, other) or _within(other, one)


def _rule(
    context: Context, kind: str, namespace: str, module: Json, rule: Source, name: str, policies: list[Policy]
) -> None:
    for at, match in enumerate(rule_matches(kind, rule), 1):
        try:
            made = match()
        except LeftOut as why:
            rule["matches"].lose(f"{why}: the route is left out")
            continue
        route = http_rule(rule, made, lambda reference: backends(context, namespace, kind, reference))
        for policy in policies:
            route = policy.apply(route)
        add_route(module, name if at == 1 else f"{name}-{at}", route)
    rule.rest(NO_PLACE)


# ------------------------------------------------------------------------------------------------------------ backends
def backends(context: Context, namespace: str, kind: str, reference: Source) -> list[Json] | None:
    """The upstreams of a reference, made when they are first asked for. None for a kind that there is not here."""
    what, name = reference["kind"].text("Service"), reference["name"].text()
    where = reference["namespace"].text(namespace)
    port = reference["port"].number() or 0
    reference.drop("group")
    key = (f"{what}/{where}/{name}", port)
    if key in context.backends:
        return context.backends[key]
    more = {"protocol": "grpc"} if kind == "GRPCRoute" else {}
    if what == "Service" and port:
        found = context.draft.balanced(name, [Place(f"{name}.{where}.svc.cluster.local", port)], more)
    elif what == "Backend" and f"Backend/{where}/{name}" in context.objects:
        found = context.draft.balanced(name, _endpoints(context.objects[f"Backend/{where}/{name}"]), more)
    else:
        return None
    context.backends[key] = found
    return found


def _endpoints(backend: Source) -> list[Place]:
    found = []
    for one in backend.at("spec", "endpoints").each():
        for word, host in (("ip", "address"), ("fqdn", "hostname")):
            place = one[word]
            if place:
                found.append(Place(place[host].text(), place["port"].number() or 80))
    return found
