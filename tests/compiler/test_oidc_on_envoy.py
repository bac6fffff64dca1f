"""Logins on a real Envoy: a browser goes to its issuer and comes back with a session, and nobody else gets one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import yaml
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from prometheus_client import CollectorRegistry

from gateway.model import decode
from tests.ads import real_envoy
from tests.support.oidc import CLIENT_SECRET, OidcServer
from tests.support.upstream import Upstream
from xds_server.ads.hub import Hub
from xds_server.ads.server import start
from xds_server.compiler import HmacKey, Settings, compile  # noqa: A004
from xds_server.compiler.inline import bootstrap, without_secrets
from xds_server.resources import LISTENER, ROUTES, Snapshot

from . import golden
from .running import KEY, SECRETS, RunningGateway, claims

DOCUMENT = (Path(__file__).parent / "oidc.yaml").read_text()
SITE = "shop.example.com"
NAMES = {"id-token", "oauth-hmac", "oauth-expires"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[OidcServer]:
    with OidcServer("shop") as server:
        yield server


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, issuer: OidcServer) -> Iterator[RunningGateway]:
    secrets = {**SECRETS, "shop-secret": HmacKey(CLIENT_SECRET.encode() + b"\n")}
    with (
        Upstream() as echo,
        RunningGateway(
            tmp_path_factory.mktemp("oidc"), DOCUMENT, {"ECHO": echo.port, "ISSUER": issuer.port}, secrets
        ) as running,
    ):
        yield running


class Browser:
    """Keeps the site's cookies, as browsers do; it goes where it is sent only when told to."""

    def __init__(self, url: str) -> None:
        self.url, self.cookies = url, dict[str, str]()

    def get(self, url: str, method: str = "GET", **headers: str) -> httpx.Response:
        """`url` at the site, whatever its scheme and host."""
        parts = urlsplit(url)
        sent = {"host": SITE, **headers}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        with httpx.Client(base_url=self.url, timeout=20) as client:
            answer = client.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=sent)
        for line in answer.headers.get_list("set-cookie"):
            pair, _, attributes = line.partition(";")
            name, _, value = pair.partition("=")
            said = {one.strip().lower() for one in attributes.split(";")}
            if value == "deleted" or any("thu, 01 jan 1970" in one for one in said):
                self.cookies.pop(name, None)
            else:
                assert {"secure", "httponly", "samesite=lax"} <= said
                self.cookies[name] = value
        return answer

    def to_issuer(self, path: str) -> str:
        """Goes to the issuer and returns the URL that it sends back to."""
        sent = self.get(path)
        assert sent.status_code == 302, sent.text
        return str(httpx.get(sent.headers["location"]).headers["location"])

    def login(self, path: str = "/account/x?a=1") -> httpx.Response:
        back = self.get(self.to_issuer(path))
        assert (back.status_code, back.headers.get("location")) == (302, f"http://{SITE}{path}"), back.text
        return self.get(path)

    def cookie(self, word: str) -> str:
        return f"tollhouse-oidc-login-{word}"


@pytest.fixture
def browser(gateway: RunningGateway, issuer: OidcServer) -> Browser:
    issuer.id_token, issuer.refresh_token = token(), ""
    return Browser(gateway.url)


def token(**more: Any) -> str:
    return jwt.encode(claims(**more), KEY)


def test_a_browser_is_sent_to_the_issuer(browser: Browser) -> None:
    answer = browser.get("/account/x?a=1")
    assert answer.status_code == 302
    sent = urlsplit(answer.headers["location"])
    asked = {name: values[0] for name, values in parse_qs(sent.query).items()}
    assert sent.path == "/authorize"
    assert asked["redirect_uri"] == f"http://{SITE}/account/callback"
    assert (asked["client_id"], asked["scope"], asked["code_challenge_method"]) == ("shop", "openid", "S256")
    assert CLIENT_SECRET not in answer.headers["location"]


def test_a_login_makes_a_session(browser: Browser) -> None:
    browser.cookies = {"theme": "dark"}
    answer = browser.login()
    assert answer.status_code == 200
    seen = answer.json()["headers"]
    assert seen["x-user"] == "alice"
    assert answer.json()["path"] == "/account/x?a=1"
    assert {browser.cookie(name) for name in NAMES} <= browser.cookies.keys()
    assert browser.get("/both").json()["headers"]["x-user"] == "alice"


def test_upstreams_see_nothing_of_the_session(browser: Browser) -> None:
    browser.cookies = {"theme": "dark"}
    browser.login()
    browser.cookies["last"] = "1"
    seen = browser.get("/account").json()["headers"]
    assert set(seen["cookie"].split("; ")) - {""} == {"theme=dark", "last=1"}
    assert "authorization" not in seen
    del browser.cookies["theme"], browser.cookies["last"]
    assert "cookie" not in browser.get("/account").json()["headers"]


def test_the_token_is_sealed(browser: Browser, issuer: OidcServer) -> None:
    issuer.refresh_token = "not-a-real-refresh-token"
    browser.login()
    assert browser.cookie("refresh-token") in browser.cookies
    assert not {issuer.id_token, issuer.refresh_token, "opaque"} & set(browser.cookies.values())


def test_rules_hold_for_a_session(browser: Browser, issuer: OidcServer) -> None:
    browser.login()
    assert browser.get("/account/staff").status_code == 403
    issuer.id_token = token(staff=True)
    staff = Browser(browser.url)
    assert staff.login("/account/staff").status_code == 200


@pytest.mark.parametrize("word", sorted(NAMES))
def test_a_changed_cookie_is_no_session(browser: Browser, word: str) -> None:
    browser.login()
    name = browser.cookie(word)
    browser.cookies[name] = browser.cookies[name][:-6] + "AAAAAA"
    assert browser.get("/account").status_code in (302, 401)


