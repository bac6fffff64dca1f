"""What callers meet at a listener: which certificate, who may come in, HTTP/3, and the limits of its own."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.support import http3
from tests.support.authority import Authority, written
from tests.support.upstream import Upstream
from xds_server.compiler import CaBundle, Certificate, HmacKey, RevocationList

from .running import KEY, RunningGateway

DOCUMENT = (Path(__file__).parent / "listeners.yaml").read_text()
HOSTS = ("api.example.com", "*.shop.example.com", "node.example.com", "127.0.0.1")


class Running:
    """The gateway with everybody who calls it: `pairs` are clients' certificates, files by name."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.authority, self.clients, stranger = Authority(), Authority("Clients"), Authority("Clients")
        issued = {
            "partner": self.clients.issue("spiffe://example.com/partners/acme", "acme.example.com"),
            "named": self.clients.issue("it.partner.example.com"),
            "misnamed": self.clients.issue("spiffe://example.com/strangers/acme"),
            "revoked": self.clients.issue("spiffe://example.com/partners/gone"),
            "stranger": stranger.issue("spiffe://example.com/partners/acme"),
        }
        self.pairs = {name: written(directory, name, pair) for name, pair in issued.items()}
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.authority.pem)
        cert_file, key_file = written(directory, "node", self.authority.issue("node.example.com"))
        secrets = {
            "site": Certificate(*self.authority.issue(*HOSTS)),
            "other": Certificate(*self.authority.issue("api.example.com")),
            "clients": CaBundle(self.clients.pem),
            "revoked": RevocationList(self.clients.revoking([issued["revoked"][0]])),
            "acme-key": HmacKey(KEY),
        }
        document = DOCUMENT.replace("CERT_FILE", str(cert_file)).replace("KEY_FILE", str(key_file))
        self.gateway = RunningGateway(directory, document, {"UPSTREAM_PORT": upstream.port}, secrets)
        self.ports = self.gateway.ports

    def context(self, client: str | None = None, **options: Any) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if client is not None:
            context.load_cert_chain(*self.pairs[client])
        for name, value in options.items():
            setattr(context, name, value)
        return context

    def get(
        self, listener: str, path: str = "/", client: str | None = None, name: str = "api.example.com", **headers: str
    ) -> httpx.Response:
        found = {key.replace("_", "-"): value for key, value in headers.items()} | {"host": name}
        with httpx.Client(verify=self.context(client), timeout=20) as session:
            url = f"https://127.0.0.1:{self.ports[listener]}{path}"
            return session.get(url, headers=found, extensions={"sni_hostname": name})

    def handshake(self, listener: str, name: str | None, context: ssl.SSLContext) -> ssl.SSLSocket:
        connection = socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=20)
        return context.wrap_socket(connection, server_hostname=name)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Upstream() as upstream:
        running = Running(tmp_path_factory.mktemp("listeners"), upstream)
        with running.gateway:
            yield running


