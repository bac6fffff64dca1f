"""Who may call what on the xDS server (S5), and that its certificates are replaced without a failed handshake (R32)."""

import asyncio
import datetime
import importlib
import pkgutil
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import envoy.service
import grpc
import pytest
from cryptography import x509
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.ads.dialogue import cluster
from tests.ads.simulated import Client, Kind
from tests.support.authority import NOW, Authority
from tests.support.results import record, size
from xds_server.ads.hub import Hub
from xds_server.ads.identity import Access, Peer, Unnamed, caller, identify
from xds_server.ads.server import ADS, METHODS, AdsOptions, AdsServer, start
from xds_server.ads.servicer import Pace
from xds_server.ads.stream import Limits
from xds_server.ads.tls import ServerTls
from xds_server.resources import CLUSTER, Snapshot

ID = "spiffe://tollhouse/node/envoy-1"
SERVER = ("localhost", "127.0.0.1")
OURS, STRANGERS = Authority("Ours"), Authority("Strangers")
PAST = NOW - datetime.timedelta(hours=1)

CREDENTIALS: dict[str, tuple[bytes, bytes] | None] = {
    "no certificate": None,
    "of another authority": STRANGERS.issue(ID),
    "expired": OURS.issue(ID, ends=PAST),
    "two nodes": OURS.issue(ID, "spiffe://tollhouse/node/envoy-2"),
    "a node and an operator": OURS.issue(ID, "spiffe://tollhouse/operator/ada"),
    "a host that looks like a node": OURS.issue(x509.DNSName(ID)),
    "another trust domain": OURS.issue("spiffe://tollhouse.example/node/envoy-1"),
    "a server": OURS.issue(*SERVER),
    "another node": OURS.issue("spiffe://tollhouse/node/envoy-2"),
    "an operator": OURS.issue("spiffe://tollhouse/operator/ada"),
    "the node": OURS.issue(ID),
    "the node with a host": OURS.issue(ID, "envoy-1.example"),
}

SHUT_OUT = ("no certificate", "of another authority", "expired")
UNNAMED = ("two nodes", "a node and an operator", "a host that looks like a node", "another trust domain", "a server")

EXPECTED: dict[Access, dict[str, str]] = {
    Access.OPEN: dict.fromkeys(CREDENTIALS, "OK") | dict.fromkeys(SHUT_OUT, "UNAVAILABLE"),
    Access.NODE: dict.fromkeys(CREDENTIALS, "OK")
    | dict.fromkeys(SHUT_OUT, "UNAVAILABLE")
    | dict.fromkeys(UNNAMED, "UNAUTHENTICATED")
    | dict.fromkeys(("another node", "an operator"), "PERMISSION_DENIED"),
    Access.READER: dict.fromkeys(CREDENTIALS, "OK")
    | dict.fromkeys(SHUT_OUT, "UNAVAILABLE")
    | dict.fromkeys(UNNAMED, "UNAUTHENTICATED")
    | {"another node": "PERMISSION_DENIED"},
}
"""What becomes of a request in the name of envoy-1, by who sends it."""


def described() -> dict[str, Any]:
    """The request of every method of every service that Envoy's API and gRPC health describe, by the method's path."""
    names = [
        module.name.replace(".", "/").removesuffix("_pb2") + ".proto"
        for module in pkgutil.walk_packages(envoy.service.__path__, "envoy.service.")
        if ".v3." in module.name and module.name.endswith("_pb2") and importlib.import_module(module.name)
    ]
    pool = descriptor_pool.Default()
    services = [
        service
        for name in (*names, health_pb2.DESCRIPTOR.name)
        for service in pool.FindFileByName(name).services_by_name.values()
    ]
    return {
        f"/{service.full_name}/{method.name}": method.input_type for service in services for method in service.methods
    }


DESCRIBED = described()


def request(path: str) -> bytes:
    """A first request in the name of envoy-1. A service not described here has the methods of discovery."""
    variant = path.rpartition("/")[2]
    kind = (
        DESCRIBED.get(path) or (DeltaDiscoveryRequest if variant.startswith("Delta") else DiscoveryRequest).DESCRIPTOR
    )
    message = message_factory.GetMessageClass(kind)()
    if "node" in kind.fields_by_name:
        message.node.CopyFrom(Node(id="envoy-1", cluster="edge"))
    if path.startswith(f"/{ADS}/"):
        message.type_url = CLUSTER
    data: bytes = message.SerializeToString()
    return data


