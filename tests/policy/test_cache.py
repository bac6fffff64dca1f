"""The response cache without Envoy: what RFC 9111 lets it keep and give, keys, entries, the stores and its memory."""

import pytest
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3 import external_processor_pb2 as wire
from prometheus_client import CollectorRegistry
from valkey.asyncio import Valkey

from gateway import caching
from gateway.caching import Terms
from policy.cache import key, processor, rules
from policy.cache.entry import Choice, Stored, decode, encode
from policy.cache.library import Library
from policy.cache.message import Request, Response
from policy.cache.processor import ResponseCache
from policy.cache.store import MemoryStore
from policy.cache.valkey import ValkeyStore
from policy.metrics import Metrics

OPEN = Terms("m/r", ttl=300_000, max_size=1000, guarded=False)
GUARDED = Terms("m/r", ttl=300_000, max_size=1000)
NOW = 1_700_000_000
DATE = ("date", "Tue, 14 Nov 2023 22:13:20 GMT")  # NOW


def asks(*headers: tuple[str, str], method: str = "GET", path: str = "/a?b=1", body: bool = False) -> Request:
    return Request(method, "https", "api.example.com", path, headers, body)


def answers(*headers: tuple[str, str], status: int = 200) -> Response:
    return Response(status, headers)


def control(text: str) -> tuple[str, str]:
    return ("cache-control", text)


# --------------------------------------------------------------------------------------------------------------- rules
@pytest.mark.parametrize(
    ("request_", "looks"),
    [
        (asks(), True),
        (asks(method="HEAD"), True),
        (asks(control("no-cache")), True),
        (asks(method="POST"), False),
        (asks(body=True), False),
        (asks(control("No-Store")), False),
        (asks(("range", "bytes=0-1")), False),
        (asks(("if-match", '"a"')), False),
        (asks(("upgrade", "websocket")), False),
    ],
)
def test_which_requests_are_looked_up(request_: Request, looks: bool) -> None:
    assert rules.looks_up(request_) is looks


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 300),
        ((control("max-age=10"),), 10),
        ((control("max-age=900"),), 300),
        ((control("max-age=10, s-maxage=20"),), 20),
        ((control('max-age="10"'),), 10),
        ((control("max-age=10"), control("max-age=20")), 10),
        ((control("max-age=ten"),), 0),
        ((control("max-age=-1"),), 0),
        ((control("max-age=99999999999999999999"),), 300),
        ((control("max-age=100"), ("age", "40")), 60),
        ((control("max-age=900"), ("age", "400")), 300),
        ((control("max-age=100"), ("age", "100")), 0),
        ((DATE, ("expires", "Tue, 14 Nov 2023 22:14:20 GMT")), 60),
        ((("expires", "Tue, 14 Nov 2023 22:14:20 GMT"),), 60),
        ((("expires", "Tue, 14 Nov 2023 22:12:20 GMT"),), 0),
        ((("expires", "0"),), 0),
        ((control("no-store"),), 0),
        ((control("public, Private"),), 0),
        ((control('private="x-a"'),), 0),
        ((control("no-cache, max-age=10"),), 0),
        ((control("x=no-store, max-age=7"),), 7),
        ((control('x="a, no-store", max-age=7'),), 7),
        ((("set-cookie", "a=b"), control("public")), 0),
        ((("vary", "*"),), 0),
        ((("vary", "accept, *"),), 0),
        ((("vary", "accept"),), 300),
    ],
)
def test_how_long_an_answer_is_kept(headers: tuple[tuple[str, str], ...], seconds: int) -> None:
    assert rules.lifetime(OPEN, asks(), answers(*headers), NOW) == seconds


def test_statuses() -> None:
    kept = {status for status in range(1000) if rules.lifetime(OPEN, asks(), answers(status=status), NOW)}
    assert kept == {200, 203, 204, 301, 308}


@pytest.mark.parametrize("said", ["", "max-age=60", "private", "public", "s-maxage=60", "must-revalidate, max-age=60"])
def test_an_answer_to_somebody_known_is_kept_if_it_is_for_all(said: str) -> None:
    response = answers(control(said))
    for_all = said.split(",")[0].split("=")[0] in {"public", "s-maxage", "must-revalidate"}
    assert (rules.lifetime(GUARDED, asks(), response, NOW) > 0) is for_all
    for name in rules.CREDENTIALS:
        assert (rules.lifetime(OPEN, asks((name, "a")), response, NOW) > 0) is for_all
        assert rules.accepts(asks((name, "a")), 0, 60, for_all=rules.is_for_all(response)) is for_all


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ((), True),
        ((control("max-age=20"),), True),
        ((control("max-age=19"),), False),
        ((control("max-age=x"),), False),
        ((control("min-fresh=80"),), True),
        ((control("min-fresh=81"),), False),
        ((control("no-cache"),), False),
        ((("pragma", "No-Cache"),), False),
        ((("pragma", "no-cache"), control("max-age=50")), True),
        ((control("max-stale=5"),), True),
    ],
)
def test_how_old_an_answer_a_request_takes(headers: tuple[tuple[str, str], ...], accepted: bool) -> None:
    assert rules.accepts(asks(*headers), 20, 100, for_all=False) is accepted


