"""TLS to upstreams on a real Envoy: whom it believes, by what names, and what it shows of itself."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.support.authority import Authority
from tests.support.upstream import Upstream
from xds_server.compiler import CaBundle, Certificate, Secret
from xds_server.secrets import SecretStore

from .golden import SITE, TLS
from .running import RunningGateway


class Secured(Upstream):
    """An echo that speaks TLS; `wanting` a certificate of its authority from the client."""

    def __init__(self, *, wanting: bool = False, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(TLS / "site.pem", TLS / "site.key")
        context.maximum_version = newest
        if wanting:
            context.load_verify_locations(TLS / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        self.context = context
        super().__init__()

    def get_request(self) -> tuple[ssl.SSLSocket, object]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Refused handshakes are what the tests are about."""


def document(ports: Mapping[str, int]) -> str:
    """With a route for each upstream at the path of its name."""
    text = (Path(__file__).parent / "upstream_tls.yaml").read_text()
    for word, port in ports.items():
        text = text.replace(f"port: {word}", f"port: {port}")
    found = yaml.safe_load(text)
    for name in found["upstreams"]:
        route = {"match": {"path": {"exact": f"/{name}"}}, "backends": [{"upstream": name}]}
        found["modules"]["m"]["routes"][name] = route
    return json.dumps(found)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("upstream-tls")
    others = Authority("Others")
    secrets: dict[str, Secret] = {
        "ca": CaBundle((TLS / "ca.pem").read_bytes()),
        "other-ca": CaBundle(others.pem),
        "tollhouse/system-ca": CaBundle((TLS / "ca.pem").read_bytes()),
        "site": SITE,
        "stranger": Certificate(*others.issue("site.example.com")),
    }
    with ExitStack() as stack:
        servers = {
            "MUTUAL": Secured(wanting=True),
            "PLAIN": Secured(),
            "OLD": Secured(newest=ssl.TLSVersion.TLSv1_2),
        }
        ports = {word: stack.enter_context(server).port for word, server in servers.items()}
        yield stack.enter_context(RunningGateway(directory, document(ports), {}, secrets))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("mutual", 200),
        ("unknown-client", 503),
        ("no-client", 503),
        ("no-such-client", 500),
        ("system", 200),
        ("other-authority", 503),
        ("wrong-name", 503),
        ("other-name", 200),
        ("wrong-sni", 503),
        ("old", 200),
        ("too-old", 503),
    ],
)
def test_both_sides_must_prove_who_they_are(gateway: RunningGateway, name: str, status: int) -> None:
    assert gateway.request(f"/{name}").status_code == status


def test_what_is_closed_says_where(gateway: RunningGateway) -> None:
    (problem,) = gateway.compiled.problems
    assert problem.path == ("upstreams", "no-such-client", "tls", "client_secret")


def test_every_store_has_the_authorities_that_browsers_trust(tmp_path: Path) -> None:
    (tmp_path / "tollhouse").mkdir()  # a directory is no secret, and a `/` in a name cannot come from a file
    found = SecretStore(tmp_path).read()
    assert set(found) == {"tollhouse/system-ca"}
    bundle = found["tollhouse/system-ca"]
    assert isinstance(bundle, CaBundle)
    assert bundle.pem.count(b"BEGIN CERTIFICATE") > 50
