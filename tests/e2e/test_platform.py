"""`examples/100x-platform`: the second architecture document as a running gateway, its 30 services by stand-ins."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.gateway import Gateway, until

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "100x-platform"

GROUPS = {
    "infrastructure": ("free", 10),
    "advanced": ("enterprise", 3),
    "content": ("free", 6),
    "legal": ("pro", 4),
    "knowledge": ("free", 3),
    "health-automation": ("pro", 4),
}
RANK = ["free", "pro", "enterprise"]


def modules() -> dict[str, str]:
    """Every module of the example with the tier that it asks for."""
    found = {}
    for group, (tier, count) in GROUPS.items():
        names = list(yaml.safe_load((EXAMPLE / "modules" / f"{group}.yaml").read_text())["modules"])
        assert len(names) == count
        found |= dict.fromkeys(names, tier)
    return found


@pytest.fixture(scope="module")
def platform(home: Path) -> Iterator[Gateway]:
    gateway = Gateway(home / "state", EXAMPLE)
    try:
        until(lambda: gateway.get("/health").status_code == 200)
        yield gateway
    finally:
        gateway.close()


def test_every_module_answers_the_tiers_it_should(platform: Gateway) -> None:
    keys = {tier: platform.key(tier, f"caller-{tier}") for tier in RANK}
    assert len(modules()) == 30
    for name, least in modules().items():
        assert platform.get(f"/modules/{name}/x").status_code == 401
        for tier in RANK:
            answer = platform.get(f"/modules/{name}/x", x_api_key=keys[tier])
            expected = 200 if RANK.index(tier) >= RANK.index(least) else 403
            assert answer.status_code == expected, f"{name} for {tier}: {answer.text}"


def test_a_token_of_the_platform_works_for_its_tier(platform: Gateway) -> None:
    token = platform.token("platform", "ada@100x.example", "--tier", "pro")
    headers = {"authorization": f"Bearer {token}"}
    assert platform.get("/modules/legal-docs/x", **headers).status_code == 200
    assert platform.get("/modules/drone-system/x", **headers).status_code == 403


def test_the_limit_of_a_free_key(platform: Gateway) -> None:
    free, pro = platform.key("free", "busy"), platform.key("pro", "busier")
    statuses = [platform.get("/modules/music/x", x_api_key=free).status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    assert [platform.get("/modules/music/x", x_api_key=pro).status_code for _ in range(120)] == [200] * 120


def test_the_limit_of_an_endpoint(platform: Gateway) -> None:
    pro = platform.key("pro", "director")
    post = [
        platform.client.post("/modules/video-editing/render", headers={"x-api-key": pro}).status_code for _ in range(7)
    ]
    assert post == [200] * 5 + [429] * 2
    assert platform.get("/modules/video-editing/x", x_api_key=pro).status_code == 200


def test_the_web_app_may_call(platform: Gateway) -> None:
    ask = {"origin": "https://app.100x.example", "access-control-request-method": "POST"}
    answer = platform.client.options("/modules/video-editing/render", headers=ask)
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == "https://app.100x.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_what_is_not_a_module_is_not_found(platform: Gateway) -> None:
    assert platform.get("/modules/no-such-module").status_code == 404
    assert re.match("ok", platform.get("/health").text)
