"""RTDS: what the document writes into Envoy's runtime gets there through the bootstrap that we ship, and back out."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.checks.overrides import FORBIDDEN
from gateway.model import decode
from gwctl.bootstrap import Node, render, template
from tests.ads import real_envoy
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.resources import RUNTIME, Snapshot

PANIC = "upstream.healthy_panic_threshold"
HARDENED = "http.max_requests_per_io_cycle"


def document(**runtime: Any) -> dict[str, Any]:
    raw = {"envoy": {"runtime": runtime}} if runtime else {}
    return {"version": 1, "listeners": {"http": {"port": 8080, "access_log": "none"}}, **raw}


def snapshot(revision: int, **runtime: Any) -> Snapshot:
    settings = Settings(listener_ports={"http": 0})
    return Snapshot.of(revision, compile(decode(document(**runtime)), settings, {}, strict=True).messages)


def test_no_override_gets_at_what_the_bootstrap_hardens() -> None:
    layers = {layer["name"]: layer for layer in template()["layered_runtime"]["layers"]}
    assert set(layers["hardening"]["static_layer"]) == FORBIDDEN["runtime"]
    assert list(layers) == ["tollhouse", "hardening"], "the last layer decides"


@pytest.mark.parametrize("runtime", [{"tollhouse.own": 1}, {HARDENED: 100}, {"a.list": [1]}, {"nothing": None}])
def test_what_must_not_be_in_the_runtime_is_refused(runtime: dict[str, Any]) -> None:
    found = compile(decode(document(good=1, **runtime)), Settings(), {}, strict=True)
    assert [(p.code, p.path) for p in found.problems] == [("GW605", ("envoy", "runtime", *runtime))]
    assert RUNTIME not in {f"type.googleapis.com/{m.DESCRIPTOR.full_name}" for m in found.messages}


async def test_the_runtime_is_set_changed_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.publish(snapshot(1, **{PANIC: 33}))
    server = await start(hub, "127.0.0.1:0")

    def shipped(kind: str, port: int) -> dict[str, Any]:
        made = render(Node(id="envoy-1", admin=("127.0.0.1", 0), xds=("127.0.0.1", port)), template())
        del made["admin"]["allow_paths"]  # which do not let /runtime be read
        return made

    monkeypatch.setattr(real_envoy, "bootstrap", shipped)
    try:
        async with real_envoy.running("delta", server.port, tmp_path) as envoy:
            await finals(envoy, {PANIC: "33", HARDENED: "1"})
            hub.publish(snapshot(2, **{PANIC: {"numerator": 20, "denominator": "HUNDRED"}}))
            assert "HUNDRED" in await final(envoy, PANIC, lambda value: value != "33")
            last = snapshot(3)
            hub.publish(last)
            await finals(envoy, {PANIC: "", HARDENED: "1"})
            assert await hub.converged(last, 10) == ()
    finally:
        await server.stop(0)


async def final(envoy: real_envoy.Envoy, key: str, right: Any) -> str:
    """The value that Envoy goes by, "" for none, as soon as it is right."""
    value: str = ""
    async with asyncio.timeout(15):
        while True:
            entries = (await envoy.http.get(f"{envoy.admin}/runtime")).json()["entries"]
            value = entries.get(key, {}).get("final_value", "")
            if right(value):
                return value
            await asyncio.sleep(0.02)


async def finals(envoy: real_envoy.Envoy, expected: dict[str, str]) -> None:
    for key, value in expected.items():
        await final(envoy, key, value.__eq__)