@pytest.mark.parametrize(
    ("asked", "said", "unchanged"),
    [
        ((("if-none-match", '"a"'),), (("etag", '"a"'),), True),
        ((("if-none-match", '"b", W/"a"'),), (("etag", '"a"'),), True),
        ((("if-none-match", '"a"'),), (("etag", 'W/"a"'),), True),
        ((("if-none-match", "*"),), (), True),
        ((("if-none-match", '"b"'),), (("etag", '"a"'),), False),
        ((("if-none-match", '"a"'),), (), False),
        ((("if-modified-since", DATE[1]),), (("last-modified", DATE[1]),), True),
        ((("if-modified-since", "Tue, 14 Nov 2023 22:13:19 GMT"),), (("last-modified", DATE[1]),), False),
        ((("if-modified-since", "soon"),), (("last-modified", DATE[1]),), False),
        ((("if-none-match", '"b"'), ("if-modified-since", DATE[1])), (("last-modified", DATE[1]),), False),
        ((), (("etag", '"a"'),), False),
    ],
)
def test_what_has_not_changed(asked, said, unchanged: bool) -> None:
    assert rules.not_modified(asks(*asked), answers(*said)) is unchanged


def test_headers_of_one_connection_are_not_kept() -> None:
    one = (("connection", "close, X-Hop"), ("x-hop", "1"), ("te", "a"), ("x-request-id", "1"), ("x-envoy-a", "1"))
    assert rules.kept_headers((*one, ("etag", '"a"'), ("age", "5"))) == (("etag", '"a"'),)


def test_what_is_encoded_differs_by_what_was_accepted() -> None:
    assert rules.varies(answers(("content-encoding", "br"), ("vary", "Origin"))) == ("accept-encoding", "origin")


# ------------------------------------------------------------------------------------------------------- keys, entries
def test_no_two_targets_have_one_place() -> None:
    targets = [
        key.of_target(route, asks(path=path)) for route in ("m/r", "m/r2") for path in ("/a", "/a?", "/a?b", "/A")
    ]
    variants = [
        key.of_variant(targets[0], generation, names, asks(*headers))
        for generation in ("1", "2")
        for names in (("a",), ("b",), ("a", "b"))
        for headers in ((), (("a", ""),), (("a", "absent"),), (("a", "1"), ("a", "2")), (("a", "1"), ("b", "2")))
    ]
    ambiguous = [("ab", "c"), ("a", "bc"), ("a1:b", "c"), ("a", "1:bc")]
    kinds = [*targets, *dict.fromkeys(variants), *ambiguous]
    assert len({key.place(one) for one in kinds}) == len(set(kinds))
    assert key.of_variant(targets[0], "1", ("a",), asks()) != key.of_variant(
        targets[0], "1", ("a",), asks(("a", "absent"))
    )


