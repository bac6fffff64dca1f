"""New certificates over SDS, on a real Envoy with a real control plane: no handshake fails, no connection is drained.

TOLLHOUSE_ROTATIONS=1000 makes it a long run.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from prometheus_client import CollectorRegistry

from gateway.model import Gateway, decode
from tests.ads import real_envoy as real
from tests.support import http3
from tests.support.authority import Authority, written
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import CaBundle, Certificate, RevocationList, Secret, Settings, compile  # noqa: A004
from xds_server.resources import LISTENER, Snapshot

ROTATIONS = int(os.environ.get("TOLLHOUSE_ROTATIONS", "10"))
HANDSHAKES = 20  # for each rotation
HOST = "api.example.com"
DOCUMENT = """
version: 1
listeners:
  edge:
    port: 8443
    protocol: HTTPS
    access_log: none
    tls:
      certificates:
        - {hosts: [api.example.com], secret: site}
        - {hosts: [node.example.com], cert_file: DIRECTORY/node.crt, key_file: DIRECTORY/node.key}
        - {hosts: [gone.example.com], cert_file: DIRECTORY/gone.crt, key_file: DIRECTORY/gone.key}
      client_validation: {mode: require, ca_secret: clients, crl_secret: revoked}
  quic:
    port: 8444
    protocol: HTTPS
    http3: true
    access_log: none
    tls: {certificates: [{secret: site}]}
tiers: {free: {unlimited: true}}
modules:
  quic:
    tier: free
    listener: quic
    authentication: none
    routes: {a: {match: {path: {exact: /}}, respond: {status: 200, body: hello}}}
  m:
    tier: free
    listener: edge
    authentication: none
    routes: {a: {match: {path: {exact: /}}, respond: {status: 200, body: hello}}}
"""


class Plane:
    """A control plane that publishes what the compiler makes of one document and ever new secrets."""

    def __init__(self, gateway: Gateway, secrets: dict[str, Secret]) -> None:
        self.gateway, self.secrets, self.hub, self.revision = gateway, secrets, Hub(), 0
        self.settings = Settings(listener_ports={"edge": real.free_port(), "quic": real.free_port()})

    def publish(self, **secrets: Secret) -> Snapshot:
        self.secrets |= secrets
        self.revision += 1
        compiled = compile(self.gateway, self.settings, self.secrets, strict=True)
        assert compiled.problems == ()
        snapshot = Snapshot.of(self.revision, compiled.messages)
        self.hub.publish(snapshot)
        return snapshot


class Caller:
    """Calls with a client certificate."""

    def __init__(self, port: int, authority: Authority, client: tuple[Path, Path]) -> None:
        self.port = port
        self.context = ssl.create_default_context(cadata=authority.pem.decode())
        self.context.load_cert_chain(*client)

    async def connect(self, host: str = HOST) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, server_hostname=host)

    async def call(self, host: str = HOST) -> str:
        """One connection with one request; the serial number of the server's certificate."""
        reader, writer = await self.connect(host)
        try:
            assert b" 200 " in await self.ask(reader, writer)
            return str(self.certificate(writer)["serialNumber"])
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nhost: %s\r\n\r\n" % HOST.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"hello"))
        return head

    def certificate(self, writer: asyncio.StreamWriter) -> Mapping[str, Any]:
        found: Mapping[str, Any] = writer.get_extra_info("ssl_object").getpeercert()
        return found

    async def sees(self, serial: str, host: str = HOST) -> None:
        async with asyncio.timeout(15):
            while await self.call(host) != serial:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def serial_of(pair: tuple[bytes, bytes]) -> str:
    number = f"{x509.load_pem_x509_certificate(pair[0]).serial_number:X}"
    return number if len(number) % 2 == 0 else f"0{number}"


