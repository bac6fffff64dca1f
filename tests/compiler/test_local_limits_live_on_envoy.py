"""Local limits over ADS: a change of routes, and a new route with a rate that is there already, leave the buckets."""

from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from gateway.model import decode
from gwctl.up.process import free_port
from tests.ads import real_envoy as real
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.resources import EXTENSION, LISTENER, Snapshot

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
tiers: {free: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: none
    routes:
      counted:
        match: {path: {exact: /counted}}
        respond: {status: 200}
        rate_limits: [{limit: 3/hour, per: ip, mode: local}]
      other: {match: {path: {exact: /other}}, respond: {status: 200, body: before}}
"""
ADDED = """
      added:
        match: {path: {exact: /added}}
        respond: {status: 200}
        rate_limits: [{limit: 3/hour, per: ip, mode: local}]
"""


async def test_buckets_outlive_a_change_of_routes(tmp_path: Path) -> None:
    settings = Settings(listener_ports={"http": free_port()})

    def snapshot(revision: int, document: str) -> Snapshot:
        compiled = compile(decode(yaml.safe_load(document)), settings, {}, strict=True)
        assert compiled.problems == ()
        return Snapshot.of(revision, compiled.messages)

    hub = Hub()
    before, after = snapshot(1, DOCUMENT), snapshot(2, DOCUMENT.replace("before", "after") + ADDED)
    assert before.types[EXTENSION].version == after.types[EXTENSION].version
    assert before.types[LISTENER].version == after.types[LISTENER].version
    hub.publish(before)
    server = await start(hub, "127.0.0.1:0", registry=CollectorRegistry())
    try:
        async with real.running("delta", server.port, tmp_path) as envoy:
            await envoy.sees("/other", 200, "before")
            assert [(await envoy.get("/counted")).status_code for _ in range(2)] == [200, 200]
            hub.publish(after)
            await envoy.sees("/other", 200, "after")
            assert [(await envoy.get("/counted")).status_code for _ in range(2)] == [200, 429]
            assert [(await envoy.get("/added")).status_code for _ in range(4)] == [200, 200, 200, 429]
    finally:
        await server.stop(0)