def test_entries_say_whose_they_are() -> None:
    stored = Stored(200, (("x-own", "\xe9"), ("x-own", "2")), b"\x00body", NOW, 3, 60, for_all=False)
    for entry in (stored, Choice(("accept",), "ab")):
        raw = encode(("a", "b"), entry)
        assert decode(("a", "b"), raw) == entry
        assert decode(("ab", ""), raw) is None
        assert all(decode(("a", "b"), raw[:cut]) is None for cut in range(len(raw) - 5))
    for junk in (b"", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x04null"):
        assert decode(("a", "b"), junk) is None


def test_terms_are_read_as_they_were_written() -> None:
    terms = Terms("m/r", 5, 6, ("accept", "x-a"), guarded=False)
    assert caching.read(terms.written()) == terms
    for text in ("", "{}", "[]", '{"route":"a"}', terms.written().replace("ttl", "tttl")):
        with pytest.raises(ValueError, match=r".*"):
            caching.read(text)


# ------------------------------------------------------------------------------------------------------ stores, library
async def test_the_memory_store_is_bounded_and_forgets() -> None:
    now = [0.0]
    store = MemoryStore(largest=10, clock=lambda: now[0])
    for name in (b"a", b"b"):
        await store.put(name, b"12345", 10)
    assert await store.get(b"a")
    await store.put(b"c", b"12345", 10)
    assert [await store.get(name) for name in (b"a", b"b", b"c")] == [b"12345", None, b"12345"]
    await store.put(b"d", b"12345678901", 10)
    assert await store.get(b"d") is None
    now[0] = 10
    assert await store.get(b"a") is None


async def test_valkey_keeps_expires_and_leaves_room_for_counters(valkey) -> None:
    store, client = ValkeyStore(valkey.url, timeout=2), Valkey.from_url(valkey.url)
    try:
        await store.put(b"cache:a", b"\x00\xff", 100)
        assert await store.get(b"cache:a") == b"\x00\xff"
        assert 0 < await client.pttl(b"cache:a") <= 100_000
        await store.drop(b"cache:a")
        assert await store.get(b"cache:a") is None
        most = int((await client.config_get("maxmemory"))["maxmemory"])
        block = b"x" * (8 * 2**20)
        for number in range(most // len(block)):
            await store.put(b"cache:%d" % number, block, 100)
        used = (await client.info("memory"))["used_memory"]
        assert most / 3 < used <= most / 2 + len(block)
        assert await store.get(b"cache:0") is not None
        await client.flushall()
        await client.config_set("maxmemory", 0)
        await store.put(b"cache:a", b"1", 100)
        assert await store.get(b"cache:a") is None, "without a bound nothing is kept"
        await client.config_set("maxmemory", most)
    finally:
        await store.close()
        await client.aclose()


async def test_a_valkey_that_is_not_there_is_asked_once_a_second() -> None:
    now = [0.0]
    store = ValkeyStore("unix:///nowhere/at/all", clock=lambda: now[0])
    asked = []
    send = store._server.send
    store._server.send = lambda commands: asked.append(commands) or send(commands)
    for at in (0.0, 0.5, 0.9, 1.1, 1.2):
        now[0] = at
        assert await store.get(b"cache:a") is None
    assert len(asked) == 2
    await store.close()


async def test_variants_age_and_forgetting() -> None:
    now = [NOW]
    library = Library(MemoryStore(), lambda: now[0])
    german, english = (asks(("accept-language", one)) for one in ("de", "en"))
    said = answers(("vary", "Accept-Language"), ("age", "5"))
    await library.keep(OPEN, german, said, b"hallo", 100)
    await library.keep(OPEN, english, said, b"hello", 100)
    now[0] += 30
    found = [await library.find(OPEN, one) for one in (german, english, asks())]
    assert [(one.stored.body, one.age) if one else None for one in found] == [(b"hallo", 35), (b"hello", 35), None]
    assert await library.find(GUARDED, german) is None
    assert await library.find(Terms("m/other", 1, 1, guarded=False), german) is None
    await library.drop(OPEN, asks())
    await library.keep(OPEN, german, said, b"neu", 100)
    assert await library.find(OPEN, english) is None, "a variant from before the change"
    now[0] += 100
    assert await library.find(OPEN, german) is None


# ------------------------------------------------------------------------------------------------------------ processor
class _Call:
    """A stream as gRPC gives it."""

    def invocation_metadata(self):
        return ((caching.METADATA, OPEN.written()),)


def headers(*lines: tuple[str, str], end: bool = True) -> wire.HttpHeaders:
    values = [HeaderValue(key=name, raw_value=value.encode()) for name, value in lines]
    return wire.HttpHeaders(headers=HeaderMap(headers=values), end_of_stream=end)


def of_request(path: str, method: str = "GET") -> wire.ProcessingRequest:
    found = ((":method", method), (":scheme", "https"), (":authority", "a"), (":path", path))
    return wire.ProcessingRequest(request_headers=headers(*found))


def of_response(*lines: tuple[str, str]) -> wire.ProcessingRequest:
    return wire.ProcessingRequest(response_headers=headers((":status", "200"), *lines, end=False))


def of_body(text: bytes, *, end: bool = False) -> wire.ProcessingRequest:
    return wire.ProcessingRequest(response_body=wire.HttpBody(body=text, end_of_stream=end))


async def talk(service: ResponseCache, *messages: wire.ProcessingRequest) -> list[str]:
    async def said():
        for message in messages:
            yield message

    return [one.WhichOneof("response") async for one in service.process(said(), _Call())]


@pytest.mark.parametrize(
    "broken",
    [
        [of_response(), of_body(b"half")],
        [of_response(("content-length", "9")), of_body(b"short", end=True)],
        [of_response(), of_body(b"x" * 1001, end=True)],
        [of_response(), of_body(b"x" * 600), of_body(b"x" * 600), of_body(b"", end=True)],
        [of_response(("content-length", "1001")), of_body(b"x", end=True)],
        [],
    ],
)
async def test_what_is_not_whole_or_too_long_is_not_kept(broken) -> None:
    service = ResponseCache(Library(MemoryStore()), Metrics(CollectorRegistry()))
    await talk(service, of_request("/a"), *broken)
    assert await talk(service, of_request("/a")) == ["request_headers"]
    assert (service._open, service._held) == (0, 0)
    whole = [of_response(), of_body(b"al"), of_body(b"l", end=True)]
    await talk(service, of_request("/a"), *whole)
    assert await talk(service, of_request("/a")) == ["immediate_response"]


async def test_slow_upstreams_do_not_fill_the_service(monkeypatch) -> None:
    """A stream that would have to wait for its upstream ends at once when too many do."""
    service = ResponseCache(Library(MemoryStore()), Metrics(CollectorRegistry()))
    await talk(service, of_request("/a"), of_response(), of_body(b"a", end=True))
    monkeypatch.setattr(processor, "MOST_OPEN", 0)
    assert await talk(service, of_request("/b"), of_response(), of_body(b"b", end=True)) == ["request_headers"]
    assert await talk(service, of_request("/a")) == ["immediate_response"]
    assert await talk(service, of_request("/a", "PUT"), of_response()) == ["request_headers"]
    assert await talk(service, of_request("/a")) == ["request_headers"], "what may have changed is forgotten"
