"""Who gets what: groups, refusals, versions of Envoy; first the decisions, then over real channels."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node as NodeMessage
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from google.protobuf.message import Message

from gateway.model import NodeSelector
from gateway.nodes import Node
from tests.ads.dialogue import cluster, endpoints, listener, routes, secret
from tests.ads.simulated import Client, Kind, connected
from tests.ads.test_server import contents, serving, until
from xds_server.ads.board import TypeRow
from xds_server.ads.delta import DeltaStream
from xds_server.ads.groups import node_of, view_of
from xds_server.ads.hub import Hub
from xds_server.ads.views import Choice, Views
from xds_server.ads.wire import delta_encoder
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Share, Snapshot

kinds = pytest.mark.parametrize("kind", ["sotw", "delta"])

OPEN = Share("open", None, frozenset({(CLUSTER, "shared")}))
SAFE = Share(
    "safe", NodeSelector(labels={"zone": "safe"}), frozenset({(CLUSTER, "vault"), (CLUSTER, "shared"), (SECRET, "key")})
)


def published(revision: int, *more: Message, edition: int = 0) -> Snapshot:
    messages = [
        *(listener(name, edition) for name in ("open", "safe")),
        *(routes(name, edition) for name in ("open", "safe", "safe/a.example")),
        *(cluster(name, eds=True) for name in ("shared", "vault", "unused")),
        *(endpoints(name, revision) for name in ("shared", "vault", "unused")),
        *(secret(name) for name in ("key", "other")),
        *more,
    ]
    return Snapshot.of(revision, messages, shares=(OPEN, SAFE))


def message(name: str, *, safe: bool = False, version: tuple[int, int, int] | None = None) -> NodeMessage:
    found = NodeMessage(id=name, cluster="edge")
    if safe:
        found.metadata.update({"labels": {"zone": "safe", "count": 3}})
    if version is not None:
        number = found.user_agent_build_version.version
        number.major_number, number.minor_number, number.patch = version
    return found


def names(view: Snapshot | None) -> dict[str, list[str]]:
    assert view is not None
    return {url.rpartition(".")[2]: list(one.resources) for url, one in view.types.items() if one.resources}


def test_a_node_says_its_labels_and_its_place() -> None:
    told = message("n", safe=True)
    told.locality.region, told.locality.zone = "eu", "eu-1"
    assert node_of(told) == Node("n", "edge", frozenset({("zone", "safe")}), "eu", "eu-1")
    assert node_of(NodeMessage(id="n")) == Node("n")


def test_a_view_has_its_listeners_and_what_they_reach() -> None:
    snapshot = published(1)
    assert names(view_of(snapshot, Node("n"))) == {
        "Cluster": ["shared"],
        "ClusterLoadAssignment": ["shared"],
        "Listener": ["open"],
        "RouteConfiguration": ["open"],
    }


def test_a_group_shares_one_view_of_the_published_resources_themselves() -> None:
    snapshot, encode = published(1), delta_encoder()
    sends = []
    views = {id(view_of(snapshot, Node(f"node-{number}", "edge"))) for number in range(1000)}
    assert len(views) == 1
    view = view_of(snapshot, Node("node-1", "edge"))
    assert view.types[LISTENER].resources["open"] is snapshot.types[LISTENER].resources["open"]
    assert view_of(snapshot, node_of(message("n", safe=True))) is snapshot  # that one has every listener
    for number in range(1000):
        stream = DeltaStream(f"{number}-")
        stream.receive(DeltaDiscoveryRequest(node=NodeMessage(id=f"node-{number}"), type_url=LISTENER))
        send = stream.next(view_of(snapshot, Node(f"node-{number}")))
        assert send is not None
        sends.append(encode(send))
    assert (len(sends), encode.encoded) == (1000, 1)


@pytest.fixture
def views() -> Views:
    return Views()


def join(views: Views, *nodes: NodeMessage) -> None:
    for node in nodes:
        views.join(node)


def take(views: Views, node: NodeMessage) -> Choice:
    choice = views.choose(node)
    views.taken(node.id, choice)
    return choice


def refuse(views: Views, node: NodeMessage, type_url: str = LISTENER) -> Choice:
    choice = views.choose(node)
    views.refused(node.id, choice, type_url)
    return choice


def revision(choice: Choice) -> tuple[int | None, bool]:
    return (choice.source.revision if choice.source else None, choice.newest)


def test_a_node_that_refuses_goes_back_until_what_it_refused_changes(views: Views) -> None:
    node = message("a")
    join(views, node)
    views.publish(published(1))
    assert revision(take(views, node)) == (1, True)
    views.publish(published(2, edition=1))
    assert revision(refuse(views, node)) == (2, True)
    assert revision(views.choose(node)) == (1, False)
    views.publish(published(3, edition=1))  # other endpoints, the same listeners
    back = views.choose(node)
    assert revision(back) == (1, False)
    assert back.view is not None
    fresh = published(3).types[ENDPOINTS].resources["shared"]
    assert back.view.types[ENDPOINTS].resources["shared"] == fresh
    views.publish(published(4, edition=2))
    assert revision(take(views, node)) == (4, True)


def test_what_it_refuses_of_the_old_view_is_left_at_that(views: Views) -> None:
    node = message("a")
    join(views, node)
    views.publish(published(1))
    take(views, node)
    views.publish(published(2, edition=1))
    refuse(views, node)
    assert revision(refuse(views, node)) == (1, False)
    assert revision(views.choose(node)) == (1, False)


@pytest.mark.parametrize("type_url", [SECRET, ENDPOINTS])
def test_a_refused_secret_or_endpoint_takes_nothing_else_back(views: Views, type_url: str) -> None:
    node = message("a", safe=True)
    join(views, node)
    views.publish(published(1))
    take(views, node)
    views.publish(published(2, secret("new"), edition=1))
    refuse(views, node, type_url)
    assert revision(views.choose(node)) == (2, True)


def test_a_node_that_never_had_anything_is_left_with_what_it_refused(views: Views) -> None:
    node = message("a")
    join(views, node)
    views.publish(published(1))
    refuse(views, node)
    assert revision(views.choose(node)) == (1, True)


def test_a_new_node_gets_what_its_group_had_if_all_who_tried_the_newest_refused_it(views: Views) -> None:
    first, second, safe = message("a"), message("b"), message("s", safe=True)
    join(views, first, safe)
    views.publish(published(1))
    take(views, first)
    views.publish(published(2, edition=1))
    refuse(views, first)
    join(views, second)
    assert revision(views.choose(second)) == (1, False)
    assert revision(views.choose(safe)) == (2, True)  # another group, which has not tried it


def test_a_new_node_is_offered_the_newest_if_not_all_refused_it(views: Views) -> None:
    nodes = [message(name) for name in "abc"]
    join(views, *nodes)
    views.publish(published(1))
    for node in nodes[:2]:
        take(views, node)
    views.publish(published(2, edition=1))
    refuse(views, nodes[0])
    take(views, nodes[1])
    assert revision(views.choose(nodes[2])) == (2, True)
    assert revision(views.choose(nodes[0])) == (1, False)


def test_nobody_gets_the_view_of_another_group_back(views: Views) -> None:
    """The other node had what only its group may have, and both are of one group now."""
    safe, plain = message("s", safe=True), message("p")
    join(views, safe)
    views.publish(published(1))
    take(views, safe)
    one_for_all = Snapshot.of(2, [listener("open", 1), cluster("shared", eds=True)], shares=(OPEN,))
    views.publish(one_for_all)
    refuse(views, safe)
    assert revision(views.choose(safe)) == (1, False)
    join(views, plain)
    assert revision(views.choose(plain)) == (2, True)


def test_a_refusal_is_known_when_the_node_comes_back_and_forgotten_after_a_while() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    views, node = Views(lambda: now[0]), message("a")
    join(views, node)
    views.publish(published(1))
    take(views, node)
    views.publish(published(2, edition=1))
    refuse(views, node)
    views.leave("a")
    join(views, node)
    assert revision(views.choose(node)) == (1, False)
    views.leave("a")
    now[0] += timedelta(hours=1)
    views.publish(published(3, edition=1))
    join(views, node)
    assert revision(views.choose(node)) == (3, True)


def test_what_seemed_to_be_taken_is_not_what_a_node_goes_back_to(views: Views) -> None:
    """Its route tables were still to come when all that it had asked for was acknowledged."""
    node = message("a")
    join(views, node)
    views.publish(published(1))
    take(views, node)
    views.publish(published(2, edition=1))
    take(views, node)
    refuse(views, node, ROUTES)
    assert revision(views.choose(node)) == (1, False)


def has_gone_back(row: TypeRow) -> bool:
    """Whether it has accepted something since it refused."""
    return row.nack is not None and row.acked_at is not None and row.acked_at > row.nack.at


@asynccontextmanager
async def following(hub: Hub, port: int, kind: Kind, node: NodeMessage, **more: Any) -> AsyncIterator[Client]:
    """A client that takes clusters, listeners and its table, and answers as `opinion` says."""
    async with connected(port) as channel:
        client = Client(channel, kind, node=node.id)
        await client.say(CLUSTER, node=node)
        await client.say(LISTENER)
        await client.say(ROUTES, "open")
        life = asyncio.create_task(client.live(**more))
        try:
            yield client
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)


@kinds
async def test_groups_get_their_own_and_a_secret_only_goes_to_its_group(kind: Kind) -> None:
    hub = Hub()
    snapshot = published(1)
    hub.publish(snapshot)
    async with serving(hub) as server, connected(server.port) as channel:
        plain, safe = Client(channel, kind, node="p"), Client(channel, kind, node="s")
        await plain.say(LISTENER, node=message("p"))
        await safe.say(LISTENER, node=message("s", safe=True))
        assert contents(await plain.take()) == [listener("open").SerializeToString()]
        assert len(contents(await safe.take())) == 2
        await plain.say(SECRET, "key", "other")
        await safe.say(SECRET, "key")
        assert contents(await safe.take()) == [secret("key").SerializeToString()]
        if kind == "delta":
            answer = await plain.take()
            assert (contents(answer), sorted(answer.removed_resources)) == ([], ["key", "other"])
        rest = [listener("safe"), secret("key", 1)]
        hub.publish(Snapshot.of(2, [listener("open"), *rest], shares=(OPEN, SAFE)))
        assert contents(await safe.take()) == [secret("key", 1).SerializeToString()]
        changed = Snapshot.of(3, [listener("open", 1), *rest], shares=(OPEN, SAFE))
        hub.publish(changed)  # nothing was said to the other group in between
        assert contents(await plain.take()) == [listener("open", 1).SerializeToString()]
        await safe.take()
        assert await hub.converged(changed, 10) == ()


@kinds
async def test_a_node_that_refuses_is_sent_what_it_had_and_its_refusal_is_told(kind: Kind) -> None:
    hub = Hub()
    bad = listener("open", 1).SerializeToString()

    def opinion(response: Any) -> str:
        return "port is taken" if bad in contents(response) else ""

    first = published(1)
    hub.publish(first)
    async with serving(hub) as server, following(hub, server.port, kind, message("a"), opinion=opinion) as client:
        await until(lambda: hub.board.rows and len(hub.board.rows[0].types) == 3, "it asks for all")
        await until(lambda: hub.board.rows[0].synced(first), "it has all")
        second = published(2, edition=1)
        hub.publish(second)
        before = view_of(first, hub.board.rows[0].node)
        await until(lambda: has_gone_back(hub.board.rows[0].types[LISTENER]), "it takes what it had")
        versions = {url: before.types[url].version for url in (CLUSTER, LISTENER, ROUTES)}
        await until(
            lambda: {url: one.current_version for url, one in hub.board.rows[0].types.items()} == versions,
            "all is as it was",
        )
        good = before.types[LISTENER].resources["open"].data
        listeners = [contents(response) for response in client.log if response.type_url == LISTENER]
        assert listeners == [[good], [bad], [good]]
        (row,) = hub.board.rows
        nack = row.types[LISTENER].nack
        assert nack is not None
        assert (nack.message, nack.version) == (
            "port is taken",
            view_of(second, row.node).types[LISTENER].version,
        )
        assert hub.board.behind(second) == (row,)
        third = published(3, edition=2)
        hub.publish(third)
        assert await hub.converged(third, 10) == ()
        assert hub.board.rows[0].types[LISTENER].nack is None


@kinds
async def test_an_envoy_that_is_too_old_keeps_what_it_has_and_is_named(kind: Kind) -> None:
    hub = Hub()
    old, first = message("a", version=(1, 39, 1)), published(1)
    hub.publish(first)
    table = routes("open", 1)
    table.virtual_hosts[0].name = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
    messages = [listener("open"), cluster("shared", eds=True), endpoints("shared"), table]
    async with serving(hub) as server, following(hub, server.port, kind, old) as client:
        await until(lambda: hub.board.rows and len(hub.board.rows[0].types) == 3, "it asks for all")
        assert await hub.converged(first, 10) == ()
        said = len(client.log)
        second = Snapshot.of(2, messages, shares=(OPEN,))
        hub.publish(second)
        await until(lambda: hub.board.rows[0].withheld, "it is named")
        assert hub.board.rows[0].withheld == "needs Envoy 1.40: compression"
        assert hub.board.behind(second) != ()
        assert len(client.log) == said
