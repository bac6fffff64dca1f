"""TLS on both sides: listeners with certificates by host, and upstreams that must prove who they are.

The upstreams are the HTTPS listener of the same gateway, reached over TLS.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gwctl.up.process import free_port

from .golden import SECRETS, TLS
from .running import RunningGateway

DOCUMENT = (Path(__file__).parent / "tls.yaml").read_text()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    port = free_port()
    directory = tmp_path_factory.mktemp("tls")
    with RunningGateway(directory, DOCUMENT, {"HTTPS_PORT": port}, SECRETS, ports={"https": port}) as running:
        yield running


def trusting(**options: object) -> httpx.Client:
    context = ssl.create_default_context(cafile=TLS / "ca.pem")
    for name, value in options.items():
        setattr(context, name, value)
    return httpx.Client(verify=context, timeout=20)


def get(gateway: RunningGateway, name: str, **options: object) -> httpx.Response:
    """A request to the HTTPS listener by server name."""
    with trusting(**options) as client:
        url = f"https://127.0.0.1:{gateway.ports['https']}/"
        return client.get(url, headers={"host": name}, extensions={"sni_hostname": name})


@pytest.mark.parametrize("name", ["api.example.com", "a.shop.example.com"])
def test_a_certificate_serves_its_hosts(gateway: RunningGateway, name: str) -> None:
    assert get(gateway, name).text == "hello"


def test_other_hosts_get_no_connection(gateway: RunningGateway) -> None:
    with pytest.raises(httpx.TransportError):
        get(gateway, "localhost")


def test_older_versions_get_no_connection(gateway: RunningGateway) -> None:
    with pytest.raises(httpx.TransportError):
        get(gateway, "api.example.com", maximum_version=ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/itself", 200), ("/negotiated", 200), ("/misnamed", 503), ("/not-covered", 503), ("/distrusted", 500)],
)
def test_an_upstream_must_prove_its_name(gateway: RunningGateway, path: str, status: int) -> None:
    assert gateway.request(path).status_code == status


def test_a_listener_that_redirects_everything(gateway: RunningGateway) -> None:
    url = f"http://localhost:{gateway.ports['redirecting']}/a?b=c"
    answer = httpx.post(url)
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost:8443/a?b=c")
