"""Real Envoys and the real decision service: costs that come with the response, other fleets, and tiers that change."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.model import Gateway, decode
from gwctl.up.process import Process, free_port
from tests.support.upstream import Upstream
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.resources import RATE_LIMITS, Resource
from xds_server.validate import find_envoy

from .real_decisions import RealDecisions
from .running import OPTIONS, RunningGateway, ready

DOCUMENT = """
version: 1
listeners: {http: {port: 8080, access_log: none}}
upstreams: {up: {type: static, endpoints: [{address: 127.0.0.1, port: ECHO}]}}
api_keys: {partner: {}}
rate_limit_defaults: {on_error: deny}
tiers:
  free: {rate_limits: [{limit: 3/hour, algorithm: fixed, per: [client, route]}]}
  gold: {unlimited: true}
  metered: {rate_limits: [{limit: 100/hour, algorithm: log, cost_from: "response_header:x-tokens"}]}
rate_limit_domains:
  fleet:
    descriptors:
      - {key: account, value: "a*", limit: 2/hour, algorithm: fixed}
      - {key: slots, limit: 1/hour, algorithm: fixed}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [partner]}
    routes:
      plain: {match: {path: {exact: /plain}}, backends: [{upstream: up}]}
      chat:
        match: {path: {exact: /chat}}
        backends: [{upstream: up}]
        response_headers: {set: {x-tokens: "60"}}
      bytes:
        match: {path: {exact: /bytes}}
        backends: [{upstream: up}]
        rate_limits: [{name: bytes, limit: 250/hour, algorithm: fixed, cost_from: response_bytes}]
"""


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def document(echo: Upstream, **changes: Any) -> Gateway:
    return decode(yaml.safe_load(DOCUMENT.replace("ECHO", str(echo.port))) | changes)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, echo: Upstream) -> Iterator[RealDecisions]:
    with RealDecisions(tmp_path_factory.mktemp("secrets")) as running:
        running.view(document(echo))
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, echo: Upstream, service: RealDecisions
) -> Iterator[RunningGateway]:
    decisions = (("127.0.0.1", service.port),)
    directory = tmp_path_factory.mktemp("limits")
    with RunningGateway(directory, DOCUMENT, {"ECHO": echo.port}, decisions=decisions) as running:
        key = service.keys.make("warm", "gold")
        until(lambda: running.request("/plain", x_api_key=key).status_code == 200)
        yield running


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, echo: Upstream, service: RealDecisions) -> Iterator[httpx.Client]:
    directory, port, admin = tmp_path_factory.mktemp("fleet"), free_port(), free_port()
    text = Path(__file__).with_name("fleet.yaml").read_text()
    words = {"LISTENER_PORT": port, "UPSTREAM_PORT": echo.port, "DECISIONS_PORT": service.port, "ADMIN_PORT": admin}
    for word, value in words.items():
        text = text.replace(word, str(value))
    config = directory / "envoy.yaml"
    config.write_text(text)
    command = [str(find_envoy()), "--config-path", str(config), *OPTIONS]
    envoy = Process("envoy", command, directory / "envoy.log", ready=lambda: ready(admin))
    envoy.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            until(lambda: client.get("/by-header", headers={"x-account": "warm"}).status_code == 200)
            yield client
    finally:
        envoy.stop()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def statuses(client: httpx.Client, path: str, count: int, **headers: str) -> list[int]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return [client.get(path, headers=sent).status_code for _ in range(count)]


def left(client: httpx.Client, path: str, key: str) -> int:
    return int(client.get(path, headers={"x-api-key": key}).headers["x-ratelimit-remaining"])


def test_a_cost_is_charged_when_the_response_is_there(gateway: RunningGateway, service: RealDecisions) -> None:
    key = service.keys.make("talker", "metered")
    assert left(gateway.client, "/chat", key) == 100, "the request itself costs nothing"
    until(lambda: left(gateway.client, "/plain", key) == 40)  # what has no such header costs nothing either
    assert statuses(gateway.client, "/chat", 1, x_api_key=key) == [200]
    until(lambda: statuses(gateway.client, "/plain", 1, x_api_key=key) == [429])


def test_bytes_are_charged_when_they_have_been_sent(gateway: RunningGateway, service: RealDecisions) -> None:
    key = service.keys.make("reader", "gold")
    first = gateway.client.get("/bytes", headers={"x-api-key": key})
    assert (first.status_code, len(first.content) > 250) == (200, True)
    until(lambda: statuses(gateway.client, "/bytes", 1, x_api_key=key) == [429])


def test_a_tier_or_a_client_that_changes_needs_nothing_of_envoy(
    gateway: RunningGateway, service: RealDecisions, echo: Upstream
) -> None:
    """The Envoy of this test has no control plane at all; and what it would be given is the same byte for byte."""
    key = service.keys.make("grower")
    assert statuses(gateway.client, "/plain", 4, x_api_key=key) == [200, 200, 200, 429]
    tiers = yaml.safe_load(DOCUMENT)["tiers"]
    tiers["free"]["rate_limits"][0]["limit"] = "5/hour"
    changed = document(echo, tiers=tiers)
    assert pushed(changed) == pushed(document(echo))
    service.view(changed)
    try:
        assert statuses(gateway.client, "/plain", 3, x_api_key=key) == [200, 200, 429]
        (record,) = (record for record in service.keys.records.values() if record.consumer == "grower")
        service.keys.records[record.id] = replace(record, tier="gold")
        until(lambda: statuses(gateway.client, "/plain", 3, x_api_key=key) == [200] * 3)
    finally:
        service.view(document(echo))


@pytest.mark.parametrize("decision", ["separate", "combined"])
def test_a_cost_is_told_of_by_envoy_however_it_asks(decision: str, echo: Upstream) -> None:
    found = pushed(document(echo, rate_limit_defaults={"decision": decision}))
    told = [name for _, name, data in found if b"%RESP(x-tokens)%" in data and b"%BYTES_SENT%" in data]
    assert told == ["http"]


def pushed(gateway: Gateway) -> list[tuple[str, str, bytes]]:
    """All that Envoys are given; `RateLimitConfig` is what another rate limit service would ask for."""
    compiled = compile(gateway, Settings(listener_ports={"http": 8080}), {}, strict=True)
    made = map(Resource.of, compiled.messages)
    return sorted((one.type_url, one.name, one.data) for one in made if one.type_url != RATE_LIMITS)


def test_another_fleet_has_limits_of_its_own(fleet: httpx.Client) -> None:
    assert statuses(fleet, "/by-header", 3, x_account="ann") == [200, 200, 429]
    assert statuses(fleet, "/by-header", 3, x_account="bob") == [200] * 3, "nothing is said of it"
    answer = fleet.get("/by-header", headers={"x-account": "anton"})
    assert answer.headers["x-ratelimit-limit"] == "2, 2;w=3600"


def test_what_envoy_gives_back_can_be_spent_again(fleet: httpx.Client) -> None:
    for _ in range(3):
        assert statuses(fleet, "/given-back", 1) == [200]
        until(lambda: statuses(fleet, "/given-back", 1) == [200])


def test_a_limit_that_envoy_says(fleet: httpx.Client) -> None:
    assert statuses(fleet, "/said-by-envoy", 3) == [200, 200, 429]
