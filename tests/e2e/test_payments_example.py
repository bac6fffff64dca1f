"""examples/payments, the whole language in one file, on the whole stack: only addresses and ports are the test's."""

import re
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.authority import Authority, written
from tests.support.gateway import Gateway, free_port, until
from tests.support.issuer import Issuer
from tests.support.tokens import claims, sign
from tests.support.upstream import Upstream

EXAMPLE = Path(__file__).parents[2] / "examples" / "payments" / "gateway.yaml"
ISSUER = "https://id.example.com/"


class SecuredUpstream(Upstream):
    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(*certificate)
        super().__init__()

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


class Payments:
    """The example, running: its upstreams, its issuer, and clients of its HTTPS listener."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.authority, partners = Authority("Public"), Authority("Partners")
        self.issuer = stack.enter_context(Issuer())
        self.v1, self.v1_big, self.lab = (stack.enter_context(Upstream()) for _ in range(3))
        inside = Authority("Inside")
        self.v2 = stack.enter_context(
            SecuredUpstream(written(directory, "v2", inside.issue("payments-v2.internal", "localhost")))
        )
        store = directory / "state" / "secrets"
        store.mkdir(parents=True, mode=0o700)
        written(store, "api-example-com", self.authority.issue("api.example.com"))
        partner = written(directory, "partner", self.authority.issue("*.partner.example.com"))
        (store / "partner-ca.ca").write_bytes(partners.pem)
        (store / "internal-ca.ca").write_bytes(inside.pem)
        self.port = free_port()
        file = directory / "gateway.yaml"
        file.write_text(self.document(EXAMPLE.read_text(), partner))
        self.gateway = Gateway(directory / "state", file, options=("--no-demo",))
        stack.callback(self.gateway.close)
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        self.client = stack.enter_context(httpx.Client(verify=context, timeout=20))
        until(lambda: self.get("/ping").status_code == 200, what="/ping answers")

    def document(self, text: str, partner: tuple[Path, Path]) -> str:
        """The example with our addresses in the places of its own."""
        places = {
            "port: 443": f"port: {self.port}",
            "/etc/gw/tls/partner.crt": str(partner[0]),
            "/etc/gw/tls/partner.key": str(partner[1]),
            "{address: 10.0.1.10, port: 8080}": f"{{address: 127.0.0.1, port: {self.v1.port}}}",
            "{address: 10.0.1.11, port: 8080,": f"{{address: 127.0.0.1, port: {self.v1_big.port},",
            "host: payments-v2.internal\n    port: 8443": f"host: localhost\n    port: {self.v2.port}",
            "alpn: [h2]": "alpn: [http/1.1]",
            "host: shadow.internal\n    port: 8080": f"host: localhost\n    port: {self.lab.port}",
            "https://id.example.com/.well-known/jwks.json": self.issuer.uri,
            "203.0.113.0/24": "127.0.0.0/8",
        }
        for theirs, ours in places.items():
            assert theirs in text, theirs
            text = text.replace(theirs, ours)
        return text

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        found = {name.replace("_", "-"): value for name, value in headers.items()} | {"host": "api.example.com"}
        url = f"https://127.0.0.1:{self.port}{path}"
        return self.client.request(method, url, headers=found, extensions={"sni_hostname": "api.example.com"})

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, **headers)

    def bearer(self, **more: Any) -> str:
        kid, key = next(iter(self.issuer.keys.items()))
        return f"Bearer {sign(key, 'ES256', claims(ISSUER, aud='payments-api', **more), kid=kid)}"


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payments]:
    with ExitStack() as stack:
        yield Payments(own_directory(stack), stack)


def own_directory(stack: ExitStack) -> Path:
    """Not below pytest's base directory, which PostgreSQL's user may not enter when the tests run as root."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-payments-")))


def test_the_plain_listener_redirects_to_https(payments: Payments) -> None:
    answer = payments.gateway.get("/v1/payments", host="api.example.com")
    assert answer.status_code == 301
    assert answer.headers["location"].startswith("https://api.example.com")


def test_open_routes_answer_themselves(payments: Payments) -> None:
    assert payments.get("/ping").text == "pong"
    moved = payments.get("/old/things?a=1")
    assert (moved.status_code, httpx.URL(moved.headers["location"]).path) == (308, "/v1/things")


def test_each_name_has_its_certificate(payments: Payments) -> None:
    with socket_to(payments, "x.partner.example.com") as partner, socket_to(payments, "api.example.com") as api:
        assert ("DNS", "*.partner.example.com") in partner.getpeercert()["subjectAltName"]
        assert ("DNS", "api.example.com") in api.getpeercert()["subjectAltName"]


