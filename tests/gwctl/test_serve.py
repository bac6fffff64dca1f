"""Each service as a process of its own: what it needs, what it refuses, how it starts, waits and ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import grpc
import httpx
import pytest
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gwctl import serve
from gwctl.addresses import Address, AddressType, pairs
from gwctl.exits import Exit
from gwctl.main import run
from gwctl.notify import READY, SERVING, Listener, notify
from gwctl.up.ports import Ports
from gwctl.up.postgres import Postgres
from gwctl.up.process import Process
from tests.support.authority import Authority, written
from xds_server.ads.server import ADS

AUTHORITY = Authority()


class Service(Process):
    """`gwctl serve …` that says when it is ready."""

    def __init__(self, tmp_path: Path, *arguments: str, state: str = READY, **variables: str) -> None:
        self.listener = Listener(str(tmp_path / f"{arguments[0]}.sock"))
        super().__init__(
            name=arguments[0],
            command=[sys.executable, "-m", "gwctl", "serve", *arguments],
            log=tmp_path / f"{arguments[0]}.log",
            ready=lambda: self.listener.heard(state),
            environment={**os.environ, "NOTIFY_SOCKET": self.listener.path, **variables},
            directory=Path.cwd(),
        )

    def stop(self, timeout: float = 20.0) -> None:
        super().stop(timeout)
        self.listener.close()

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "pepper").write_text("0123456789abcdef0123456789abcdef\n")
    given = Ports()
    return {
        "TOLLHOUSE_DATABASE_URL": "postgresql://nobody@/none?host=/nowhere",
        "TOLLHOUSE_PEPPER_FILE": str(tmp_path / "pepper"),
        "TOLLHOUSE_SECRETS_DIR": str(tmp_path / "secrets"),
        "TOLLHOUSE_API_ADDRESS": f"127.0.0.1:{given.any()}",
        "TOLLHOUSE_XDS_ADDRESS": f"127.0.0.1:{given.any()}",
        "TOLLHOUSE_XDS_REST_ADDRESS": f"127.0.0.1:{given.any()}",
        "TOLLHOUSE_DECISIONS_ADDRESS": f"127.0.0.1:{given.any()}",
    }


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "pg", fast=True)
    yield server
    server.stop()


def waits_for_its_database(service: Service) -> None:
    while "waiting_for_database" not in service.log.read_text():
        assert service.pid is not None, service.log.read_text()
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------ control plane
def test_the_control_plane_waits_for_its_database_and_writes_the_first_token(
    tmp_path: Path, settings: dict[str, str], postgres: Postgres
) -> None:
    settings |= {"TOLLHOUSE_DATABASE_URL": postgres.url, "TOLLHOUSE_TOKEN_FILE": str(tmp_path / "token")}
    service = Service(tmp_path, "control-plane", **settings)
    service.spawn()
    with contextlib.ExitStack() as stack:
        stack.callback(service.stop)
        waits_for_its_database(service)
        postgres.start()
        service.wait_ready(30)
        token = (tmp_path / "token").read_text().strip()
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        url = f"http://{settings['TOLLHOUSE_API_ADDRESS']}"
        assert httpx.get(f"{url}/v1/status").status_code == 401
        answer = httpx.get(f"{url}/v1/status", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["revision"] == 0
        polls = httpx.post(
            f"http://{settings['TOLLHOUSE_XDS_REST_ADDRESS']}/v3/discovery:clusters", json={"node": {"id": "n"}}
        )
        assert (polls.status_code, polls.text) == (503, "there is no snapshot yet\n"), "nothing was ever applied"
        service.stop()
    assert service.exit_status == 0, service.log.read_text()
    assert token not in service.log.read_text(), "a token never gets into a log"
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert {line["event"] for line in lines} >= {"control_plane_started", "control_plane_stopped"}


def test_without_a_token_file_the_first_token_is_on_standard_output_once(
    tmp_path: Path, settings: dict[str, str], postgres: Postgres
) -> None:
    postgres.start()
    settings |= {"TOLLHOUSE_DATABASE_URL": postgres.url}
    for attempt in range(2):
        with Service(tmp_path, "control-plane", **settings) as service:
            said = service.log.read_text()
        assert said.count("token of the control API, shown this once: gwt_") == 1, attempt


def test_the_control_plane_ends_while_it_waits_for_its_database(tmp_path: Path, settings: dict[str, str]) -> None:
    service = Service(tmp_path, "control-plane", **settings)
    service.spawn()
    waits_for_its_database(service)
    service.stop()
    assert service.exit_status == 0, service.log.read_text()


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path, settings: dict[str, str]) -> None:
    host, _, port = settings["TOLLHOUSE_API_ADDRESS"].partition(":")
    with socket.create_server((host, int(port))):
        service = Service(tmp_path, "control-plane", **settings)
        service.spawn()
        while service.pid is not None:
            time.sleep(0.02)
    service.stop()
    assert service.exit_status == Exit.FAILED
    assert f"cannot listen on {settings['TOLLHOUSE_API_ADDRESS']}" in service.log.read_text()


@pytest.mark.parametrize(
    ("service", "option"),
    [
        ("control-plane", "--api-address"),
        ("control-plane", "--xds-address"),
        ("control-plane", "--xds-rest-address"),
        ("decisions", "--address"),
    ],
)
def test_nothing_listens_beyond_this_machine_in_plain_text(
    service: str,
    option: str,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert run(["serve", service, option, "0.0.0.0:0"]) == Exit.USAGE
    assert "--insecure-plaintext" in capsys.readouterr().err


@pytest.fixture
def xds_tls(tmp_path: Path) -> dict[str, str]:
    certificate, key = written(tmp_path, "server", AUTHORITY.issue("localhost", "127.0.0.1"))
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.pem)
    return {
        "TOLLHOUSE_XDS_CERT": str(certificate),
        "TOLLHOUSE_XDS_KEY": str(key),
        "TOLLHOUSE_XDS_CLIENT_CA": str(tmp_path / "ca.crt"),
        "TOLLHOUSE_XDS_TRUST_DOMAIN": "acme.example",
    }


def test_xds_over_mutual_tls(
    tmp_path: Path, settings: dict[str, str], xds_tls: dict[str, str], postgres: Postgres
) -> None:
    postgres.start()
    settings |= xds_tls | {"TOLLHOUSE_DATABASE_URL": postgres.url, "TOLLHOUSE_TOKEN_FILE": str(tmp_path / "token")}
    answers = {}
    with Service(tmp_path, "control-plane", **settings):
        for name in ("spiffe://acme.example/node/a", "spiffe://tollhouse/node/a"):
            chain, key = AUTHORITY.issue(name)
            credentials = grpc.ssl_channel_credentials(AUTHORITY.pem, key, chain)
            with grpc.secure_channel(settings["TOLLHOUSE_XDS_ADDRESS"], credentials) as channel:
                call = channel.stream_stream(f"/{ADS}/DeltaAggregatedResources")(iter([b""]), timeout=10)
                answers[name] = call.code()
        with grpc.insecure_channel(settings["TOLLHOUSE_XDS_ADDRESS"]) as channel:
            call = channel.stream_stream(f"/{ADS}/DeltaAggregatedResources")(iter([b""]), timeout=10)
            answers["plain"] = call.code()
    assert answers == {
        "spiffe://acme.example/node/a": grpc.StatusCode.INVALID_ARGUMENT,  # let in, and told that its node is missing
        "spiffe://tollhouse/node/a": grpc.StatusCode.UNAUTHENTICATED,
        "plain": grpc.StatusCode.UNAVAILABLE,
    }


def test_xds_goes_beyond_this_machine_with_tls_and_with_all_of_it(
    settings: dict[str, str], xds_tls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(serve, "run_control_plane", started.append)
    monkeypatch.setattr(serve, "run", lambda work: None)
    for name, value in {**settings, **xds_tls, "TOLLHOUSE_XDS_ADDRESS": "0.0.0.0:9001"}.items():
        monkeypatch.setenv(name, value)
    assert run(["serve", "control-plane"]) == Exit.DONE
    assert [config.xds_tls.client_ca for config in started] == [Path(xds_tls["TOLLHOUSE_XDS_CLIENT_CA"])]
    for missing in ("TOLLHOUSE_XDS_CERT", "TOLLHOUSE_XDS_KEY", "TOLLHOUSE_XDS_CLIENT_CA"):
        with monkeypatch.context() as without:
            without.delenv(missing)
            assert run(["serve", "control-plane"]) == Exit.USAGE


def test_a_pepper_that_is_too_short_is_refused(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(settings["TOLLHOUSE_PEPPER_FILE"]).write_text("tooshort\n")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert run(["serve", "decisions"]) == Exit.FAILED
    said = capsys.readouterr().err
    assert "less than 16 bytes" in said
    assert "tooshort" not in said


# --------------------------------------------------------------------------------------------------------- decisions
def test_the_decision_service_starts_without_a_gateway_and_ends_cleanly(
    tmp_path: Path, settings: dict[str, str], postgres: Postgres
) -> None:
    postgres.start()
    settings |= {"TOLLHOUSE_DATABASE_URL": postgres.url}
    with Service(tmp_path, "decisions", **settings) as service:
        with grpc.insecure_channel(settings["TOLLHOUSE_DECISIONS_ADDRESS"]) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=10
            )
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not service.listener.heard(SERVING)
    assert service.exit_status == 0, service.log.read_text()


def test_the_fast_transport_answers_both_services_and_ends_cleanly(
    tmp_path: Path, settings: dict[str, str], postgres: Postgres
) -> None:
    """Without a gateway both refuse, rather than let pass."""
    postgres.start()
    settings |= {"TOLLHOUSE_DATABASE_URL": postgres.url}
    limit = rls_pb2.RateLimitRequest(domain="tollhouse")
    limit.descriptors.add().entries.add(key="tier", value="free")
    asked = {
        "/envoy.service.auth.v3.Authorization/Check": external_auth_pb2.CheckRequest().SerializeToString(),
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit": limit.SerializeToString(),
    }
    with (
        Service(tmp_path, "decisions", "--transport", "fast", **settings) as service,
        grpc.insecure_channel(settings["TOLLHOUSE_DECISIONS_ADDRESS"]) as channel,
    ):
        for path, message in asked.items():
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(message, wait_for_ready=True, timeout=10)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "no gateway has been loaded yet" in refused.value.details()
        service.stop()  # with the connection open
    assert service.exit_status == 0, service.log.read_text()


# -------------------------------------------------------------------------------------------------------------- demo
def test_the_demo_says_what_it_saw_and_misbehaves_when_asked_to(tmp_path: Path) -> None:
    one, two = Ports().any(), Ports().any()
    with Service(tmp_path, "demo", "--ports", f"orders={one},billing={two}") as service, httpx.Client() as client:
        seen = client.post(f"http://127.0.0.1:{one}/a/b?x=1", headers={"X-Who": "me"}).json()
        assert (seen["upstream"], seen["method"], seen["path"], seen["query"]) == ("orders", "POST", "/a/b", "x=1")
        assert seen["headers"]["x-who"] == "me"
        assert client.get(f"http://127.0.0.1:{two}/").json()["upstream"] == "billing"
        assert client.get(f"http://127.0.0.1:{two}/health").text == "ok\n"
        assert client.get(f"http://127.0.0.1:{one}/?status=503").status_code == 503
        assert client.get(f"http://127.0.0.1:{one}/?delay=200ms").elapsed.total_seconds() >= 0.2
        for wrong in ("?status=99", "?status=x", "?delay=2", "?delay=x"):
            assert client.get(f"http://127.0.0.1:{one}/{wrong}").status_code == 400
    assert service.exit_status == 0, service.log.read_text()


# --------------------------------------------------------------------------------------------------- words, addresses
def test_a_service_is_heard_by_whoever_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    listener = Listener(str(tmp_path / "n.sock"))
    request.addfinalizer(listener.close)
    assert not listener.heard(READY)
    notify(READY)
    assert not listener.heard(READY), "nobody asked to be told"
    monkeypatch.setenv("NOTIFY_SOCKET", listener.path)
    notify(READY)
    assert listener.heard(READY)
    assert listener.heard(READY), "it stays so"
    assert not listener.heard(SERVING)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify(READY)


def test_systemd_hears_it_on_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + receiver.getsockname()[1:].decode())
        notify(READY)
        assert receiver.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("written", "address", "loopback"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80), True),
        ("127.9.9.9:80", Address("127.9.9.9", 80), True),
        ("localhost:80", Address("localhost", 80), True),
        ("[::1]:80", Address("::1", 80), True),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        ("[::]:80", Address("::", 80), False),
        ("10.0.0.1:80", Address("10.0.0.1", 80), False),
        ("localhost.example.com:80", Address("localhost.example.com", 80), False),
    ],
)
def test_addresses(written: str, address: Address, loopback: bool) -> None:
    assert AddressType().convert(written, None, None) == address
    assert str(address) == written
    assert address.loopback is loopback


@pytest.mark.parametrize("written", ["", "80", ":80", "a:", "a:b", "a:65536", "a:-1"])
def test_what_is_no_address(written: str) -> None:
    with pytest.raises(click.BadParameter):
        AddressType().convert(written, None, None)


def test_names_and_ports() -> None:
    assert pairs("http=8080,https=8443", "x") == {"http": 8080, "https": 8443}
    assert pairs("", "x") == {}
    for wrong in ("http", "=80", "http=", "http=x", "http=80;https=81"):
        with pytest.raises(click.UsageError):
            pairs(wrong, "x")


def test_a_service_that_is_interrupted_ends_like_one_that_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gwctl", "serve", "demo", "--ports", f"a={Ports().any()}"]
    listener = Listener(str(tmp_path / "n.sock"))
    variables = {**os.environ, "NOTIFY_SOCKET": listener.path}
    with (
        contextlib.closing(listener),
        subprocess.Popen(command, env=variables, stderr=subprocess.PIPE) as child,
    ):
        while not listener.heard(READY):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
