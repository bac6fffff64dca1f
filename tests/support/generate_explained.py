"""Gateways that know their callers, and callers of every kind; the same ones for the same seed.

Routes and requests are those of `generate_gateway`; on top come ways to authenticate, tiers, rules, a floor, limits of
zero, faults, rewrites and redirects. Whatever is drawn must decide alike for every request, so no shares and no counts.
"""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from gateway.explain import Asked, Key, Password, Token
from gateway.match import Request
from tests.support import generate_gateway as plain

ADDRESSES: Final = ("127.0.0.1", "10.1.2.3", "10.9.0.1", "203.0.113.9", "2001:db8::7")
CIDRS: Final = ("10.0.0.0/8", "10.1.0.0/16", "203.0.113.9", "2001:db8::/32", "192.0.2.0/24")
SCOPES: Final = ("read", "write", "admin:all")
TIERS: Final = ("free", "silver", "gold")
UPSTREAMS: Final = ("blue", "green", "canary")
ISSUERS: Final = {"acme": "https://acme.example/", "other": "https://other.example/", "third": "https://third.example/"}
CLAIMS: Final = ("org", "verified", "level", "groups", "address.country", "https://acme.example/role")
USER: Final = "ada"


# ------------------------------------------------------------------------------------------------------------ document
def document(seed: int, listeners: int, keys: str) -> dict[str, Any]:
    """`keys`: the JSON Web Key Set of the provider `other`. In every third gateway Envoy knows callers by itself."""
    random = Random(f"explained/{seed}")
    alone = seed % 3 == 0
    found = plain.document(seed, listeners, random.choice(("tree", "list")))
    found["tiers"] = {name: {"unlimited": True} for name in TIERS}
    found["upstreams"] = {
        name: {"type": "static", "endpoints": [{"address": "10.0.0.1", "port": 80}]} for name in UPSTREAMS
    }
    found["jwt_providers"] = providers(keys, alone=alone)
    found["api_keys"] = {"partner": {}, "script": {"from": {"query": ["api_key"]}, "strip": random.random() < 0.5}}
    found["basic_auth"] = {"staff": {"users_secret": "staff"}}
    found["rate_limit_defaults"] = {"decision": random.choice(("separate", "separate", "combined"))}
    if random.random() < 0.4:
        found["floor"] = {"authorization": authorization(random)}
    for listener in found["listeners"].values():
        listener["trusted_hops"] = random.choice((0, 1, 2))
    for module in found["modules"].values():
        enrich(random, module, alone=alone)
    return found


def providers(keys: str, *, alone: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "acme": {
            "issuer": ISSUERS["acme"],
            "audiences": ["lab", "ops"],
            "jwks": {"hs256": {"secret": "acme"}},
            "tier_claim": "plan",
        }
    }
    if not alone:
        found["other"] = {
            "issuer": ISSUERS["other"],
            "audiences": ["lab"],
            "jwks": {"inline": keys},
            "scope_claim": "realm.roles",
            "clock_skew": "0s",
            "max_lifetime": "1h",
        }
        found["third"] = {
            "issuer": ISSUERS["third"],
            "audiences": ["lab"],
            "jwks": {"hs256": {"secret": "acme"}},
            "from": {"headers": [{"name": "x-token"}]},
        }
    return found


def enrich(random: Random, module: dict[str, Any], *, alone: bool) -> None:
    module["tier"] = random.choice(TIERS)
    module["authentication"] = authentication(random, alone=alone)
    if random.random() < 0.5:
        module["authorization"] = authorization(random)
    if random.random() < 0.15:
        module["csrf"] = {"additional_origins": ["app.example", "*.example"]}
    for route in module["routes"].values():
        if random.random() < 0.3:
            route["authentication"] = authentication(random, alone=alone)
        if random.random() < 0.4:
            route["authorization"] = authorization(random)
        if random.random() < 0.05:
            route["rate_limits"] = [{"limit": "0/hour", "per": "ip", "shadow": random.random() < 0.3}]
        if random.random() < 0.04:
            route["fault_injection"] = {"abort": {"status": random.choice((418, 503)), "percentage": "100%"}}
        act(random, route)


