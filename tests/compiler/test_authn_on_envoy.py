"""Every way to authenticate on a real Envoy with the real decision service: who is let in, and what upstreams see."""

import base64
import datetime
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import yaml
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.model import decode
from gateway.passwords import MEMORY_COST, PARALLELISM, TIME_COST
from tests.support.upstream import Upstream
from xds_server.compiler import CaBundle, Secret
from xds_server.throwaway import self_signed

from .golden import SITE
from .real_decisions import RealDecisions
from .running import KEY, SECRETS, RunningGateway, claims

DOCUMENT = (Path(__file__).parent / "authn.yaml").read_text()
PASSWORD = "correct horse: battery staple"


class Authority:
    """Issues client certificates."""

    def __init__(self) -> None:
        self.pem, self.key_pem = self_signed("clients")
        self.key: Any = serialization.load_pem_private_key(self.key_pem, None)

    def issue(self, directory: Path, name: str, *names: x509.GeneralName) -> tuple[str, str]:
        """Certificate and key files."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.load_pem_x509_certificate(self.pem).subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        files = directory / f"{name}.pem", directory / f"{name}.key"
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        files[0].write_bytes(certificate.public_bytes(pem))
        files[1].write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return str(files[0]), str(files[1])


AUTHORITY = Authority()
OTHER = {"key": KEY[::-1], "iss": "https://other.example.com/"}


@pytest.fixture(scope="module")
def echo() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secrets")
    hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)
    (directory / "people").write_text(f"# who may\nalice:{hasher.hash(PASSWORD)}\nbad line\nmallory:plaintext\n")
    return directory


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[RealDecisions]:
    with RealDecisions(store) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, echo: Upstream, service: RealDecisions
) -> Iterator[RunningGateway]:
    service.view(decode(yaml.safe_load(DOCUMENT.replace("ECHO", "1"))))
    secrets: dict[str, Secret] = {**SECRETS, "site": SITE, "client-ca": CaBundle(AUTHORITY.pem)}
    directory = tmp_path_factory.mktemp("authn")
    decisions = (("127.0.0.1", service.port),)
    with RunningGateway(directory, DOCUMENT, {"ECHO": echo.port}, secrets, decisions) as running:
        wait_connected(running)
        yield running


def wait_connected(running: RunningGateway) -> None:
    deadline = time.monotonic() + 20
    while running.request("/any").status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def key(service: RealDecisions) -> str:
    return service.keys.make("c_partner", "free", ("read",))


def token(key: bytes = KEY, **more: Any) -> str:
    return jwt.encode(claims(**more), key)


def basic(user: str = "alice", password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def seen(response: httpx.Response) -> dict[str, str]:
    """The headers that the upstream got."""
    assert response.status_code == 200, response.text
    found: dict[str, str] = response.json()["headers"]
    return found


# --------------------------------------------------------------------------------------------------- where a key may be
@pytest.mark.parametrize("place", ["header", "query", "cookie"])
def test_a_key_works_from_each_of_its_places_and_goes_no_further(gateway: RunningGateway, key: str, place: str) -> None:
    headers = {"header": {"x-api-key": key}, "cookie": {"cookie": f"a=1; api_key={key}; b=2"}}.get(place, {})
    path = f"/any?a=1&api_key={key}&b=%2F" if place == "query" else "/any?a=1&b=%2F"
    answer = gateway.client.get(path, headers=headers)
    assert seen(answer)["x-client-id"] == "c_partner"
    assert key not in answer.text
    assert answer.json()["path"] == "/any?a=1&b=%2F"
    assert seen(answer).get("cookie") == ("a=1; b=2" if place == "cookie" else None)


def test_a_cookie_that_is_only_a_key_is_taken_off_whole(gateway: RunningGateway, key: str) -> None:
    assert "cookie" not in seen(gateway.request("/any", cookie=f"api_key={key}"))


def test_other_cookies_are_passed_on(gateway: RunningGateway, key: str) -> None:
    assert seen(gateway.request("/any", x_api_key=key, cookie="a=1;b=2"))["cookie"] == "a=1;b=2"


@pytest.mark.parametrize("path", ["/any?api_key=KEY&api_key=KEY", "/any?api_key=", "/any?api_key=nonsense"])
def test_bad_keys_in_the_query(gateway: RunningGateway, key: str, path: str) -> None:
    assert gateway.request(path.replace("KEY", key)).status_code == 401


def test_keys_in_two_places_are_too_many(gateway: RunningGateway, key: str) -> None:
    assert gateway.request(f"/any?api_key={key}", x_api_key=key).status_code == 401


# ----------------------------------------------------------------------------------------------------------- passwords
def test_a_password(gateway: RunningGateway) -> None:
    for _ in range(2):  # the second time from memory
        headers = seen(gateway.request("/any", authorization=basic(), x_user="forged"))
        assert headers["x-user"] == "alice"
        assert "authorization" not in headers


@pytest.mark.parametrize(
    "value",
    [
        basic(password="wrong"),
        basic("bob"),
        basic("mallory", "plaintext"),
        basic("alice", ""),
        basic("", PASSWORD),
        "Basic",
        "Basic !",
        "basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        basic("alice", "x" * 2000),
        f"{basic()}, {basic()}",
    ],
    ids=range(11),
)
@pytest.mark.parametrize("path", ["/any", "/optional"])
def test_bad_passwords(gateway: RunningGateway, value: str, path: str) -> None:
    answer = gateway.request(path, authorization=value)
    assert answer.status_code == 401
    assert 'Basic realm="tollhouse"' in answer.headers["www-authenticate"]
    assert PASSWORD not in answer.text


def test_a_password_is_no_longer_right_when_the_file_says_so(gateway: RunningGateway, store: Path) -> None:
    file = store / "people"
    before = file.read_text()
    assert gateway.request("/any", authorization=basic()).status_code == 200
    file.write_text("# nobody\n")
    deadline = time.monotonic() + 20
    while gateway.request("/any", authorization=basic()).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gateway.request("/any", authorization=basic()).status_code == 401
    file.write_text(before)
    while gateway.request("/any", authorization=basic()).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gateway.request("/any", authorization=basic()).status_code == 200


def test_users_that_are_not_there_let_nobody_in(gateway: RunningGateway) -> None:
    assert gateway.request("/missing", authorization=basic()).status_code == 503
    assert gateway.request("/missing").status_code == 401


# ------------------------------------------------------------------------------------------------------------ optional
def test_who_shows_nothing_is_nobody(gateway: RunningGateway, key: str) -> None:
    headers = seen(gateway.request("/optional", x_client_id="forged", x_user="forged"))
    assert not {"x-client-id", "x-user"} & headers.keys()
    assert seen(gateway.request("/optional", x_api_key=key))["x-client-id"] == "c_partner"
    assert seen(gateway.request("/optional", token=token()))
    assert seen(gateway.request("/optional", authorization=basic()))["x-user"] == "alice"


@pytest.mark.parametrize("path", ["/optional", "/maybe"])
def test_a_bad_credential_is_refused_where_none_would_do(gateway: RunningGateway, path: str) -> None:
    for bad in (token(KEY * 2), token(exp=1), token(**OTHER), "x.y.z", token(sub="")):
        assert gateway.request(path, token=bad).status_code == 401
    assert gateway.request("/optional", x_api_key="nonsense").status_code == 401


def test_nobody_has_no_scopes_and_the_lowest_tier(gateway: RunningGateway, key: str) -> None:
    assert gateway.request("/scoped").status_code == 403
    assert gateway.request("/scoped", token=token(scope="read")).status_code == 200
    assert gateway.request("/scoped", x_api_key=key).status_code == 200
    assert gateway.request("/gold").status_code == 403
    assert gateway.request("/gold", token=token(plan="gold")).status_code == 200


def test_nobody_is_counted_by_address(gateway: RunningGateway) -> None:
    assert [gateway.request("/maybe").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert gateway.request("/maybe", token=token(sub="carol")).status_code == 200


# ------------------------------------------------------------------------------------------------------------- several
@pytest.mark.parametrize("path", ["/token-and-key", "/key-and-token"])
def test_a_token_and_a_key(gateway: RunningGateway, key: str, path: str) -> None:
    headers = seen(gateway.request(path, token=token(), x_api_key=key))
    assert headers["x-client-id"] == "c_partner"
    assert "x-api-key" not in headers
    for given in ({"token": token()}, {"x_api_key": key}, {}, {"token": token(KEY * 2), "x_api_key": key}):
        assert gateway.request(path, **given).status_code == 401
    assert gateway.request(path, token=token(), x_api_key="nonsense").status_code == 401


def test_two_tokens(gateway: RunningGateway) -> None:
    good = {"token": token(), "x_token": token(**OTHER)}
    assert gateway.request("/two-tokens", **good).status_code == 200
    for name in good:
        assert gateway.request("/two-tokens", **{name: good[name]}).status_code == 401
        assert gateway.request("/two-tokens", **good | {name: token(KEY * 2)}).status_code == 401
    assert gateway.request("/two-tokens", token=token(), x_token=token()).status_code == 401


def test_any_of_several(gateway: RunningGateway, key: str) -> None:
    assert gateway.request("/any", x_token=token(**OTHER)).status_code == 200
    assert gateway.request("/any", token=token()).status_code == 200
    refused = gateway.request("/any")
    assert refused.status_code == 401
    assert [part.split()[0] for part in refused.headers["www-authenticate"].split(", ")] == [
        "Bearer",
        "ApiKey",
        "Basic",
    ]
    assert json.loads(refused.text)["detail"] == "Credentials are required."


# -------------------------------------------------------------------------------------------------- client certificates
def tls(gateway: RunningGateway, path: str, files: tuple[str, str] | None = None, **headers: str) -> httpx.Response:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(*files)
    with httpx.Client(verify=context, timeout=20) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.get(f"https://127.0.0.1:{gateway.ports['https']}{path}", headers=named)


@pytest.mark.parametrize(
    ("names", "peer"),
    [
        ((x509.UniformResourceIdentifier("spiffe://example.com/billing"),), "spiffe://example.com/billing"),
        ((x509.DNSName("x.example.com"), x509.DNSName("Client.example.com")), "Client.example.com"),
        ((x509.DNSName("other.example.com"), x509.UniformResourceIdentifier("spiffe://example.org/")), None),
        ((x509.RFC822Name("client.example.com"),), None),
    ],
)
def test_certificates(
    gateway: RunningGateway, tmp_path: Path, names: tuple[x509.GeneralName, ...], peer: str | None
) -> None:
    files = AUTHORITY.issue(tmp_path, "client", *names)
    answer = tls(gateway, "/peer", files, x_peer="forged")
    if peer is None:
        assert answer.status_code == 401
        assert tls(gateway, "/peer-and-token", files, authorization=f"Bearer {token()}").status_code == 401
        return
    assert seen(answer)["x-peer"] == peer
    both = tls(gateway, "/peer-and-token", files, authorization=f"Bearer {token()}")
    assert seen(both)["x-peer"] == peer
    assert tls(gateway, "/peer-and-token", files).status_code == 401


def test_without_a_certificate(gateway: RunningGateway, key: str) -> None:
    assert tls(gateway, "/peer").status_code == 401
    assert tls(gateway, "/peer", x_api_key=key).status_code == 403, "a key of another tier, without the scope"
    assert tls(gateway, "/peer-and-token", authorization=f"Bearer {token()}").status_code == 401
    assert gateway.request("/uncovered").status_code == 401, "a listener that verifies none"
    forged = {"x_forwarded_client_cert": 'By=spiffe://a;Hash=x;URI="spiffe://example.com/billing"'}
    assert gateway.request("/uncovered", **forged).status_code == 401
    assert tls(gateway, "/peer", **forged).status_code == 401


def test_a_certificate_of_somebody_else_gets_no_connection(gateway: RunningGateway, tmp_path: Path) -> None:
    files = Authority().issue(tmp_path, "stranger", x509.UniformResourceIdentifier("spiffe://example.com/billing"))
    with pytest.raises(httpx.TransportError):
        tls(gateway, "/peer", files)