def socket_to(payments: Payments, name: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cadata=payments.authority.pem.decode())
    return context.wrap_socket(socket.create_connection(("127.0.0.1", payments.port), timeout=10), server_hostname=name)


def test_a_free_caller_may_list_payments(payments: Payments) -> None:
    answer = payments.get("/v1/payments?status=open", authorization=payments.bearer(plan="free", scope="payments:read"))
    assert answer.status_code == 200
    seen = answer.json()
    assert seen["headers"]["x-user-id"] == "u1"
    assert "x-powered-by" not in answer.headers
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert re.match(r'"free-minute";r=\d+;t=\d+', answer.headers["ratelimit"])


def test_a_part_goes_to_the_new_version_and_a_tenth_is_mirrored(payments: Payments) -> None:
    token = payments.bearer(sub="many", plan="internal", scope="payments:read")
    ports = [payments.get("/v1/payments", authorization=token).headers["x-port"] for _ in range(150)]
    assert set(ports) == {str(one.port) for one in (payments.v1, payments.v1_big, payments.v2)}
    assert ports.count(str(payments.v2.port)) < 50
    until(lambda: payments.lab.seen, what="a mirrored request")
    assert all(seen["path"].startswith("/v1/payments") for seen in payments.lab.seen)


@pytest.mark.parametrize(
    ("query", "status"), [("?status=open", 200), ("?status=paid", 200), ("?status=lost", 404), ("", 200)]
)
def test_a_query_that_is_there_must_fit(payments: Payments, query: str, status: int) -> None:
    token = payments.bearer(sub="queries", plan="gold", scope="payments:read")
    assert payments.get(f"/v1/payments{query}", authorization=token).status_code == status


def test_an_api_key_is_as_good_and_never_reaches_the_upstream(payments: Payments) -> None:
    key = payments.gateway.key("free", "partner-key", "--scope", "payments:read")
    answer = payments.get("/v1/payments/p_1", x_api_key=key)
    assert answer.status_code == 200
    assert "x-api-key" not in answer.json()["headers"]
    assert answer.json()["headers"]["x-client-id"]


def test_who_has_no_credential_or_no_scope_is_told_so(payments: Payments) -> None:
    assert payments.get("/v1/payments").status_code == 401
    assert payments.get("/v1/payments", authorization=payments.bearer(plan="free")).status_code == 403


def test_creating_wants_json_and_the_write_scope_and_is_limited(payments: Payments) -> None:
    writer = payments.bearer(sub="writer", plan="internal", scope="payments:write")
    plain = payments.ask("POST", "/v1/payments", authorization=writer)
    assert plain.status_code == 404  # no route takes a POST of anything else
    typed = {"authorization": writer, "content_type": "application/json; charset=utf-8"}
    statuses = [payments.ask("POST", "/v1/payments", **typed).status_code for _ in range(25)]
    assert statuses[0] == 200
    assert 429 in statuses


def test_a_refund_is_rewritten_and_wants_scope_organisation_and_address(payments: Payments) -> None:
    good = {"plan": "gold", "scope": "payments:refund", "org": "acme", "email_verified": True}
    answer = payments.ask("POST", "/v1/payments/p_1/refunds", authorization=payments.bearer(**good))
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert (seen["path"], seen["headers"]["host"]) == ("/internal/refund/p_1", "payments-v2.internal")
    for wrong in ({"scope": "payments:read"}, {"org": "umbrella"}, {"email_verified": False}, {"plan": "free"}):
        refused = payments.ask("POST", "/v1/payments/p_1/refunds", authorization=payments.bearer(**(good | wrong)))
        assert refused.status_code == 403, wrong


def test_a_regex_route_reaches_a_discovered_service(payments: Payments) -> None:
    """It has no endpoints: the route is found, and the answer is that nobody is there."""
    token = payments.bearer(sub="exporter", plan="gold")
    assert payments.get("/v1/payments/export/2026-11", authorization=token).status_code == 503
    assert payments.get("/v1/payments/export/2026-1", authorization=token).status_code == 404


def test_preflights_are_answered_without_credentials(payments: Payments) -> None:
    asking = {"origin": "https://app.example.com", "access_control_request_method": "POST"}
    answer = payments.ask("OPTIONS", "/v1/payments", **asking)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_an_issuer_that_is_down_hurts_nobody_with_a_token(payments: Payments) -> None:
    payments.issuer.status = 500
    token = payments.bearer(plan="gold", scope="payments:read", exp=int(time.time()) + 300)
    assert payments.get("/v1/payments", authorization=token).status_code == 200
    payments.issuer.status = 200