def files(folder: Path, pair: tuple[bytes, bytes] | None = None, ca: bytes = OURS.pem) -> ServerTls:
    """Each file replaced on its own, as most tools do it."""
    chain, key = pair or OURS.issue(*SERVER)
    found = ServerTls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
    for path, content in ((found.certificate, chain), (found.key, key), (found.client_ca, ca)):
        replace(path, content)
    return found


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


@asynccontextmanager
async def serving(hub: Hub, tls: ServerTls, **more: Any) -> AsyncIterator[AdsServer]:
    server = await start(hub, "127.0.0.1:0", tls=tls, **more)
    try:
        yield server
    finally:
        await server.stop(0)


LOCAL = [("grpc.use_local_subchannel_pool", 1)]


def presenting(pair: tuple[bytes, bytes] | None, roots: bytes = OURS.pem) -> Any:
    chain, key = pair or (None, None)
    return grpc.ssl_channel_credentials(roots, key, chain)


@asynccontextmanager
async def secure(port: int, pair: tuple[bytes, bytes] | None, roots: bytes = OURS.pem) -> AsyncIterator[Any]:
    async with grpc.aio.secure_channel(f"localhost:{port}", presenting(pair, roots), options=LOCAL) as channel:
        yield channel


async def verdicts(port: int, credentials: Any, requests: Mapping[str, bytes]) -> dict[str, str]:
    """The status of calls, by their path, that say one thing and hang up, if the server lets them."""

    def call(channel: Any, path: str) -> str:
        call = channel.stream_stream(path)(iter([requests[path]]), timeout=5)
        with suppress(grpc.RpcError):
            list(call)
        return str(call.code().name)

    def calls() -> dict[str, str]:
        target = f"localhost:{port}"
        made = grpc.secure_channel(target, credentials, LOCAL) if credentials else grpc.insecure_channel(target, LOCAL)
        with made as channel:
            return {path: call(channel, path) for path in requests}

    return await asyncio.to_thread(calls)  # gRPC's asyncio client may call INTERNAL what is refused while it writes


@pytest.fixture
def hub() -> Hub:
    made = Hub()
    made.publish(Snapshot.of(1, [cluster("c")]))
    return made


@pytest.mark.parametrize("who", CREDENTIALS)
async def test_s5_every_method_for_everybody(tmp_path: Path, who: str) -> None:
    requests = {path: request(path) for path in DESCRIBED.keys() | METHODS if not path.endswith("Health/Watch")}
    async with serving(Hub(), files(tmp_path)) as server:
        answers = await verdicts(server.port, presenting(CREDENTIALS[who]), requests)
    nobody = "UNAVAILABLE" if who in SHUT_OUT else "UNIMPLEMENTED"
    assert answers == {path: EXPECTED[METHODS[path]][who] if path in METHODS else nobody for path in answers}


def test_the_matrix_has_all_methods() -> None:
    offered = {path for path in METHODS if not path.startswith("/ratelimit.")}
    assert offered <= DESCRIBED.keys()
    assert len(DESCRIBED) > 40
    assert EXPECTED.keys() == set(Access)


@pytest.mark.parametrize("path", [path for path, access in METHODS.items() if access is Access.NODE])
async def test_r29_limits_hold_on_every_method(path: str) -> None:
    many = DeltaDiscoveryRequest if "/Delta" in path else DiscoveryRequest
    field = "resource_names_subscribe" if "/Delta" in path else "resource_names"
    asked = many.FromString(request(path))
    getattr(asked, field).extend(("a", "b", "c"))
    for options in (AdsOptions(limits=Limits(names=2)), AdsOptions(pace=Pace(request_bytes=20))):
        server = await start(Hub(), "127.0.0.1:0", options=options)
        answers = await verdicts(server.port, None, {path: asked.SerializeToString()})
        await server.stop(0)
        assert answers == {path: "RESOURCE_EXHAUSTED"}


async def test_s5_only_the_exact_path_of_a_method_is_one(tmp_path: Path) -> None:
    path = f"/{ADS}/StreamAggregatedResources"
    near = (path[1:], f"/{path}", f"{path}?", f"{path}/", f"/.{path}", path.replace("A", "%41"), path.lower())
    async with serving(Hub(), files(tmp_path)) as server:
        requests = dict.fromkeys((path, *near), request(path))
        answers = await verdicts(server.port, presenting(CREDENTIALS["the node"]), requests)
    assert answers == {path: "OK"} | dict.fromkeys(near, "UNIMPLEMENTED")


@pytest.mark.parametrize("kind", ["sotw", "delta"])
async def test_s5_a_node_stays_itself_on_its_stream(hub: Hub, tmp_path: Path, kind: Kind) -> None:
    async with serving(hub, files(tmp_path)) as server, secure(server.port, CREDENTIALS["the node"]) as channel:
        client = Client(channel, kind, node="envoy-1")
        await client.say(CLUSTER)
        await client.take()
        await client.call.write(client.request_type(type_url=CLUSTER, node=Node(id="envoy-2")))
        assert (await client.end())[0] == grpc.StatusCode.PERMISSION_DENIED
        assert [row.id for row in hub.board.rows] == ["envoy-1"]


