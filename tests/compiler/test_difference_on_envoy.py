"""What a difference says that Envoy does is what Envoy does: its own counters are asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from gateway.model import decode
from tests.ads import real_envoy
from tests.compiler.golden import SECRETS
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.difference import Difference, difference
from xds_server.resources import LISTENER, Snapshot

BASE = """
version: 1
listeners:
  plain: {port: 8080, access_log: none}
  secure:
    port: 8443
    protocol: HTTPS
    access_log: none
    http3: true
    tls: {certificates: [{secret: site, hosts: [a.example.com]}]}
upstreams:
  echo: {type: static, endpoints: [{address: 127.0.0.1, port: 9}]}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: plain
    authentication: none
    routes: {all: {match: {path: {prefix: /}}, backends: [{upstream: echo}]}}
"""

COUNTERS = {
    "modified": "listener_manager.listener_modified",
    "in_place": "listener_manager.listener_in_place_updated",
    "added": "listener_manager.listener_added",
    "removed": "listener_manager.listener_removed",
    "draining": "listener_manager.total_listeners_draining",
    "chains": "listener_manager.total_filter_chains_draining",
    "clusters": "cluster_manager.cluster_modified",
}


@dataclass
class Told:
    """Envoy and what it is given."""

    hub: Hub
    envoy: real_envoy.Envoy
    now: Snapshot

    async def give(self, text: str) -> tuple[Difference, dict[str, int]]:
        """What is said of the change, and by how much each counter went up, once that is what was meant."""
        after = snapshot(self.now.revision + 1, text)
        before = await self.counters()
        said = difference(self.now, after)
        self.hub.publish(after)
        assert await self.hub.converged(after, 20) == ()
        self.now = after
        deadline = asyncio.get_running_loop().time() + 15  # what was acknowledged may still warm
        while True:
            counted = {name: value - before[name] for name, value in (await self.counters()).items()}
            if counted == meant(said) or asyncio.get_running_loop().time() > deadline:
                return said, counted
            await asyncio.sleep(0.05)

    async def counters(self) -> dict[str, int]:
        stats = (await self.envoy.http.get(f"{self.envoy.admin}/stats?format=json")).json()["stats"]
        found = {one["name"]: one["value"] for one in stats if "name" in one}
        return {name: found[stat] for name, stat in COUNTERS.items()}


def snapshot(revision: int, text: str) -> Snapshot:
    settings = Settings(listener_ports={"plain": 0, "secure": 0})
    return Snapshot.of(revision, compile(decode(yaml.safe_load(text)), settings, SECRETS, strict=True).messages)


@asynccontextmanager
async def told(directory: Path) -> AsyncIterator[Told]:
    hub, first = Hub(), snapshot(1, BASE)
    hub.publish(first)
    server = await start(hub, "127.0.0.1:0")
    try:
        async with real_envoy.running("delta", server.port, directory) as envoy:
            assert await hub.converged(first, 20) == ()
            told_first = Told(hub, envoy, first)
            async with asyncio.timeout(15):  # listeners count as added when they no longer warm
                while (await told_first.counters())["added"] < len(first.types[LISTENER].resources):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield told_first
    finally:
        await server.stop(0)


CHANGES: dict[str, tuple[str, str, dict[str, str]]] = {
    "a route": ("prefix: /}", "prefix: /x}", {}),
    "a log": ("plain: {port: 8080, access_log: none}", "plain: {port: 8080}", {"plain": "chains_drained"}),
    "a certificate more": (
        "[{secret: site, hosts: [a.example.com]}]",
        "[{secret: site, hosts: [a.example.com]}, {secret: site-default}]",
        {"secure": "in_place", "secure/http3": "in_place"},
    ),
    "client certificates": (
        "tls: {",
        "tls: {client_validation: {mode: optional, ca_secret: ca}, ",
        {"secure": "chains_drained", "secure/http3": "chains_drained"},
    ),
    "the whole listener": (
        "access_log: none}",
        "access_log: none, envoy: {listener: {per_connection_buffer_limit_bytes: 65536}}}",
        {"plain": "drained"},
    ),
    "a listener more": ("upstreams:", "  more: {port: 8081}\nupstreams:", {"more": "added"}),
    "a listener less": ("    http3: true\n", "", {"secure": "chains_drained", "secure/http3": "removed"}),
    "an upstream": ("port: 9}]", "port: 9}], circuit_breaker: {max_connections: 3}", {}),
    "an endpoint": ("port: 9}]", "port: 9}, {address: 127.0.0.2, port: 9}]", {}),
}


async def test_envoy_does_what_is_said(tmp_path: Path) -> None:
    async with told(tmp_path) as it:
        for name, (old, new, expected) in CHANGES.items():
            assert old in BASE, name
            said, counted = await it.give(BASE.replace(old, new, 1))
            assert {one.name: one.outcome for one in said.listeners} == expected, name
            assert counted == meant(said), name
            assert said.warming == (("echo",) if name == "an upstream" else ()), name
            said, counted = await it.give(BASE)
            assert counted == meant(said), f"{name}, taken back"


def meant(said: Difference) -> dict[str, int]:
    """What Envoy's counters go up by if it does what is said."""
    outcomes = [one.outcome for one in said.listeners]
    in_place = outcomes.count("in_place") + outcomes.count("chains_drained")
    return {
        "modified": in_place + outcomes.count("drained"),
        "in_place": in_place,
        "added": outcomes.count("added"),
        "removed": outcomes.count("removed"),
        "draining": outcomes.count("drained") + outcomes.count("removed"),
        "chains": sum(len(one.chains) for one in said.listeners if one.outcome == "chains_drained"),
        "clusters": len(said.warming),
    }
