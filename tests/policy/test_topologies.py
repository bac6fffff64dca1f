"""Counters behind Sentinels, in a cluster and over TLS: the same promises as from one server."""

import asyncio
import ssl

import pytest
from valkey import Valkey as Client

from gateway.model import decode
from policy.cache.valkey import ValkeyStore as Cache
from policy.ratelimit.store import Counter, Unavailable
from policy.ratelimit.valkey import ValkeyStore
from policy.valkey.address import Address, Login, Tls, parse
from policy.valkey.connection import slot
from policy.view import PolicyView
from tests.support import valkeys
from tests.support.authority import Authority

from .facts_of import DOCUMENT
from .rig import decisions, until
from .test_counters import counter


# ---------------------------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("valkey://h", Address("single", (("h", 6379),))),
        ("redis://u:p%40w@h:1/2", Address("single", (("h", 1),), database=2, login=Login("u", "p@w"))),
        ("rediss://[::1]:7", Address("single", (("::1", 7),), tls=Tls())),
        ("valkey+cluster://a:1,b", Address("cluster", (("a", 1), ("b", 6379)))),
        (
            "valkey+sentinel://u@a:1,b/s?db=3",
            Address("sentinel", (("a", 1), ("b", 26379)), service="s", database=3, login=Login("u")),
        ),
    ],
)
def test_urls(url: str, expected: Address) -> None:
    assert parse(url) == expected


def test_files_of_urls(tmp_path) -> None:
    read = parse(f"valkeys://h?ssl_ca={tmp_path}/ca&ssl_cert={tmp_path}/c&ssl_key={tmp_path}/k&username=u")
    assert read.tls == Tls(tmp_path / "ca", tmp_path / "c", tmp_path / "k")
    assert parse("unix:///a%20b?password_file=/p").login.file is not None
    assert str(parse("unix:///a%20b").socket) == "/a b"


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@h", "valkey://:secret@h?ssl_ca=x", "valkey://:secret@h?sslca=x", "valkeys://:secret@h?ssl_cert=x",
        "valkey://:secret@h:port", "valkey://:secret@", "valkey://:secret@a,,b", "valkey://:secret@h/zero",
        "valkey+sentinel://:secret@h", "valkey+cluster://:secret@h/1", "unix+cluster:///secret",
        "valkey://:secret@h?password_file=x",
    ],
)  # fmt: skip
def test_wrong_urls_are_errors_without_their_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"Valkey|cluster|Sentinels") as told:
        parse(url)
    assert "secret" not in str(told.value)


def test_what_is_exposed() -> None:
    assert parse("valkey://10.0.0.1").exposed
    assert parse("valkey+cluster://127.0.0.1,valkey.internal").exposed
    assert not any(parse(url).exposed for url in ("unix:///x", "valkey://[::1]", "redis://localhost", "valkeys://h"))


def test_reprs_hold_no_password() -> None:
    assert "hush" not in repr(parse("valkey://u:hush@h"))


