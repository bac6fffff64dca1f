"""Gateways that are hard to match in, and requests that nearly miss their routes; the same ones for the same seed."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from gateway.match import Request

SEGMENTS: Final = ("a", "b", "ab", "v1", "A", "a.b", "x-y", "7", "items", "é", "a;b", "a%20b", "~")
PLAIN_SEGMENTS: Final = SEGMENTS[:9]
HOSTS: Final = ("*", "a.example", "b.a.example", "*.a.example", "*.example", "*.b.a.example", "localhost")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS: Final = ("x-a", "x-b", "accept", "content-type", "x-kind")
PARAMETERS: Final = ("a", "b", "ab", "a.b", "a%20b", "A")
COOKIES: Final = ("sid", "theme")
TEXTS: Final = ("1", "a", "ab", "abc", "open", "é", "a b", "1,2", "A")
VALUE_REGEXES: Final = ("[a-z]+", "a|b", "open|paid", ".", "..?", "(?i)AB.*", "[^a]*", "\\d+", "^a$", "1(,2)?")
COOKIE_REGEXES: Final = ("[a-z]+", "a|b", "(open|paid)", "[0-9]+")
CORS: Final = (
    {"allow_origins": ["https://app.example"], "allow_methods": ["GET", "POST"]},
    {"allow_origins": ["https://*.example"], "allow_credentials": True, "allow_headers": ["x-a"]},
)
TEMPLATES: Final = (
    "/{x}",
    "/a/{x}",
    "/{x}/b",
    "/a/{x}/b",
    "/a/{x=**}",
    "/**",
    "/a/*/b/**",
    "/v1/{x}/items/{y}",
    "/a/{x=b/*}",
    "/v1/pre{x}post",
    "/a/b",
    "/{x=**}/b",
    "/a/{x}.b",
)
REGEXES: Final = (
    ("/a/[a-z]+", "/a/b", "/a/items"),
    ("/a|/b/.*", "/a", "/b/x"),
    ("^/v1/.*$", "/v1/", "/v1/a/b"),
    ("/a/b?", "/a/", "/a/b"),
    ("/(a|b)/ab", "/a/ab", "/b/ab"),
    ("/a.*", "/a", "/ab/b"),
    (".*", "/", "/x"),
    ("/v1/\\d+", "/v1/7", "/v1/77"),
    ("(?i)/a/B", "/A/b", "/a/B"),
    ("/[^/]+/b", "/a/b", "/x/b"),
    ("/a/(b/)*ab", "/a/ab", "/a/b/b/ab"),
    ("/a\\.b", "/a.b", "/axb"),
    ("/a/.", "/a/b", "/a/%C3%A9"),
)
MUTATIONS: Final[tuple[Callable[[Random, str], str], ...]] = (
    lambda random, path: path + "/",
    lambda random, path: path.rstrip("/") or "/",
    lambda random, path: path + "/" + random.choice(SEGMENTS[:7]),
    lambda random, path: path.rpartition("/")[0] or "/",
    lambda random, path: path.upper(),
    lambda random, path: path + "x",
    lambda random, path: at_slash(random, path, "//"),
    lambda random, path: at_slash(random, path, "/./"),
    lambda random, path: at_slash(random, path, "/x/../"),
    lambda random, path: at_slash(random, path, "/x/%2e%2E/"),
    lambda random, path: at_slash(random, path, "/x/.%2e/"),
    lambda random, path: at_slash(random, path, "/..;p=1/"),
    lambda random, path: at_slash(random, path, "/%2e%2e;/"),
    lambda random, path: at_slash(random, path, "/.;/"),
    lambda random, path: at_slash(random, path, "/;/"),
    lambda random, path: at_slash(random, path, "\\"),
    lambda random, path: at_slash(random, path, "/..\\"),
    lambda random, path: at_slash(random, path, "%2F") if random.random() < 0.3 else path,
    lambda random, path: at_slash(random, path, "%5c") if random.random() < 0.3 else path,
    lambda random, path: path + ";x=1",
    lambda random, path: path + "/..",
    lambda random, path: path + "/.",
    lambda random, path: path + "/...",
    lambda random, path: path + "%",
    lambda random, path: path + random.choice(("%20", "%25", "%zz", "%C3%A9", "%c0%af", "%252e", "%7f", "%3f", "%23")),
    lambda random, path: path + random.choice(tuple("!$&'()*+,-._~:=@[]|^{}<>`\"")),
    lambda random, path: path + (random.choice(("#x", "%00", "é", "\x7f")) if random.random() < 0.3 else ""),
    lambda random, path: encoded(random, path),
    lambda random, path: "/" + path,
    lambda random, path: "//",
)


# ----------------------------------------------------------------------------------------------------------- gateways
def document(seed: int, listeners: int, route_table: str) -> dict[str, Any]:
    """A whole document, as YAML would give it: so many listeners, each with its own modules of 10 to 60 routes."""
    random = Random(seed)
    found: dict[str, Any] = {"version": 1, "tiers": {"free": {"unlimited": True}}, "listeners": {}, "modules": {}}
    for number in range(listeners):
        name = f"g{number}"
        found["listeners"][name] = listener(random, number, route_table)
        routes = random.randint(10, 60)
        modules = random.randint(1, 4)
        for module in range(modules):
            found["modules"][f"{name}-{module}"] = {
                "tier": "free",
                "listener": name,
                "authentication": "none",
                "hosts": random.sample(HOSTS, random.randint(1, 4)),
                **({"cors": random.choice(CORS)} if random.random() < 0.2 else {}),
                "routes": {f"r{index}": route(random) for index in range(routes // modules + 1)},
            }
    return found


def listener(random: Random, number: int, route_table: str) -> dict[str, Any]:
    found: dict[str, Any] = {"port": 8000 + number, "access_log": "none", "route_table": route_table}
    found["strict_paths"] = random.random() < 0.4
    found["escaped_slashes"] = "redirect" if random.random() < 0.3 else "reject"
    if number % 20 == 19:
        found["redirect"] = {"scheme": "https"}
    return found


def route(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"match": match(random), "respond": {"status": 200}}
    if random.random() < 0.15:
        found["priority"] = random.choice((-1, 1, 2))
    if random.random() < 0.1:
        found["cors"] = random.choice((*CORS, "none"))
    return found


def match(random: Random) -> dict[str, Any]:
    if random.random() < 0.04:
        service = random.choice(("a.B", "v1"))
        found: dict[str, Any] = {"grpc": {"service": service, **({"method": "Get"} if random.random() < 0.5 else {})}}
    else:
        found = {"path": path_match(random)}
    if random.random() < 0.35:
        found["methods"] = random.sample(METHODS, random.randint(1, 3))
    if random.random() < 0.25:
        found["headers"] = values(random, HEADERS, VALUE_REGEXES)
    if random.random() < 0.25:
        found["query"] = values(random, PARAMETERS, VALUE_REGEXES)
    if random.random() < 0.08:
        found["cookies"] = values(random, COOKIES, COOKIE_REGEXES)
    return found


def path_match(random: Random) -> dict[str, str]:
    kind = random.choices(("exact", "prefix", "template", "regex"), (4, 4, 3, 2))[0]
    if kind == "regex":
        return {kind: random.choice(REGEXES)[0]}
    if kind == "template":
        return {kind: random.choice(TEMPLATES)}
    segments = [random.choice(SEGMENTS) for _ in range(random.randint(0, 3))]
    return {kind: "/" + "/".join(segments) + ("/" if segments and random.random() < 0.2 else "")}


def values(random: Random, names: tuple[str, ...], regexes: tuple[str, ...]) -> dict[str, Any]:
    return {name: value(random, regexes) for name in random.sample(names, random.choice((1, 1, 1, 2)))}


def value(random: Random, regexes: tuple[str, ...]) -> dict[str, Any]:
    kind = random.choice(("exact", "exact", "prefix", "suffix", "contains", "regex", "present"))
    if kind == "present":
        return {kind: random.random() < 0.5}
    found: dict[str, Any] = {kind: random.choice(regexes if kind == "regex" else TEXTS)}
    return found | ({"optional": True} if random.random() < 0.3 else {})


# ----------------------------------------------------------------------------------------------------------- requests
def requests(seed: int, document: dict[str, Any], listener: str, count: int) -> Iterator[Request]:
    """Requests to one listener of the document, most of them made for one of its routes and then bent."""
    random = Random(f"{seed}/{listener}")
    modules = [module for module in document["modules"].values() if module["listener"] == listener]
    for _ in range(count):
        module = random.choice(modules)
        wanted = random.choice(list(module["routes"].values()))["match"]
        yield Request(
            method=random.choice(wanted.get("methods", METHODS)) if random.random() < 0.85 else random.choice(METHODS),
            target=path_for(random, wanted) + query_for(random, wanted.get("query", {})),
            host=host_for(random, module["hosts"]),
            headers=tuple(headers_for(random, wanted)),
            listener=listener,
        )


def path_for(random: Random, wanted: dict[str, Any]) -> str:
    path = fitting(random, wanted)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        path = random.choice(MUTATIONS)(random, path)
    return path


def fitting(random: Random, wanted: dict[str, Any]) -> str:
    if "grpc" in wanted:
        return "/" + wanted["grpc"]["service"] + "/" + wanted["grpc"].get("method", "List")
    ((kind, text),) = wanted["path"].items()
    if kind == "regex":
        return random.choice(next(found for found in REGEXES if found[0] == text)[1:])
    if kind == "template":
        return filled(random, text)
    below = "/" + random.choice(PLAIN_SEGMENTS) if kind == "prefix" and random.random() < 0.5 else ""
    return str(text).replace("é", "%C3%A9") + below


def filled(random: Random, template: str) -> str:
    """A path for a template: its operators replaced by segments."""
    for operator in ("{x=**}", "/**", "{x=b/*}", "{x}", "{y}", "*"):
        many = "/".join(random.choices(PLAIN_SEGMENTS, k=random.randint(0, 3)))
        one = random.choice((*PLAIN_SEGMENTS, ""))
        by = {"{x=**}": many, "/**": "/" + many, "{x=b/*}": "b/" + one}.get(operator, one)
        template = template.replace(operator, by)
    return template


def query_for(random: Random, wanted: dict[str, Any]) -> str:
    parts = [f"{name}={text_for(random, wanted[name])}" for name in wanted if random.random() < 0.8]
    more = ("", "=", "=1", "=ab", "=%61", "==", "=a?b=1", "=x//y/../z")
    parts += [random.choice(PARAMETERS) + random.choice(more) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    random.shuffle(parts)
    joined = random.choice(("&", "&", "&", "&&", ";", "?")).join(parts)
    return "?" + joined if joined or random.random() < 0.05 else ""


def headers_for(random: Random, wanted: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "grpc" in wanted and random.random() < 0.8:
        yield "content-type", "application/grpc"
    for name, value_match in wanted.get("headers", {}).items():
        if random.random() < 0.8:
            yield name.title(), text_for(random, value_match)
    while random.random() < 0.2:
        yield random.choice(HEADERS), random.choice((*TEXTS, "", " a ", "a\tb", "\udcff"))
    cookies = [f"{name}={text_for(random, found)}" for name, found in wanted.get("cookies", {}).items()]
    if cookies and random.random() < 0.8:
        yield "cookie", random.choice(("; ", ";", "; x=1; ")).join(cookies)
    if random.random() < 0.06:
        yield "origin", random.choice(("https://app.example", "https://evil.test"))
        yield "access-control-request-method", random.choice(METHODS)


def text_for(random: Random, value_match: dict[str, Any]) -> str:
    """A text that fits the comparison, or is near to it."""
    text = str(next(iter(value_match.values())))
    if "regex" in value_match or "present" in value_match:
        return random.choice(("a", "b", "open", "1", "7", "ab", "1,2"))
    around = random.choice(("", "", "x", "é"))
    before = around if "suffix" in value_match or "contains" in value_match or random.random() < 0.1 else ""
    after = around if "prefix" in value_match or "contains" in value_match or random.random() < 0.1 else ""
    return before + text + after


def host_for(random: Random, hosts: list[str]) -> str:
    host = random.choice(hosts) if random.random() < 0.8 else random.choice(HOSTS)
    host = host.replace("*", random.choice(("c", "x.y", "b", "")))
    change = random.choice(("", "", "", "", ".", ":80", ".:8080", ":", "upper", "..", ":x"))
    return host.upper() if change == "upper" else host + change


def at_slash(random: Random, path: str, by: str) -> str:
    """One of the slashes replaced."""
    places = [index for index, char in enumerate(path) if char == "/"]
    at = random.choice(places) if places else len(path)
    return path[:at] + by + path[at + 1 :]


def encoded(random: Random, path: str) -> str:
    """One character percent-encoded."""
    at = random.randrange(len(path))
    return path if path[at] in "/\\é" else path[:at] + f"%{ord(path[at]):02x}" + path[at + 1 :]


def wire(request: Request) -> bytes:
    """The request as HTTP/1.1 bytes."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {request.host}"]
    lines += [f"{name}: {text}" for name, text in request.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