class Running:
    def __init__(self, directory: Path, authority: Authority, clients: Authority, plane: Plane) -> None:
        self.directory, self.authority, self.clients, self.plane = directory, authority, clients, plane
        self.client = clients.issue("client.example.com")
        self.caller = Caller(
            plane.settings.listener_ports["edge"], authority, written(directory, "client", self.client)
        )

    async def undisturbed(self, envoy: real.Envoy) -> None:
        """No listener was changed, and nobody's connection is being drained."""
        stats = (await envoy.http.get(f"{envoy.admin}/stats?format=json&filter=listener_manager")).json()["stats"]
        counters = {entry["name"]: entry["value"] for entry in stats if isinstance(entry.get("value"), int)}
        for name in ("listener_modified", "total_listeners_draining", "total_filter_chains_draining"):
            assert counters[f"listener_manager.{name}"] == 0, name


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Running, real.Envoy]]:
    authority, clients = Authority(), Authority("Clients")
    written(directory, "node", authority.issue("node.example.com"))
    gateway = decode(yaml.safe_load(DOCUMENT.replace("DIRECTORY", str(directory))))
    secrets: dict[str, Secret] = {
        "site": Certificate(*authority.issue(HOST)),
        "clients": CaBundle(clients.pem),
        "revoked": RevocationList(clients.revoking()),
    }
    plane = Plane(gateway, secrets)
    server = await start(plane.hub, "127.0.0.1:0", registry=CollectorRegistry())
    try:
        plane.publish()
        found = Running(directory, authority, clients, plane)
        async with real.running("delta", server.port, directory) as envoy:
            await envoy.port("edge")
            yield found, envoy
    finally:
        await server.stop(0)


async def begun(caller: Caller) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await caller.call()
                return
            await asyncio.sleep(0.02)


async def test_new_certificates_are_taken_without_a_failed_handshake(tmp_path: Path) -> None:
    """Although another certificate of the listener, in files that the node does not have, cannot be served at all."""
    async with running(tmp_path) as (found, envoy):
        caller = found.caller
        await begun(caller)
        listeners = found.plane.publish().types[LISTENER].version
        kept = await caller.connect()
        for _ in range(ROTATIONS):
            pair = found.authority.issue(HOST)
            load = asyncio.gather(*(caller.call() for _ in range(HANDSHAKES)))
            snapshot = found.plane.publish(site=Certificate(*pair))
            await load
            await caller.sees(serial_of(pair))
            assert snapshot.types[LISTENER].version == listeners
        assert b" 200 " in await caller.ask(*kept), "a connection from before all that"
        kept[1].close()
        await found.undisturbed(envoy)
        with pytest.raises(OSError, match=r"(?i)reset|eof|lost"):
            await caller.call("gone.example.com")


async def test_a_certificate_on_the_node_is_read_again_when_it_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as (found, _):
        await begun(found.caller)
        first = await found.caller.call("node.example.com")
        pair = found.authority.issue("node.example.com")
        for path in written(tmp_path, "new", pair):
            path.rename(tmp_path / f"node{path.suffix}")
        assert serial_of(pair) != first
        await found.caller.sees(serial_of(pair), "node.example.com")


async def test_a_client_is_out_as_soon_as_it_is_revoked(tmp_path: Path) -> None:
    async with running(tmp_path) as (found, envoy):
        await begun(found.caller)
        found.plane.publish(revoked=RevocationList(found.clients.revoking([found.client[0]])))
        async with asyncio.timeout(15):
            with pytest.raises((OSError, asyncio.IncompleteReadError)):  # noqa: PT012 - until it is so
                while True:
                    await found.caller.call()
        await found.undisturbed(envoy)


async def test_http_3_has_the_new_certificate_too(tmp_path: Path) -> None:
    """From another authority: who trusts only that one sees nothing else."""
    async with running(tmp_path) as (found, envoy):
        await begun(found.caller)
        port = found.plane.settings.listener_ports["quic"]
        assert (await http3.get(port, HOST, "/", found.authority.pem)).status == 200
        other = Authority()
        found.plane.publish(site=Certificate(*other.issue(HOST)))
        async with asyncio.timeout(15):
            while True:
                with suppress(ConnectionError):
                    assert (await http3.get(port, HOST, "/", other.pem)).status == 200
                    break
        with pytest.raises(ConnectionError):
            await http3.get(port, HOST, "/", found.authority.pem)
        await found.undisturbed(envoy)