# -------------------------------------------------------------------------------------------------------- topologies
async def test_tls_needs_a_certificate_of_the_right_name(tmp_path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    with valkeys.one(tmp_path / "valkey") as server:
        for name, works in (("127.0.0.1", True), ("elsewhere.test", False)):
            async with valkeys.Way(server.port, tls=_ending(authority, name, tmp_path)) as way:
                store = ValkeyStore(f"valkeys://127.0.0.1:{way.port}?ssl_ca={tmp_path}/ca.pem", timeout=2)
                assert await admitted(store, counter()) is works
                await store.close()
                unknown = ValkeyStore(f"valkeys://127.0.0.1:{way.port}", timeout=2)
                assert await admitted(unknown, counter()) is False, "an authority that nobody named"
                await unknown.close()


def _ending(authority: Authority, name: str, directory) -> ssl.SSLContext:
    chain, key = authority.issue(name)
    (directory / "chain.pem").write_bytes(chain)
    (directory / "key.pem").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    return context


async def admitted(store: ValkeyStore, *counters: Counter) -> bool:
    try:
        return (await store.take(counters, 5)).admitted
    except Unavailable:
        return False


async def test_a_password_from_a_file_is_read_again(tmp_path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    with valkeys.one(tmp_path / "valkey", "--requirepass", "first") as server:
        store = ValkeyStore(f"valkey://127.0.0.1:{server.port}?password_file={file}", timeout=2)
        assert await admitted(store, counter())
        with Client(port=server.port, password="first") as client:
            client.config_set("requirepass", "second")
            client.client_kill_filter(_type="normal", skipme=True)
        file.write_text("second\n")
        await until(lambda: admitted(store, counter(limit=1000)))
        await store.close()


async def test_sentinels_name_the_primary_and_the_next_one(tmp_path) -> None:
    with valkeys.sentinels(tmp_path) as (servers, watching):
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in watching)
        store = ValkeyStore(f"valkey+sentinel://{hosts}/counters", timeout=0.25)
        cache = Cache(f"valkey+sentinel://{hosts}/counters", timeout=0.25)
        try:
            assert [await admitted(store, counter(limit=3)) for _ in range(2)] == [True] * 2
            await cache.put(b"cache:x", b"1", 10)  # no bound on its memory: not kept, and no failure either
            assert cache._rests_until == 0
            servers[0].ask("WAIT", 1, 1000)
            servers[0].process.kill9()
            assert not await admitted(store, counter(limit=3))
            await until(lambda: admitted(store, counter("rl:other", limit=10_000)), 20)
            assert [await admitted(store, counter(limit=3)) for _ in range(2)] == [True, False], "replicated counters"
            assert servers[1].client.info("replication")["role"] == "master"
        finally:
            await store.close()
            await cache.close()


async def test_a_cluster_counts_exactly_and_survives_a_node(tmp_path) -> None:
    with valkeys.cluster(tmp_path) as nodes:
        url = "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes[1:3])
        stores = [ValkeyStore(url, timeout=0.5) for _ in range(2)]
        store = stores[0]
        try:
            await spread_over_all_nodes(store, nodes[:3])
            await exact_together(stores)
            await refused_in_one_slot_is_charged_in_none(store)
            await a_slot_that_moved_is_found(store, nodes)
            await survives_a_node(store, nodes)
            await until(lambda: admitted(stores[1], counter("rl:late", limit=10_000)), 20)
        finally:
            for one in stores:
                await one.close()


async def spread_over_all_nodes(store: ValkeyStore, primaries) -> None:
    await admitted(store, counter("rl:warm"))
    before = [reads(node) for node in primaries]
    taken = await asyncio.gather(*(store.take([counter(f"rl:{{{n}}}")], 5) for n in range(90)))
    after = [reads(node) for node in primaries]
    assert all(one.admitted for one in taken)
    assert all(int(node.client.dbsize()) >= 10 for node in primaries)
    assert all(a - b <= 6 for a, b in zip(after, before, strict=True)), "one round trip to each, and what we ask here"


def reads(node) -> int:
    return int(node.client.info("stats")["total_reads_processed"])


async def exact_together(stores) -> None:
    """Two counters in two slots, many requests at once from two services."""
    wide, narrow = counter("rl:wide", limit=400), counter("rl:narrow", limit=150)
    assert slot(wide.key) != slot(narrow.key)
    taken = await asyncio.gather(*(store.take([wide, narrow], 10) for store in stores for _ in range(200)))
    assert sum(one.admitted for one in taken) == 150
    wide_used = (await stores[0].take([wide._replace(charge=0)], 5)).readings[0].state.current
    assert 150 <= wide_used <= 400, "races may charge the other counter too, never less than was admitted"


async def refused_in_one_slot_is_charged_in_none(store: ValkeyStore) -> None:
    spent, free = counter("rl:spent", limit=1), counter("rl:free", limit=10)
    assert await admitted(store, spent)
    refused = await store.take([free, spent], 5)
    assert not refused.admitted
    assert [reading.over for reading in refused.readings] == [False, True]
    assert (await store.take([free._replace(charge=0)], 5)).readings[0].state.current == 0


async def a_slot_that_moved_is_found(store: ValkeyStore, nodes) -> None:
    moving = counter("rl:moving", limit=3)
    number = slot(moving.key)
    old = next(node for node in nodes[:3] if number // 5462 == nodes.index(node))
    new = next(node for node in nodes[:3] if node is not old)
    identity = str(new.ask("CLUSTER", "MYID"))
    for node in (new, old, *nodes[:3]):
        node.ask("CLUSTER", "SETSLOT", number, "NODE", identity)
    assert [await admitted(store, moving) for _ in range(4)] == [True] * 3 + [False]
    assert store.available


async def survives_a_node(store: ValkeyStore, nodes) -> None:
    nodes[0].process.kill9()
    key = next(f"rl:{{{n}}}" for n in range(1000, 2000) if slot(f"rl:{{{n}}}") < 5000)
    assert not await admitted(store, counter(key, limit=10_000))
    await until(lambda: admitted(store, counter(key, limit=10_000)), 20)
    assert nodes[3].client.info("replication")["role"] == "master"


async def test_plain_text_to_another_machine_must_be_asked_for(tmp_path) -> None:
    with pytest.raises(ValueError, match="plain text") as told:
        await decisions(f"postgresql://postgres@/x?host={tmp_path}", "valkey://u:hush@192.0.2.1")
    assert "hush" not in str(told.value)


def test_all_limits_by_one_client_lie_in_one_slot() -> None:
    tree = PolicyView.of(decode(DOCUMENT)).limits
    heads = [("tier", "free"), ("tier", "gold")]
    found = [tree.match([head, ("client", client)]) for client in ("alice", "b}{o{b") for head in heads]
    keys = [[f"{one.key}{limit.suffix}" for limit in one.limits] for one in found if one]
    slots = [{slot(key) for key in of_descriptor} for of_descriptor in keys]
    assert len(keys) == 4
    assert [len(of_descriptor) for of_descriptor in slots] == [1] * 4
    assert slots[0] == slots[1], "another head, the same client"
    assert slots[2] == slots[3]
