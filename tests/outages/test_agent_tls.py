"""An agent follows its control plane over mutual TLS with its node's certificate, and as no other node."""

import asyncio
from pathlib import Path

import pytest
from envoy.config.core.v3.base_pb2 import Node

from gwctl import serve
from gwctl.addresses import Address
from gwctl.main import run
from tests.support.plane import Content
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.ads.tls import ServerTls
from xds_server.agent.agent import Agent


@pytest.mark.parametrize(("node", "kept"), [("edge-1", True), ("edge-2", False)])
async def test_it_is_the_node_that_its_certificate_names(tmp_path: Path, node: str, kept: bool) -> None:
    authority = ("--ca-dir", str(tmp_path / "ca"))
    for words in (
        ("init-ca", *authority),
        ("issue-server-cert", "localhost", *authority, "--out", str(tmp_path)),
        ("issue-cert", "edge-1", *authority, "--out", str(tmp_path)),
    ):
        assert run(["node", *words]) == 0
    ca = tmp_path / "ca" / "ca.crt"
    hub = Hub()
    hub.publish(Content(clusters=1, routes=1, size=0, still=False).snapshot(1))
    tls = ServerTls(tmp_path / "server.crt", tmp_path / "server.key", ca)
    server = await start(hub, "127.0.0.1:0", tls=tls)
    address = Address("127.0.0.1", server.port)
    files = serve.ClientFiles(tmp_path / "edge-1.crt", tmp_path / "edge-1.key", ca)
    told = serve.Agent({"id": node}, (address,), tmp_path, Address("127.0.0.1", 0), files, "localhost")
    agent = Agent(Node(id=node), [str(address)], told.channel, tmp_path / "view")
    following = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(10 if kept else 1):
            await agent.hub.published()
    except TimeoutError:
        assert not kept
    else:
        assert kept
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await server.stop(0)
