"""Certificates and bootstrap files, and a real Envoy that joins with them."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gwctl.exits import Exit
from gwctl.main import run
from tests.ads import real_envoy
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.ads.tls import ServerTls
from xds_server.resources import Snapshot


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run(["node", "init-ca"]) == 0
    return tmp_path


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(found: x509.Certificate) -> list[str]:
    return [str(name.value) for name in found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def usage(found: x509.Certificate) -> list[Any]:
    return list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize(
    ("command", "file", "expected", "use", "days"),
    [
        (["issue-cert", "edge-1"], "edge-1", ["spiffe://tollhouse/node/edge-1"], ExtendedKeyUsageOID.CLIENT_AUTH, 30),
        (
            ["issue-operator-cert", "ada", "--trust-domain", "acme.example", "--days", "2"],
            "ada",
            ["spiffe://acme.example/operator/ada"],
            ExtendedKeyUsageOID.CLIENT_AUTH,
            2,
        ),
        (
            ["issue-server-cert", "control.example", "10.0.0.1"],
            "server",
            ["control.example", "10.0.0.1"],
            ExtendedKeyUsageOID.SERVER_AUTH,
            90,
        ),
    ],
)
def test_what_is_issued(here: Path, command: list[str], file: str, expected: list[str], use: Any, days: int) -> None:
    assert run(["node", *command, "--out", "out"]) == 0
    found, authority = certificate(here / "out" / f"{file}.crt"), certificate(here / "ca" / "ca.crt")
    found.verify_directly_issued_by(authority)
    assert names(found) == expected
    assert usage(found) == [use]
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days == days
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for key in (here / "out" / f"{file}.key", here / "ca" / "ca.key"):
        assert key.stat().st_mode & 0o777 == 0o600


def test_an_authority_is_never_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (here / "ca" / "ca.key").read_bytes()
    assert run(["node", "init-ca"]) == Exit.FAILED
    (here / "ca" / "ca.crt").unlink()
    assert run(["node", "init-ca"]) == Exit.FAILED
    assert (here / "ca" / "ca.key").read_bytes() == before
    assert run(["node", "issue-cert", "a"]) == Exit.FAILED
    assert "gwctl node init-ca" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä", "a\n", "x" * 256])
def test_a_node_has_a_name_that_can_stand_in_a_certificate(here: Path, name: str) -> None:
    assert run(["node", "issue-cert", name]) == Exit.INVALID
    assert {path.name for path in here.iterdir()} == {"ca"}


def test_no_certificate_outlives_its_authority(here: Path) -> None:
    assert run(["node", "init-ca", "--ca-dir", "short", "--days", "3"]) == 0
    assert run(["node", "issue-cert", "a", "--ca-dir", "short", "--days", "30"]) == 0
    assert certificate(here / "a.crt").not_valid_after_utc == certificate(here / "short/ca.crt").not_valid_after_utc


# ----------------------------------------------------------------------------------------------------------- bootstrap
TLS = ["--cert", "edge-1.crt", "--key", "edge-1.key", "--ca", "ca/ca.crt", "-o", "edge/bootstrap.yaml"]


def test_without_tls_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["--label", "tier=public", "--label", "a=b=c", "--region", "r", "--zone", "z", "--cluster", "edge"]
    assert run(["bootstrap", "--node", "edge-1", "--xds", "[::1]:9001", *labels]) == 0
    made = yaml.safe_load(capsys.readouterr().out)
    assert made["node"] == {
        "id": "edge-1",
        "cluster": "edge",
        "metadata": {"labels": {"tier": "public", "a": "b=c"}},
        "locality": {"region": "r", "zone": "z"},
    }
    assert "transport_socket" not in made["static_resources"]["clusters"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--xds", "control.example:9001"],
        ["--xds", "127.0.0.1:9001", "--admin", "0.0.0.0:9901"],
        ["--xds", "127.0.0.1:9001", "--label", "tier"],
        ["--xds", "127.0.0.1:9001", *TLS[:4]],
        ["--xds", "127.0.0.1:9001", *TLS[:6]],
        ["--xds", "127.0.0.1"],
    ],
)
def test_what_bootstrap_refuses(arguments: list[str], here: Path) -> None:
    assert run(["bootstrap", "--node", "edge-1", *arguments]) == Exit.USAGE
    assert {path.name for path in here.iterdir()} == {"ca"}


@pytest.mark.parametrize(
    ("more", "kind", "name", "sni"),
    [
        (["--xds", "control.example:1"], "DNS", "control.example", "control.example"),
        (["--xds", "10.0.0.1:1"], "IP_ADDRESS", "10.0.0.1", None),
        (["--xds", "10.0.0.1:1", "--xds-name", "control.example"], "DNS", "control.example", "control.example"),
        (
            ["--xds", "c:1", "--xds-name", "spiffe://tollhouse/control-plane"],
            "URI",
            "spiffe://tollhouse/control-plane",
            None,
        ),
    ],
)
def test_envoy_accepts_it_without_a_warning(here: Path, more: list[str], kind: str, name: str, sni: str | None) -> None:
    assert run(["node", "issue-cert", "edge-1"]) == 0
    assert run(["bootstrap", "--node", "edge-1", *more, *TLS]) == 0
    file = here / "edge" / "bootstrap.yaml"
    context = yaml.safe_load(file.read_text())["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    assert validation["match_typed_subject_alt_names"] == [{"san_type": kind, "matcher": {"exact": name}}]
    assert context.get("sni") == sni
    command = [real_envoy.BINARY, "--mode", "validate", "-l", "warning", "--use-dynamic-base-id", "-c", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------------------------------------------------- real Envoy
@pytest.fixture
def served(here: Path) -> ServerTls:
    assert run(["node", "issue-server-cert", "localhost", "127.0.0.1", "--out", "server"]) == 0
    assert run(["node", "issue-cert", "edge-1"]) == 0
    return ServerTls(here / "server" / "server.crt", here / "server" / "server.key", here / "ca" / "ca.crt")


def published(text: str) -> Snapshot:
    return Snapshot.of(1, [real_envoy.listener(), real_envoy.routes(real_envoy.says(text))])


async def test_envoy_joins_with_its_certificate_and_takes_a_renewed_one(here: Path, served: ServerTls) -> None:
    hub = Hub()
    hub.publish(published("one"))
    server = await start(hub, "127.0.0.1:0", tls=served)
    try:
        joining = ["bootstrap", "--node", "edge-1", "--xds", f"localhost:{server.port}", "--admin", "127.0.0.1:0"]
        assert run([*joining, *TLS]) == 0
        async with real_envoy.started(here / "edge" / "bootstrap.yaml", here) as envoy:
            await envoy.sees("/", 200, "one")
            assert [row.id for row in hub.board.rows if row.connected] == ["edge-1"]
            first = await serial(envoy)
            assert first == certificate(here / "edge-1.crt").serial_number
            assert run(["node", "issue-cert", "edge-1"]) == 0
            renewed = certificate(here / "edge-1.crt").serial_number
            async with asyncio.timeout(15):
                while await serial(envoy) != renewed:  # noqa: ASYNC110 - nothing tells it
                    await asyncio.sleep(0.05)
            await server.stop(0)
            server = await start(hub, f"127.0.0.1:{server.port}", tls=served)  # it comes back with the new one
            hub.publish(published("two"))
            await envoy.sees("/", 200, "two")
    finally:
        await server.stop(0)


async def test_envoy_does_not_join_as_another_node_or_a_stranger_s_control_plane(here: Path, served: ServerTls) -> None:
    hub = Hub()
    hub.publish(published("secret"))
    server = await start(hub, "127.0.0.1:0", tls=served)
    address = ["--xds", f"localhost:{server.port}", "--admin", "127.0.0.1:0"]
    try:
        assert run(["bootstrap", "--node", "edge-2", *address, *TLS]) == 0
        async with real_envoy.started(here / "edge" / "bootstrap.yaml", here) as envoy:
            await refused(envoy, here, "is not that of node 'edge-2'")
        assert run(["bootstrap", "--node", "edge-1", *address, "--xds-name", "control.example", *TLS]) == 0
        async with real_envoy.started(here / "edge" / "bootstrap.yaml", here) as envoy:
            await refused(envoy, here, "SAN_matcher")
        assert not hub.board.rows
    finally:
        await server.stop(0)


async def refused(envoy: real_envoy.Envoy, folder: Path, reason: str) -> None:
    """Envoy says why, and has nothing."""
    async with asyncio.timeout(15):
        while reason not in (folder / "envoy.log").read_text():  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.05)
    assert (await envoy.http.get(f"{envoy.admin}/listeners")).text == ""


async def serial(envoy: real_envoy.Envoy) -> int:
    """Of the certificate that Envoy shows the control plane."""
    answer = json.loads((await envoy.http.get(f"{envoy.admin}/certs")).text)
    (chain,) = [chain for entry in answer["certificates"] for chain in entry.get("cert_chain", ())]
    return int(chain["serial_number"], 16)