def names(connection: ssl.SSLSocket) -> list[str]:
    """The hosts that the server's certificate is for."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("listener", "name", "served"),
    [
        ("edge", "api.example.com", "*.shop.example.com"),
        ("edge", "a.shop.example.com", "*.shop.example.com"),
        ("edge", "node.example.com", "node.example.com"),
        ("anyone", "api.example.com", "api.example.com"),
        ("anyone", "node.example.com", "*.shop.example.com"),
    ],
)
def test_the_server_name_chooses_the_certificate(running: Running, listener: str, name: str, served: str) -> None:
    with running.handshake(listener, name, running.context()) as connection:
        assert served in names(connection)


def test_without_a_server_name_there_is_the_certificate_for_all_hosts_or_none(running: Running) -> None:
    anonymous = running.context(check_hostname=False)
    with running.handshake("anyone", None, anonymous) as connection:
        assert "*.shop.example.com" in names(connection)
    with pytest.raises(OSError, match=r"(?i)eof|reset"):
        running.handshake("edge", None, anonymous)


def test_what_is_missing_closes_its_own_and_nothing_else(running: Running) -> None:
    """A certificate its hosts; what clients are checked with the whole listener, for nobody comes in unchecked."""
    codes = [(problem.code, problem.path[1]) for problem in running.gateway.compiled.problems]
    assert codes == [("GW602", "edge"), ("GW602", "closed")]
    with pytest.raises(httpx.TransportError):
        running.get("edge", name="gone.example.com")
    with pytest.raises(httpx.ConnectError):
        running.get("closed")


@pytest.mark.parametrize(
    ("cipher", "taken"), [("ECDHE-ECDSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-AES128-GCM-SHA256", False)]
)
def test_only_the_named_ciphers_are_taken(running: Running, cipher: str, taken: bool) -> None:
    context = running.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    if taken:
        with running.handshake("anyone", "api.example.com", context) as connection:
            assert connection.cipher() is not None
    else:
        with pytest.raises(ssl.SSLError):
            running.handshake("anyone", "api.example.com", context)


@pytest.mark.parametrize(("listener", "protocol"), [("edge", "h2"), ("anyone", "http/1.1")])
def test_the_protocol_is_negotiated(running: Running, listener: str, protocol: str) -> None:
    context = running.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with running.handshake(listener, "api.example.com", context) as connection:
        assert connection.selected_alpn_protocol() == protocol


async def test_http_3(running: Running) -> None:
    port, authority = running.ports["edge"], running.authority.pem
    answer = await http3.get(port, "api.example.com", "/hello", authority)
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    answer = await http3.get(port, "node.example.com", "/hello", authority)
    assert answer.status == 200, "by server name, as over TCP"
    assert (await http3.get(port, "api.example.com", "/a;b", authority)).status == 403
    forged = {"x-forwarded-client-cert": "Hash=00", "x-original-url": "/"}
    answer = await http3.get(port, "api.example.com", "/echo", authority, forged)
    assert answer.status == 200
    assert not forged.keys() & json.loads(answer.body)["headers"].keys()


async def test_there_is_no_http_3_for_other_hosts(running: Running) -> None:
    with pytest.raises((TimeoutError, ConnectionError)):
        await http3.get(running.ports["edge"], "localhost", "/hello", running.authority.pem, seconds=1)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/hello", 200), ("/own", 200), ("/none", 404), ("/closed", 401), ("/a;b", 403), ("/a%2Fb", 400)],
)
def test_every_answer_tells_of_https_and_http_3(running: Running, path: str, status: int) -> None:
    answer = running.get("edge", path)
    assert answer.status_code == status
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    assert answer.headers["alt-svc"] == f'h3=":{running.ports["edge"]}"; ma=86400'


def told(answer: httpx.Response) -> str | None:
    """What the upstream heard about the client's certificate."""
    assert answer.status_code == 200
    found: str | None = answer.json()["headers"].get("x-forwarded-client-cert")
    return found


@pytest.mark.parametrize("listener", ["edge", "guests"])
def test_nobody_can_write_who_they_are(running: Running, listener: str) -> None:
    assert told(running.get(listener, "/echo", x_forwarded_client_cert="Hash=00;URI=spiffe://example.com/root")) is None


@pytest.mark.parametrize("listener", ["guests", "partners"])
def test_upstreams_are_told_the_name_in_a_verified_certificate(running: Running, listener: str) -> None:
    said = told(
        running.get(listener, client="partner", x_forwarded_client_cert="Hash=00;URI=spiffe://example.com/root")
    )
    assert said is not None
    assert "root" not in said
    assert "URI=spiffe://example.com/partners/acme;DNS=acme.example.com" in said


def test_a_certificate_of_another_name_of_the_right_kind(running: Running) -> None:
    assert "it.partner.example.com" in (told(running.get("partners", client="named")) or "")


@pytest.mark.parametrize("client", [None, "misnamed", "revoked", "stranger"])
def test_nobody_else_comes_in(running: Running, client: str | None) -> None:
    with pytest.raises(httpx.TransportError):
        running.get("partners", client=client)


def test_a_guest_with_a_bad_certificate_is_no_guest(running: Running) -> None:
    with pytest.raises(httpx.TransportError):
        running.get("guests", client="stranger")


def test_limits_of_its_own(running: Running) -> None:
    assert running.get("anyone").status_code == 200
    assert running.get("anyone", large="x" * 5000).status_code == 431
    assert running.get("edge", "/hello", large="x" * 5000).status_code == 200
    many = {f"x{index}": "1" for index in range(30)}
    assert running.get("anyone", **many).status_code == 431
    assert running.get("edge", "/hello", **many).status_code == 200


def test_an_escaped_slash_leads_to_a_plain_one(running: Running) -> None:
    answer = running.get("anyone", "/a%2Fb")
    assert (answer.status_code, answer.headers["location"]) == (307, "/a/b")


def test_headers_that_do_not_come(running: Running) -> None:
    with running.handshake("anyone", "api.example.com", running.context()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: api.example.com\r\n")
        assert b" 408 " in connection.recv(65536)
