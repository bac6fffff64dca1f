"""kill -9 of each part in turn, under traffic: Envoy goes on, limits fail as configured, nothing is lost."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support.gateway import until
from tests.support.lab import Lab


@dataclass
class Traffic:
    """What callers saw, by path and status."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def statuses(self, path: str) -> dict[int, int]:
        return {status: count for (p, status), count in self.answers.items() if p == path}


@contextmanager
def traffic(lab: Lab, paths: dict[str, dict[str, str]]) -> Iterator[Traffic]:
    """One caller a path, as fast as answers come, until the block ends."""
    seen, stop = Traffic(), threading.Event()

    def call(path: str, headers: dict[str, str]) -> None:
        with httpx.Client(base_url=lab.gateway.url, timeout=20) as client:
            while not stop.is_set():
                try:
                    seen.answers[path, client.get(path, headers=headers).status_code] += 1
                except httpx.HTTPError as error:
                    seen.errors.append(f"{path}: {error!r}")
                time.sleep(0.005)

    callers = [threading.Thread(target=call, args=item, daemon=True) for item in paths.items()]
    for caller in callers:
        caller.start()
    try:
        yield seen
    finally:
        stop.set()
        for caller in callers:
            caller.join()


def kill(lab: Lab, part: str) -> None:
    """kill -9, then wait until the supervisor has a new one."""
    pid = lab.gateway.pids[part]
    os.kill(pid, signal.SIGKILL)
    until(lambda: lab.gateway.pids.get(part) not in (None, pid), seconds=30, what=f"{part} is started again")


@pytest.fixture(scope="module")
def paths(lab: Lab) -> dict[str, dict[str, str]]:
    """An open route, one that asks for a key of an unlimited tier, and one with a token that Envoy verifies alone."""
    return {
        "/open": {},
        "/orders/1": {"x-api-key": lab.gateway.key("internal", "traffic")},
    }


def assert_serving(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    for path, headers in paths.items():
        until(lambda p=path, h=headers: lab.gateway.client.get(p, headers=h).status_code == 200)  # type: ignore[misc]


def pushed(lab: Lab) -> dict[str, int]:
    """How often Envoy took something new from its control plane."""
    return lab.envoy_stats(
        "(listener_manager.listener_(added|modified|removed)|cluster_manager.cluster_(added|modified|removed)"
        "|rds.*config_reload$|extension_config_discovery.*config_reload$)"
    )


def test_the_control_plane(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    before, revision = pushed(lab), lab.gateway.status()["revision"]
    with traffic(lab, paths) as seen:
        time.sleep(0.5)
        kill(lab, "control-plane")
        until(lambda: lab.gateway.gwctl("status").returncode == 0, what="the control API answers")
        until(lambda: [n["state"] for n in lab.gateway.status()["nodes"]] == ["synced"], what="Envoy is back")
        time.sleep(0.5)
    assert not seen.errors
    assert set(seen.statuses("/open")) == {200}
    assert set(seen.statuses("/orders/1")) == {200}
    assert sum(before.values()) >= 5, (
        before
    )  # a listener, clusters, routes, a filter: the figures are there to be compared
    assert pushed(lab) == before, "a control plane that comes back pushes nothing that Envoy has already"
    assert lab.gateway.status()["revision"] == revision
    lab.apply("body: pong", "body: back")
    assert lab.gateway.get("/ping").text == "back"
    lab.apply("body: back", "body: pong")


def test_the_decision_service(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    with traffic(lab, paths) as seen:
        time.sleep(0.5)
        kill(lab, "decisions")
        assert_serving(lab, paths)
    assert not seen.errors
    assert set(seen.statuses("/open")) == {200}, "limits were told to allow when they cannot be asked"
    assert set(seen.statuses("/orders/1")) <= {200, 503}, "who calls cannot be told: fail closed"
    assert_serving(lab, paths)
    lab.gateway.get("/limited/1")
    until(lambda: lab.gateway.get("/limited/1").status_code == 429, what="limits count again")


def test_valkey(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    with traffic(lab, paths) as seen:
        time.sleep(0.5)
        kill(lab, "valkey")
        time.sleep(1)
    assert not seen.errors
    for path in paths:
        assert set(seen.statuses(path)) == {200}, "on_error: allow"
    free = {"x-api-key": lab.gateway.key("free", "after-valkey")}
    until(
        lambda: "x-ratelimit-remaining" in lab.gateway.client.get("/orders/1", headers=free).headers,
        what="limits count",
    )


def test_postgresql(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    history = lab.gateway.status()["revision"]
    with traffic(lab, paths) as seen:
        time.sleep(0.5)
        kill(lab, "postgres")
        until(lambda: lab.gateway.gwctl("keys", "list").returncode == 0, what="the store is back")
    assert not seen.errors
    for path in paths:
        assert set(seen.statuses(path)) == {200}, "keys that are known go on working"
    assert lab.gateway.status()["revision"] == history
    lab.apply("body: pong", "body: stored")
    assert lab.gateway.get("/ping").text == "stored"
    assert lab.gateway.status()["revision"] == history + 1
    lab.apply("body: stored", "body: pong")
    made = lab.gateway.ask("keys", "create", "--tier", "free", "--name", "after-postgres")
    assert lab.gateway.get("/orders/1", x_api_key=made["key"]).status_code == 200
    lab.gateway.ask("keys", "revoke", made["id"])
    until(lambda: lab.gateway.get("/orders/1", x_api_key=made["key"]).status_code == 401, seconds=10)


def test_envoy(lab: Lab, paths: dict[str, dict[str, str]]) -> None:
    """Not asked of a gateway, but the supervisor promises it: a killed Envoy comes back with its configuration."""
    kill(lab, "envoy-1")

    def answers() -> bool:
        try:
            return lab.gateway.get("/ping").status_code == 200
        except httpx.HTTPError:
            return False

    until(answers)