def test_a_token_in_the_cookie_is_no_session(browser: Browser) -> None:
    browser.cookies[browser.cookie("id-token")] = token()
    assert browser.get("/account").status_code == 302
    assert browser.get("/api").status_code == 401


@pytest.mark.parametrize("change", [{"iss": "https://evil.example.com/"}, {"aud": "other"}, {"exp": 1}])
def test_a_token_that_the_provider_refuses_is_no_session(
    browser: Browser, issuer: OidcServer, change: dict[str, Any]
) -> None:
    issuer.id_token = token(**change)
    back = browser.get(browser.to_issuer("/account"))
    assert back.status_code == 302
    assert browser.get("/account").status_code in (302, 401, 403)


def test_a_login_that_was_not_begun_here_is_refused(browser: Browser) -> None:
    stolen = browser.to_issuer("/account")
    other = Browser(browser.url)
    assert other.get(stolen).status_code == 401
    assert other.get("/account").status_code == 302


def test_a_state_or_code_of_somebody_else_is_refused(browser: Browser) -> None:
    url = browser.to_issuer("/account")
    assert browser.get(url.replace("state=", "state=x")).status_code == 401
    assert browser.get("/account/callback").status_code == 401
    url = browser.to_issuer("/account")
    assert browser.get(url.replace("code=", "code=x")).status_code >= 400
    assert browser.get("/account").status_code == 302


def test_a_logout_ends_the_session(browser: Browser) -> None:
    browser.login()
    answer = browser.get("/account/logout")
    assert answer.status_code == 302
    assert not {browser.cookie(name) for name in NAMES} & browser.cookies.keys()
    assert browser.get("/account").status_code == 302


def test_a_session_is_refreshed(browser: Browser, issuer: OidcServer) -> None:
    issuer.refresh_token, before = "not-a-real-refresh-token", issuer.refreshed
    browser.login()
    browser.cookies[browser.cookie("oauth-expires")] = "1"
    assert browser.get("/account").json()["headers"]["x-user"] == "alice"
    assert issuer.refreshed == before + 1
    assert browser.get("/account").status_code == 200
    assert issuer.refreshed == before + 1


def test_what_is_no_page_is_not_sent_away(browser: Browser) -> None:
    assert browser.get("/account", "POST").status_code == 401
    browser.login()
    assert browser.get("/account", "POST").status_code == 200


def test_callers_with_a_token_need_no_login(browser: Browser) -> None:
    bearer = f"Bearer {token()}"
    answer = browser.get("/both", authorization=bearer)
    assert answer.json()["headers"]["x-user"] == "alice"
    assert "authorization" not in answer.json()["headers"]
    assert browser.get("/both", authorization="Bearer x.y.z").status_code == 401
    assert browser.get("/account", authorization=bearer).status_code == 302, "only a login is accepted there"


def test_other_routes_do_not_know_of_logins(browser: Browser) -> None:
    browser.login()
    assert browser.get("/api").status_code == 401
    assert browser.get("/open").status_code == 200


def test_a_check_of_the_document_sees_neither_secret() -> None:
    found = golden.compiled("oidc").messages
    keys = [
        m.generic_secret.secret.inline_bytes for m in found if isinstance(m, Secret) and m.HasField("generic_secret")
    ]
    static = bootstrap(without_secrets(found, golden.SITE)).SerializeToString()
    assert len(set(keys)) == 3, "logins of one secret have keys of their own"
    assert not any(key in static for key in keys)


async def test_a_new_client_secret_ends_all_sessions_and_changes_no_route(tmp_path: Path, issuer: OidcServer) -> None:
    """From a control plane: secrets come by SDS, and one that goes away closes what needs it."""
    issuer.id_token, issuer.refresh_token = token(), ""
    hub, settings = Hub(), Settings(listener_ports={"http": real_envoy.free_port()})

    def publish(revision: int, secret: str | None) -> Snapshot:
        found = SECRETS if secret is None else {**SECRETS, "shop-secret": HmacKey(secret.encode())}
        snapshot = Snapshot.of(revision, compile(document, settings, found, strict=True).messages)
        hub.publish(snapshot)
        return snapshot

    with Upstream() as echo:
        text = DOCUMENT.replace("ECHO", str(echo.port)).replace("ISSUER", str(issuer.port))
        document = decode(yaml.safe_load(text))
        server = await start(hub, "127.0.0.1:0", registry=CollectorRegistry())
        try:
            first = publish(1, "old")
            async with real_envoy.running("delta", server.port, tmp_path) as envoy:
                await envoy.port("http")
                browser = Browser(f"http://127.0.0.1:{settings.listener_ports['http']}")
                await until(browser, 302)
                assert (await asyncio.to_thread(browser.get, await back(browser))).status_code >= 400, "the wrong one"
                second = publish(2, CLIENT_SECRET)
                assert all(first.types[kind].version == second.types[kind].version for kind in (LISTENER, ROUTES))
                await logged_in(browser)
                publish(3, "another")
                await until(browser, 302)
                publish(4, None)
                await until(browser, 500)
                assert (await asyncio.to_thread(browser.get, "/open")).status_code == 200
        finally:
            await server.stop(0)


async def back(browser: Browser) -> str:
    return await asyncio.to_thread(browser.to_issuer, "/account")


async def logged_in(browser: Browser) -> None:
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(browser.get, "/account")).status_code != 200:
            await asyncio.to_thread(browser.get, await back(browser))


async def until(browser: Browser, status: int) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(status_of, browser) != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def status_of(browser: Browser) -> int:
    try:
        return browser.get("/account").status_code
    except httpx.TransportError:
        return 0
