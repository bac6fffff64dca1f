"""A certificate that runs out is told of: when it is applied, and every day after that."""

import datetime

import pytest

from admin import status
from tests.admin.conftest import Api
from tests.support.authority import NOW, Authority, written

DOCUMENT = """
version: 1
listeners:
  edge:
    port: 8443
    protocol: HTTPS
    tls: {certificates: [{hosts: [api.example.com], secret: site}]}
"""


async def test_apply_and_status_tell_of_a_certificate(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    written(api.secrets, "site", Authority().issue("other.example.com"))
    applied = await api.applied(DOCUMENT)
    assert [(found["code"], found["line"]) for found in applied["problems"]] == [("GW611", 7)]
    await api.published(applied["revision"])
    assert [found["code"] for found in await problems(api)] == ["GW611"]

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp((NOW + datetime.timedelta(days=290)).timestamp(), tz)

    monkeypatch.setattr(status, "datetime", Later)
    found = await problems(api)
    assert [(one["code"], one["severity"], one["line"]) for one in found] == [
        ("GW611", "warning", 7),
        ("GW610", "warning", 7),
    ]


async def problems(api: Api) -> list[dict[str, object]]:
    answer = await api.client.get("/v1/status")
    found: list[dict[str, object]] = answer.json()["published"]["problems"]
    return found
