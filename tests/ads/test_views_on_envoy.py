"""Two real Envoys of different groups, and one that cannot take what it is offered."""

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.message import Message

from gateway.model import NodeSelector
from tests.ads import real_envoy as real
from tests.ads.simulated import Client, Kind, connected
from tests.ads.test_server import contents, serving, until
from tests.ads.test_views import has_gone_back
from xds_server.ads.board import NodeRow
from xds_server.ads.groups import view_of
from xds_server.ads.hub import Hub
from xds_server.resources import CLUSTER, LISTENER, ROUTES, SECRET, Share, Snapshot

kinds = pytest.mark.parametrize("kind", ["sotw", "delta"])


def on_port(name: str, port: int) -> Listener:
    message = real.listener(name)
    message.address.socket_address.port_value = port
    return message


def key(name: str) -> Secret:
    message = Secret(name=name)
    message.generic_secret.secret.inline_string = "not for everybody"
    return message


def share(name: str, *secrets: str) -> Share:
    return Share(name, NodeSelector(labels={"side": name}), frozenset((SECRET, one) for one in secrets))


async def envoy(stack: AsyncExitStack, kind: Kind, port: int, folder: Path, side: str) -> real.Envoy:
    folder.mkdir()  # noqa: ASYNC240
    config: dict[str, Any] = real.bootstrap(kind, port)
    config["node"] = {"id": f"envoy-{side}", "cluster": "edge", "metadata": {"labels": {"side": side}}}
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    return await stack.enter_async_context(real.started(path, folder))


async def names_of(envoy: real.Envoy) -> set[str]:
    answer = (await envoy.http.get(f"{envoy.admin}/listeners?format=json")).json()
    return {status["name"] for status in answer.get("listener_statuses", ())}


def row(hub: Hub, node: str) -> NodeRow:
    (found,) = (one for one in hub.board.rows if one.connected and one.id == node)
    return found


@kinds
async def test_two_groups_and_a_port_that_is_taken_on_one_node(kind: Kind, tmp_path: Path) -> None:
    hub, shares = Hub(), (share("left", "left-key"), share("right", "right-key"))

    def publish(revision: int, right: Listener, text: str) -> Snapshot:
        messages: list[Message] = [real.listener("left"), right, key("left-key"), key("right-key")]
        messages += [real.routes(real.says(f"{side} {text}"), name=side) for side in ("left", "right")]
        snapshot = Snapshot.of(revision, messages, shares=shares)
        hub.publish(snapshot)
        return snapshot

    first = publish(1, real.listener("right"), "one")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(hub))
        left = await envoy(stack, kind, server.port, tmp_path / "left", "left")
        right = await envoy(stack, kind, server.port, tmp_path / "right", "right")
        for one, side in ((left, "left"), (right, "right")):
            assert (await answered(one, side)) == f"{side} one"
            assert await names_of(one) == {side}
        assert await hub.converged(first, 15) == ()
        await until(lambda: all(len(one.types) == 3 for one in hub.board.rows), "both ask for all")

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            second = publish(2, on_port("right", taken.getsockname()[1]), "two")
            await until(lambda: has_gone_back(row(hub, "envoy-right").types[LISTENER]), "the right one refuses")
            types = view_of(first, row(hub, "envoy-right").node).types
            before = {url: types[url].version for url in (CLUSTER, LISTENER, ROUTES)}
            await until(lambda: held(row(hub, "envoy-right")) == before, "it has what it had")
            await left_with(left, "left", "left two")
            await left_with(right, "right", "right one")
            assert [one.id for one in hub.board.behind(second)] == ["envoy-right"]
            nack = row(hub, "envoy-right").types[LISTENER].nack
            assert nack is not None
            assert "right" in nack.message

        third = publish(3, real.listener("right"), "three")
        assert await hub.converged(third, 15) == ()
        await left_with(right, "right", "right three")
        assert row(hub, "envoy-right").types[LISTENER].nack is None

        channel = await stack.enter_async_context(connected(server.port))
        for side, secrets in (("left", ["left-key"]), ("right", ["right-key"])):
            asking = Client(channel, kind)
            node = Node(id=f"by-hand-{side}")
            node.metadata.update({"labels": {"side": side}})
            await asking.say(SECRET, "left-key", "right-key", node=node)
            assert contents(await asking.take()) == [key(name).SerializeToString() for name in secrets]


def held(row: NodeRow) -> dict[str, str]:
    return {url: one.current_version for url, one in row.types.items()}


async def answered(envoy: real.Envoy, name: str) -> str:
    await envoy.port(name)
    async with asyncio.timeout(15):
        while (answer := await envoy.get("/", name)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return answer.text


async def left_with(envoy: real.Envoy, name: str, text: str) -> None:
    async with asyncio.timeout(15):
        while await answered(envoy, name) != text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