async def test_s5_a_refused_client_is_logged_and_never_on_the_board(hub: Hub, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with serving(hub, files(tmp_path)) as server, secure(server.port, CREDENTIALS["an operator"]) as channel:
            client = Client(channel, "delta", node="envoy-1")
            assert (await client.end())[0] == grpc.StatusCode.PERMISSION_DENIED
    (line,) = [line for line in logs if line["event"] == "xds call refused"]
    assert (line["log_level"], line["method"]) == ("warning", f"/{ADS}/DeltaAggregatedResources")
    assert not hub.board.rows


def test_whose_certificate_it_is() -> None:
    assert identify([ID.encode()], "tollhouse") == Peer(node="envoy-1")
    assert identify([b"spiffe://d/operator/ada"], "d") == Peer(operator=True)
    for bad in ("node/", "node/a/b", "nodes/a", "operator/", "", "/node/a", "node", "node/\xff/"):
        with pytest.raises(Unnamed):
            identify([f"spiffe://tollhouse/{bad}".encode()], "tollhouse")
    for uri in (b"https://tollhouse/node/a", b"spiffe://tollhouse/node/a/../b", b"spiffe://tollhouse.evil/node/a", b""):
        with pytest.raises(Unnamed):
            identify([uri], "tollhouse")
    with pytest.raises(LookupError):
        caller()


def test_who_may_read_about_whom() -> None:
    assert Peer(node="a").may_read("a")
    assert not Peer(node="a").may_read("b")
    assert Peer(operator=True).may_read("b")
    assert Peer(local=True).may_read("b")
    assert not Peer().may_read("")


REFUSED = (ssl.SSLError, ConnectionResetError)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("newest", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
async def test_tls_is_1_2_or_more(hub: Hub, tmp_path: Path, newest: str) -> None:
    async with serving(hub, files(tmp_path)) as server:
        context = client_context(tmp_path, CREDENTIALS["the node"])
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion[newest]
        if newest == "TLSv1_1":
            with pytest.raises(REFUSED) as refused:
                await handshake(server.port, context)
            assert "NO_PROTOCOLS_AVAILABLE" not in str(refused.value), "the client itself would not"
        else:
            assert await handshake(server.port, context) == (newest.replace("_", "."), serial(tmp_path))


@pytest.mark.parametrize(
    ("suite", "good"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", False),
        ("ECDHE-ECDSA-AES128-SHA256", False),
        ("ECDHE-ECDSA-AES128-SHA", False),
        ("AES128-GCM-SHA256", False),
    ],
)
async def test_cipher_suites_of_tls_1_2(hub: Hub, tmp_path: Path, suite: str, good: bool) -> None:
    async with serving(hub, files(tmp_path)) as server:
        context = client_context(tmp_path, CREDENTIALS["the node"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
        if good:
            assert (await handshake(server.port, context))[0] == "TLSv1.2"
        else:
            with pytest.raises(REFUSED):
                await handshake(server.port, context)


def client_context(folder: Path, pair: tuple[bytes, bytes] | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=OURS.pem.decode())
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if pair is not None:
        both = folder / "client.pem"
        both.write_bytes(b"".join(pair))
        context.load_cert_chain(both)
    return context


async def handshake(port: int, context: ssl.SSLContext) -> tuple[str, int]:
    """TLS version, and the serial number of the server's certificate."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    connection = writer.get_extra_info("ssl_object")
    found = connection.version(), x509.load_der_x509_certificate(connection.getpeercert(True)).serial_number
    writer.transport.abort()
    return found


def serial(folder: Path) -> int:
    """The serial number of the certificate in the file."""
    return x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes()).serial_number


@pytest.mark.parametrize("spoil", ["key", "certificate", "client_ca"])
async def test_files_that_do_not_fit_leave_the_last_good_ones(hub: Hub, tmp_path: Path, spoil: str) -> None:
    tls = files(tmp_path)
    first = serial(tmp_path)
    context = client_context(tmp_path, CREDENTIALS["the node"])
    async with serving(hub, tls) as server:
        replace(getattr(tls, spoil), OURS.issue(*SERVER)[1] if spoil == "key" else b"half a fi")
        with capture_logs() as logs:
            assert (await handshake(server.port, context))[1] == first
            tls.key.unlink()
            assert (await handshake(server.port, context))[1] == first
        assert {line["event"] for line in logs} == {"xds certificates not replaced"}
        files(tmp_path)
        assert (await handshake(server.port, context))[1] == serial(tmp_path) != first


async def test_the_end_of_the_certificate_in_use_is_a_metric(hub: Hub, tmp_path: Path) -> None:
    registry, name = CollectorRegistry(), "gw_xds_certificate_expires_timestamp_seconds"
    ends = [NOW.replace(microsecond=0) + datetime.timedelta(days=days) for days in (1, 2)]
    pairs = [OURS.issue(*SERVER, ends=end) for end in ends]
    async with serving(hub, files(tmp_path, pairs[0]), registry=registry) as server:
        assert registry.get_sample_value(name, {"certificate": "server"}) == ends[0].timestamp()
        files(tmp_path, pairs[1])
        await handshake(server.port, client_context(tmp_path, CREDENTIALS["the node"]))
        assert registry.get_sample_value(name, {"certificate": "server"}) == ends[1].timestamp()


@pytest.mark.parametrize("spoil", ["key", "certificate", "client_ca"])
async def test_files_that_do_not_fit_are_refused_at_the_start(hub: Hub, tmp_path: Path, spoil: str) -> None:
    tls = files(tmp_path)
    replace(getattr(tls, spoil), OURS.issue(*SERVER)[1] if spoil == "key" else b"nothing")
    with pytest.raises(ValueError, match=r"tls\.|ca\.crt"):
        await start(hub, "127.0.0.1:0", tls=tls)


# ------------------------------------------------------------------------------------------------------------ rotation
ROTATIONS = size("ROTATIONS", 10)
HANDSHAKES = 100 * ROTATIONS
CLIENTS = 8


class Load:
    """Clients that connect, ask one thing and leave, over and over; `pair` and `roots` are what they come with."""

    def __init__(self, port: int, pair: tuple[bytes, bytes], roots: bytes = OURS.pem) -> None:
        self.port, self.pair, self.roots = port, pair, roots
        self.done = 0
        self.failed: list[str] = []

    async def run(self, count: int) -> None:
        await asyncio.gather(*(self._client(count // CLIENTS + 1) for _ in range(CLIENTS)))

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(120):
            while self.done < count:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.005)

    async def _client(self, count: int) -> None:
        for _ in range(count):
            async with secure(self.port, self.pair, self.roots) as channel:
                try:
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
                except grpc.aio.AioRpcError as error:
                    self.failed.append(str(error.details()))
            self.done += 1


def told(case: str, load: Load, rotations: int) -> None:
    failed = len(load.failed)
    record("R32", case=case, value=failed, passed=not failed, unit="failed", handshakes=load.done, rotations=rotations)


async def test_r32_rotated_certificates_lose_no_handshake(hub: Hub, tmp_path: Path) -> None:
    async with serving(hub, files(tmp_path)) as server:
        load = Load(server.port, OURS.issue(ID))
        running = asyncio.create_task(load.run(HANDSHAKES))
        seen = {serial(tmp_path)}
        context = client_context(tmp_path, load.pair)
        for turn in range(1, ROTATIONS + 1):
            await load.reached(turn * HANDSHAKES // (ROTATIONS + 1))
            files(tmp_path)
            seen.add((await handshake(server.port, context))[1])
        await running
    told("server certificates", load, ROTATIONS)
    assert load.failed == []
    assert load.done >= HANDSHAKES
    assert len(seen) == ROTATIONS + 1


async def test_r32_authorities_that_overlap_lose_no_handshake(hub: Hub, tmp_path: Path) -> None:
    """Both are trusted, then everybody changes, then the old one is not trusted any more."""
    old, new = Authority("Old"), Authority("New")
    server_pair = old.issue(*SERVER)
    tls = files(tmp_path, server_pair, old.pem)
    async with serving(hub, tls) as server:
        load = Load(server.port, old.issue(ID), old.pem)
        running = asyncio.create_task(load.run(HANDSHAKES // 2))
        share = HANDSHAKES // 10
        await load.reached(share)
        replace(tls.client_ca, old.pem + new.pem)
        load.roots = old.pem + new.pem
        await load.reached(2 * share)
        before, load.pair = load.pair, new.issue(ID)
        files(tmp_path, new.issue(*SERVER), old.pem + new.pem)
        await load.reached(3 * share)
        replace(tls.client_ca, new.pem)
        await running
        path = f"/{ADS}/DeltaAggregatedResources"
        assert await verdicts(server.port, presenting(before, new.pem), {path: b""}) == {path: "UNAVAILABLE"}
    told("authorities that overlap", load, 3)
    assert load.failed == []
