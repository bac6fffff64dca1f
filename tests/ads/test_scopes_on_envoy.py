"""Scoped tables over real ADS: each scope's table comes and goes alone, and the listener stays as it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.model import decode
from tests.ads.real_envoy import running
from tests.ads.simulated import Kind
from xds_server.ads.hub import Hub
from xds_server.ads.server import AdsServer, start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.memo import Memo
from xds_server.resources import LISTENER, ROUTES, SCOPED_ROUTES, Snapshot


def document(**bodies: str) -> dict[str, Any]:
    """Two listeners of which each must find its own tables only; a module for each body."""
    routes = {
        name: {"match": {"path": {"prefix": f"/{name}"}}, "respond": {"status": 200, "body": text}}
        for name, text in bodies.items()
    }
    module = {"tier": "free", "listener": "http", "authentication": "none"}
    other = {"there": {"match": {"path": {"prefix": "/there"}}, "respond": {"status": 200}}}
    return {
        "version": 1,
        "listeners": {
            "http": {"port": 8080, "access_log": "none", "route_scopes": "path"},
            "other": {"port": 8081, "access_log": "none", "route_scopes": "path"},
        },
        "tiers": {"free": {"unlimited": True}},
        "modules": {
            **{name: {**module, "routes": {"r": route}} for name, route in routes.items()},
            "other": {**module, "listener": "other", "routes": other},
        },
    }


class Publishing:
    def __init__(self) -> None:
        self.hub, self.memo, self.revision = Hub(), Memo(), 0

    def publish(self, **bodies: str) -> Snapshot:
        self.revision += 1
        settings = Settings(listener_ports={"http": 0, "other": 0})
        found = compile(decode(document(**bodies)), settings, {}, strict=True, memo=self.memo)
        snapshot = Snapshot.of(self.revision, found.messages)
        self.hub.publish(snapshot)
        return snapshot


@pytest.fixture
async def plane() -> AsyncIterator[tuple[Publishing, AdsServer]]:
    publishing = Publishing()
    server = await start(publishing.hub, "127.0.0.1:0")
    yield publishing, server
    await server.stop(0)


@pytest.mark.parametrize("kind", ["sotw", "delta"])
async def test_scopes_come_change_and_go(plane: tuple[Publishing, AdsServer], kind: Kind, tmp_path: Path) -> None:
    publishing, server = plane
    first = publishing.publish(a="one", b="two")
    async with running(kind, server.port, tmp_path) as envoy:
        await envoy.sees("/a", 200, "one")
        await envoy.sees("/b", 200, "two")
        await envoy.sees("/c", 404)
        await envoy.sees("/there", 404)
        second = publishing.publish(a="changed", b="two", c="three")
        await envoy.sees("/a", 200, "changed")
        await envoy.sees("/c", 200, "three")
        assert (await envoy.get("/b")).text == "two"
        third = publishing.publish(b="two", c="three")
        await envoy.sees("/a", 404)
        assert await publishing.hub.converged(third, 15) == ()
    assert first.types[LISTENER].version == second.types[LISTENER].version == third.types[LISTENER].version
    before, after = first.types[ROUTES].resources, second.types[ROUTES].resources
    changed = [name for name, resource in after.items() if before.get(name) != resource]
    assert changed == ["http/*/a", "http/*/c"]
    assert set(third.types[SCOPED_ROUTES].resources) == {"http/*/b", "http/*/c", "other/*/there"}
