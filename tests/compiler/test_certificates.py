"""What is told of certificates before callers notice it. The clock is an argument, so every day can be tried."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Gateway, decode
from tests.support.authority import NOW, Authority
from xds_server.compiler import CaBundle, Certificate, HmacKey, RevocationList, Secret
from xds_server.compiler.certificates import SOON, certificate_findings, covers
from xds_server.secrets import SecretStore

AUTHORITY = Authority()
DAY = datetime.timedelta(days=1)


def gateway(*hosts: str, **more: Any) -> Gateway:
    tls = {"certificates": [{"hosts": list(hosts), "secret": "site"}], **more}
    return decode({"version": 1, "listeners": {"edge": {"port": 8443, "protocol": "HTTPS", "tls": tls}}})


def said(
    found: Gateway, secrets: Mapping[str, Secret], now: datetime.datetime = NOW
) -> list[tuple[str, str, str | int]]:
    problems = certificate_findings(found, secrets, now)
    assert {problem.severity for problem in problems} <= {"warning"}
    return [(problem.code, problem.message, problem.path[-1]) for problem in problems]


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (-2, "the certificate 'site' is not valid before"),
        (0, ""),
        (300 - SOON.days - 1, ""),
        (300 - SOON.days + 1, "the certificate 'site' expires at"),
        (301, "the certificate 'site' expired at"),
    ],
)
def test_a_certificate_is_told_about_before_it_ends(days: int, message: str) -> None:
    found = said(gateway(), {"site": Certificate(*AUTHORITY.issue("a.example.com"))}, NOW + days * DAY)
    assert [(code, text[: len(message)], where) for code, text, where in found] == (
        [("GW610", message, "secret")] if message else []
    )


def test_one_that_lives_for_days_is_not_told_about_all_its_life() -> None:
    pair = Certificate(*AUTHORITY.issue("a.example.com", ends=NOW + 5 * DAY))  # and it began yesterday
    assert said(gateway(), {"site": pair}, NOW + 2 * DAY) == []
    assert [code for code, *_ in said(gateway(), {"site": pair}, NOW + 4 * DAY)] == ["GW610"]


def test_authorities_and_revocation_lists_end_as_well() -> None:
    found = gateway(client_validation={"ca_secret": "ca", "crl_secret": "crl"})
    secrets = {"ca": CaBundle(AUTHORITY.pem), "crl": RevocationList(AUTHORITY.revoking())}
    assert [(code, where) for code, _, where in said(found, secrets, NOW + 366 * DAY)] == [
        ("GW610", "ca_secret"),
        ("GW610", "crl_secret"),
    ]


def test_a_certificate_for_other_hosts() -> None:
    site = {"site": Certificate(*AUTHORITY.issue("a.example.com", "*.shop.example.com", "127.0.0.1"))}
    assert said(gateway("a.example.com", "b.shop.example.com", "*.shop.example.com", "*"), site) == []
    assert said(gateway("*.example.com", "shop.example.com", "a.b.shop.example.com"), site) == [
        ("GW611", f"the certificate 'site' is not for '{host}' but for a.example.com, *.shop.example.com", index)
        for index, host in enumerate(("*.example.com", "shop.example.com", "a.b.shop.example.com"))
    ]


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("a.example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("a.example.com", "*.example.com", False),
        ("*.example.com", "*.b.example.com", False),
    ],
)
def test_a_wildcard_stands_for_one_label(name: str, host: str, covered: bool) -> None:
    assert covers(name, host) is covered


@pytest.mark.parametrize(
    "secret", [None, HmacKey(b"k"), Certificate(b"no", b"no"), CaBundle(b"no"), RevocationList(b"")]
)
def test_what_cannot_be_read_is_the_compilers_to_report(secret: Secret | None) -> None:
    secrets = {} if secret is None else {"site": secret, "ca": secret, "crl": secret}
    found = gateway("a.example.com", client_validation={"ca_secret": "ca", "crl_secret": "crl"})
    assert said(found, secrets) == []


def test_a_revocation_list_is_a_secret_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "partners.crl").write_bytes(AUTHORITY.revoking())
    (tmp_path / "both.crl").write_bytes(b"")
    (tmp_path / "both.ca").write_bytes(b"")
    found = SecretStore(tmp_path).read()
    assert {name: type(secret) for name, secret in found.items() if "/" not in name} == {"partners": RevocationList}