def authentication(random: Random, *, alone: bool) -> Any:
    names = ("acme", "partner", "script", "staff") if alone else (*ISSUERS, "partner", "script", "staff")
    kind = random.choices(("none", "acme", "any", "optional", "all"), (2, 4, 4, 2, 2))[0]
    match kind:
        case "none":
            return "none"
        case "acme":
            return {"any_of": ["acme"]}
        case "all":
            return {"all_of": random.sample(names, 2)}
        case _:
            chosen = random.sample(names, random.randint(1, 3))
            return {"any_of": chosen} | ({"optional": True} if kind == "optional" else {})


def authorization(random: Random) -> dict[str, Any]:
    rules = [rule(random, number) for number in range(random.randint(0, 4))]
    return {"default_action": random.choice(("allow", "allow", "deny")), "rules": rules}


def rule(random: Random, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"rule-{number}", "action": random.choice(("allow", "allow", "deny"))}
    if random.random() < 0.35:
        found["scopes"] = random.sample(SCOPES, random.choice((1, 1, 2)))
    if random.random() < 0.3:
        found["claims"] = dict([claim(random)])
    if random.random() < 0.25:
        found["tiers"] = random.sample(TIERS, random.choice((1, 2)))
    if random.random() < 0.25:
        found["methods"] = random.sample(plain.METHODS, random.randint(1, 4))
    if random.random() < 0.25:
        found["paths"] = [plain.path_match(random) for _ in range(random.choice((1, 2)))]
    if random.random() < 0.25:
        found["cidrs"] = random.sample(CIDRS, random.choice((1, 2)))
    if random.random() < 0.15:
        found["shadow"] = True
    return found


def claim(random: Random) -> tuple[str, dict[str, Any]]:
    name = random.choice(CLAIMS)
    values: dict[str, tuple[Any, ...]] = {"verified": (True, False), "level": (1, 2, 3)}
    if name in values:
        return name, {"exact": random.choice(values[name])}
    if random.random() < 0.5:
        return name, {"in": random.sample(("a", "b", "c", "1"), 2)}
    return name, {"exact": random.choice(("a", "b", "1"))}


def act(random: Random, route: dict[str, Any]) -> None:
    """Most routes send on; some of them rewrite, some redirect, the others answer as they did."""
    kind = random.choices(("send", "redirect", "respond"), (6, 1, 2))[0]
    matched = route["match"].get("path", {})
    if kind == "send":
        del route["respond"]
        chosen = random.sample(UPSTREAMS, random.choice((1, 1, 2)))
        route["backends"] = [{"upstream": name, "weight": random.choice((1, 3))} for name in chosen]
        if random.random() < 0.4:
            route["rewrite"] = rewrite(random, matched)
    elif kind == "redirect":
        del route["respond"]
        route["redirect"] = redirect(random, matched)


def rewrite(random: Random, matched: dict[str, str]) -> dict[str, Any]:
    paths: list[dict[str, Any]] = [
        {"exact": "/fixed"},
        {"regex": {"pattern": "/([a-z]+)", "substitution": "/x-\\1"}},
        {"regex": {"pattern": "b*", "substitution": "-"}},
    ]
    if "prefix" in matched:
        paths += [{"prefix": random.choice(("/", "/new", "/new/", "/a/b"))}] * 3
    if "template" in matched:
        names = [name for name in ("x", "y") if f"{{{name}" in matched["template"]]
        paths += [{"template": "/t/" + "/".join(f"{{{name}}}" for name in names)}] * (3 if names else 0)
    return {"path": random.choice(paths)} | ({"host": "inside.example"} if random.random() < 0.3 else {})


def redirect(random: Random, matched: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"status": random.choice((301, 302, 307, 308))}
    if random.random() < 0.4:
        found["scheme"] = "https"
    if random.random() < 0.4:
        found["host"] = "elsewhere.example"
    if random.random() < 0.3:
        found["port"] = random.choice((80, 443, 8443))
    kinds = ["path", "path_regex", ""] + (["path_prefix"] * 2 if {"prefix", "exact"} & matched.keys() else [])
    match random.choice(kinds):
        case "path":
            found["path"] = "/gone"
        case "path_prefix":
            found["path_prefix"] = random.choice(("/", "/moved"))
        case "path_regex":
            found["path_regex"] = {"pattern": "a", "substitution": "A"}
    if found.keys() == {"status"}:
        found["path"] = "/gone"
    return found


