"""Envoy Gateway's policies as policies of the routes that they are for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gwctl.importing.draft import Draft, Json, closed, duration, has
from gwctl.importing.source import Source

NO_PLACE: Final = "the gateway has no place for it"
UNITS: Final = {"Second": "second", "Minute": "minute", "Hour": "hour", "Day": "day", "Month": "month", "Year": "year"}


@dataclass
class Policy:
    """`targets`: kind and namespace/name. `shut`: why its routes must refuse everybody. `used`: if any has it."""

    source: Source
    targets: list[tuple[str, str]]
    made: Json = field(default_factory=dict)
    shut: str = ""
    used: bool = False

    def is_for(self, kind: str, key: str, gateways: Sequence[str]) -> bool:
        return (kind, key) in self.targets or any(("Gateway", one) in self.targets for one in gateways)

    def apply(self, route: Json) -> Json:
        """What the route says itself stays."""
        self.used = True
        if self.shut:
            return closed(route["match"], self.shut)
        return route if "respond" in route else {**self.made, **route}  # one that answers is closed already

    def finish(self) -> None:
        if not self.used:
            self.source.lose("it is for nothing that is here")


def policies_of(draft: Draft, objects: Mapping[str, Source]) -> Iterator[Policy]:
    """Those of routes before those of Gateways, so that the nearer one says it first."""
    found = []
    for key, one in objects.items():
        kind, namespace, _ = key.split("/", 2)
        if not kind.endswith("Policy") or _harmless(kind, one["spec"]):
            continue
        policy = Policy(one, _targets(one["spec"], namespace))
        if kind == "BackendTrafficPolicy":
            _traffic(draft, policy, one["spec"])
        elif kind == "SecurityPolicy":
            _security(draft, policy, one["spec"])
        else:
            policy.shut = f"the {kind} could not be converted"
            one["spec"].lose("it may keep callers out: the routes that it is for refuse everybody")
        found.append(policy)
    yield from sorted(found, key=lambda policy: any(kind == "Gateway" for kind, _ in policy.targets))


def _harmless(kind: str, spec: Source) -> bool:
    """Policies without which nobody is let in who was not before."""
    return kind == "BackendTLSPolicy" or (kind == "ClientTrafficPolicy" and not spec.at("tls", "clientValidation"))


def _targets(spec: Source, namespace: str) -> list[tuple[str, str]]:
    found = []
    for target in [*spec["targetRefs"].each(), *([spec["targetRef"]] if spec["targetRef"] else [])]:
        target.drop("group")
        found.append((target["kind"].text(), f"{namespace}/{target['name'].text()}"))
        target["sectionName"].rest("it is for the whole of it")
    return found


def _traffic(draft: Draft, policy: Policy, spec: Source) -> None:
    request = duration(spec.at("timeout", "http", "requestTimeout").text())
    if request:
        policy.made["timeouts"] = {"request": request}
    retry = spec["retry"]
    if retry:
        policy.made["retry"] = _retry(retry)
    limits = list(_limits(spec["rateLimit"]))
    if limits:
        policy.made["rate_limits"] = limits
    for word in ("loadBalancer", "healthCheck", "circuitBreaker", "tcpKeepalive", "connection", "dns", "http2"):
        spec[word].rest("write it in the upstream")
    spec.rest(NO_PLACE)


def _retry(retry: Source) -> Json:
    made: Json = {"attempts": min(10, retry["numRetries"].number() or 2)}
    on = retry["retryOn"]
    codes = [number for code in on["httpStatusCodes"].each() if (number := code.number())]
    per_try = duration(retry.at("perRetry", "timeout").text())
    base = duration(retry.at("perRetry", "backOff", "baseInterval").text())
    longest = duration(retry.at("perRetry", "backOff", "maxInterval").text())
    backoff = {word: value for word, value in (("base", base), ("max", longest)) if value}
    return (
        made
        | ({"codes": codes} if codes else {})
        | ({"per_try_timeout": per_try} if per_try else {})
        | ({"backoff": backoff} if backoff else {})
    )


def _limits(limit: Source) -> Iterator[Json]:
    limit.drop("type")
    for word in ("global", "local"):
        for rule in limit[word]["rules"].each():
            if rule["clientSelectors"].value:
                rule.lose("a limit for some of the requests: write it in a route of its own")
                continue
            number, unit = rule.at("limit", "requests").number(), rule.at("limit", "unit").text()
            if number and unit in UNITS:
                rule.change("counted for each route, whoever calls")
                yield {"limit": f"{number}/{UNITS[unit]}", "per": "route"}


def _security(draft: Draft, policy: Policy, spec: Source) -> None:
    for word in spec.value or ():
        if word not in ("targetRef", "targetRefs", "cors", "jwt"):
            spec[word].lose("it may keep callers out: the routes that it is for refuse everybody")
            policy.shut = f"the SecurityPolicy's {word} could not be converted"
    if spec["cors"]:
        policy.made["cors"] = _cors(spec["cors"])
    if spec["jwt"]:
        _jwt(draft, policy, spec["jwt"])
    spec.rest(NO_PLACE)


def _cors(cors: Source) -> Json:
    made: Json = {"allow_origins": cors["allowOrigins"].texts() or ["*"]}
    for word, ours in (("allowMethods", "allow_methods"), ("allowHeaders", "allow_headers")):
        written = cors[word].texts()
        if written:
            made[ours] = written if ours == "allow_methods" else [name.lower() for name in written]
    exposed = [name.lower() for name in cors["exposeHeaders"].texts()]
    age = duration(cors["maxAge"].text())
    if cors["allowCredentials"].flag(default=False):
        made["allow_credentials"] = True
    return made | ({"expose_headers": exposed} if exposed else {}) | ({"max_age": age} if age else {})


def _jwt(draft: Draft, policy: Policy, jwt: Source) -> None:
    names = [_provider(draft, one) for one in jwt["providers"].each()]
    if not names:
        jwt.lose("there is no provider: the routes refuse everybody")
        policy.shut = "the SecurityPolicy's jwt could not be converted"
        return
    policy.made["authentication"] = {"any_of": names}
    if not jwt["optional"].flag(default=False):
        return
    if has("optional", "modules", "*", "authentication"):
        policy.made["authentication"]["optional"] = True
    else:
        jwt["optional"].change("a token is asked for")


def _provider(draft: Draft, provider: Source) -> str:
    wanted = provider["name"].text("jwt")
    name = draft.name("jwt_providers", wanted)
    issuer, audiences = provider["issuer"].text(), provider["audiences"].texts()
    uri, inline = provider.at("remoteJWKS", "uri").text(), provider.at("localJWKS", "inline").text()
    body: Json = {"issuer": issuer or "https://issuer.example/", "audiences": audiences or [name]}
    if not issuer or not audiences:
        provider["name"].need("fill in the provider's issuer and audiences")
    if uri and has("uri", "jwt_providers", "*", "jwks"):
        body["jwks"] = {"uri": uri}
    elif inline:
        body["jwks"] = {"inline": inline}
    else:
        provider["name"].need("fill in the provider's jwks")
        body["jwks"] = {"hs256": {"secret": name}}
    headers = {one["claim"].text(): one["header"].text().lower() for one in provider["claimToHeaders"].each()}
    if headers:
        body["claims_to_headers"] = headers
    return draft.add("jwt_providers", wanted, body)