# ------------------------------------------------------------------------------------------------------------ requests
def asked(seed: int, document: dict[str, Any], listener: str, count: int, now: float) -> Iterator[Asked]:
    random = Random(f"asked/{seed}/{listener}")
    names = tuple(document["jwt_providers"])
    for request in plain.requests(seed, document, listener, count):
        shown = token(random, names, now) if random.random() < 0.6 else None
        typed = Password(USER, random.random() < 0.7) if random.random() < 0.1 else None
        yield Asked(
            request=with_page(random, request),
            address=random.choice(ADDRESSES),
            token=shown,
            key=key(random) if random.random() < 0.3 else None,
            password=typed if shown is None else None,  # one Authorization has room for one of them
            now=now,
        )


def with_page(random: Random, request: Request) -> Request:
    """Now and then from a page, of this host or of another one."""
    if random.random() > 0.2:
        return request
    page = random.choice(("https://app.example", "https://evil.test", f"http://{request.host}", "null"))
    headers = (*request.headers, (random.choice(("origin", "referer")), page))
    return Request(request.method, request.target, request.host, headers, request.listener)


def token(random: Random, providers: tuple[str, ...], now: float) -> Token:
    meant = random.choice((*providers, "acme", "acme"))
    claims: dict[str, Any] = {"iss": ISSUERS[meant], "aud": "lab", "sub": "u1", "exp": int(now) + 600}
    claims |= {"plan": random.choice((*TIERS, "gold", "platinum"))}
    words = random.sample(SCOPES, random.randint(0, 3))
    claims["scope"] = " ".join(words) if random.random() < 0.7 else words
    claims["realm"] = {"roles": words if random.random() < 0.7 else " ".join(words)}
    for name in random.sample(CLAIMS, random.randint(0, 4)):
        put(claims, name, value(random, name))
    signature = "bad" if random.random() < 0.06 else "good"
    if random.random() < 0.25:
        spoil(random, claims, now)
    return Token(claims, meant if random.random() < 0.1 else None, signature)


def put(claims: dict[str, Any], name: str, found: Any) -> None:
    outer, _, inner = ("", "", name) if "/" in name else name.rpartition(".")
    (claims.setdefault(outer, {}) if outer else claims)[inner] = found


def value(random: Random, name: str) -> Any:
    kinds: dict[str, tuple[Any, ...]] = {"verified": (True, False, "true", 1), "level": (1, 2, 2.0, 3, "1", True)}
    return random.choice(kinds.get(name, ("a", "b", "c", "1", ["a", "b"], ["c"], [], 1, {"a": "b"}, None)))


def spoil(random: Random, claims: dict[str, Any], now: float) -> None:  # noqa: C901 - a list of ways
    match random.randrange(12):
        case 0:
            claims["aud"] = random.choice(("wrong", ["wrong"], ["wrong", "lab"], "ops", ["ops"], []))
        case 1:
            del claims["aud"]
        case 2:
            claims["iss"] = "https://nobody.example/"
        case 3:
            del claims["iss"]
        case 4:
            claims["exp"] = int(now) - random.choice((5, 60, 3600))
        case 5:
            del claims["exp"]
        case 6:
            claims["exp"] = int(now) + random.choice((2 * 3600, 3 * 86_400))
        case 7:
            claims["nbf"] = int(now) + random.choice((-60, 5, 60, 3600))
        case 8:
            del claims["sub"]
        case 9:
            claims["sub"] = random.choice(("", 7))
        case 10:
            claims["scope"] = random.choice((None, 5, {"read": True}, "read  write ", ["read", 5]))
        case 11:
            claims["plan"] = random.choice((None, 5, ["gold"], ""))


def key(random: Random) -> Key:
    state = random.choices(("good", "malformed", "unknown", "wrong", "revoked", "disabled", "expired"), (10, *[1] * 6))[
        0
    ]
    networks = random.sample(CIDRS, 1) if random.random() < 0.1 else ()
    return Key(state, "client-1", random.choice((*TIERS, "platinum")), tuple(random.sample(SCOPES, 1)), tuple(networks))
