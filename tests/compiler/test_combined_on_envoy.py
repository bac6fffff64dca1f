"""One call in place of two: the same requests to two gateways that differ in nothing else get the same answers."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import yaml

from gateway.model import decode
from tests.support.upstream import Upstream
from xds_server.compiler.names import DECISIONS

from .real_decisions import RealDecisions
from .running import KEY, RunningGateway, claims

DOCUMENT = (Path(__file__).parent / "combined.yaml").read_text()
MODES = ("separate", "combined")
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "ratelimit-policy", "content-type", "www-authenticate")
CHANGING = ("x-ratelimit-reset", "retry-after", "ratelimit")
OTHER = {"iss": "https://other.example.com/"}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Site"]]:
    with ExitStack() as stack:
        echo = stack.enter_context(Upstream())
        yield {mode: Site(stack, mode, tmp_path_factory.mktemp(mode), echo) for mode in MODES}


class Site:
    """A gateway with a decision service, and so with counters, of its own; the keys are the same consumers'."""

    def __init__(self, stack: ExitStack, mode: str, directory: Path, echo: Upstream) -> None:
        document = DOCUMENT.replace("MODE", mode)
        self.service = stack.enter_context(RealDecisions(directory))
        self.service.view(decode(yaml.safe_load(document.replace("ECHO", str(echo.port)))))
        self.keys: dict[str, str] = {}
        self.hand_out("staff")
        decisions = (("127.0.0.1", self.service.port),)
        running = RunningGateway(directory, document, {"ECHO": echo.port}, decisions=decisions)
        self.gateway = stack.enter_context(running)
        deadline = time.monotonic() + 20
        while self.ask("/answered", {"key": "staff"}).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)

    def hand_out(self, *tiers: str, to: str = "c") -> None:
        """New keys of these tiers, of consumers that have spent nothing yet."""
        self.keys |= {tier: self.service.keys.make(f"{to}_{tier}", tier) for tier in tiers}

    def ask(self, path: str, caller: dict[str, Any], address: str = "203.0.113.1") -> httpx.Response:
        more = {name.replace("-", "_"): value for name, value in caller.get("headers", {}).items()}
        if "key" in caller:
            more["x_api_key"] = self.keys.get(caller["key"], caller["key"])
        answer: httpx.Response = self.gateway.request(path, token=caller.get("token"), x_forwarded_for=address, **more)
        return answer

    def rpcs(self) -> int:
        """Calls that Envoy has made to its decision service since it was started."""
        name = f"cluster.{DECISIONS}.upstream_rq_total"
        stats = self.gateway.admin.get("/stats", params={"filter": name.replace(".", "[.]"), "format": "json"}).json()
        return next(int(stat["value"]) for stat in stats["stats"] if stat.get("name") == name)


def callers(number: int) -> dict[str, dict[str, Any]]:
    def token(key: bytes = KEY, sub: str | None = "ann", **more: Any) -> dict[str, str]:
        return {"token": jwt.encode(claims(sub=f"{sub}{number}" if sub else None, **more), key)}

    other = {"key": KEY[::-1], **OTHER}
    return {
        "free key": {"key": "free"},
        "gold key": {"key": "gold"},
        "staff key": {"key": "staff"},
        "bad key": {"key": "nonsense"},
        "nobody": {},
        "gold token": token(sub="ann", plan="gold", org={"unit": "a"}),
        "gold token of another unit": token(sub="ann", plan="gold", org={"unit": "b"}),
        "gold token without a unit": token(sub="ann", plan="gold", org={"unit": ["a"]}),
        "token of an unknown tier": token(sub="bob", plan="platinum", org={"unit": ""}),
        "other's token": token(**other, sub="ann", org={"unit": "a"}),
        "other's token, an empty unit": token(**other, sub="eve", org={"unit": ""}),
        "token without a subject": token(sub=None),
        "bad token": token(KEY * 2),
    }


def seen(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = {name: answer.headers.get_list(name) for name in HEADERS}
    found |= {f"has {name}": name in answer.headers for name in CHANGING}
    found["status"] = answer.status_code
    if answer.status_code >= 400:
        body = answer.json()
        found["body"] = {name: body.get(name) for name in ("title", "detail", "code", "status")}
    return found


PATHS = ("/plain", "/own", "/maybe", "/single", "/answered", "/scoped", "/open", "/gold")


def test_the_answers_are_the_same(sites: dict[str, Site]) -> None:
    """In rounds, each of other callers: after a 503 (a machine that is busy) nobody knows what was counted."""
    whole, statuses = 0, Counter[int]()
    for number in range(40):
        found = compare(sites, number)
        if 503 not in found:
            whole += 1
            statuses += found
        if whole == 8:
            break
    assert whole == 8
    assert min(statuses[200], statuses[429], statuses[401], statuses[403]) > 4, statuses


def compare(sites: dict[str, Site], number: int) -> Counter[int]:
    """The statuses of the requests of a round, up to the first 503."""
    chance, known, statuses = random.Random(number), callers(number), Counter[int]()
    addresses = [f"203.0.{number}.1", f"203.0.{number}.2", f"192.0.2.9, 198.51.{number}.7", f"2001:db8::{number}"]
    paths, some = chance.sample(PATHS, 4), chance.sample(list(known), 5)  # few, so that limits are reached
    for site in sites.values():
        site.hand_out("free", "gold", "staff", to=f"c{number}")
    for _ in range(60):
        path, caller, address = chance.choice(paths), chance.choice(some), chance.choice(addresses)
        one, other = (seen(sites[mode].ask(path, known[caller], address)) for mode in MODES)
        if 503 in (one["status"], other["status"]):
            return statuses + Counter([503])
        assert one == other, (path, caller, address)
        statuses[one["status"]] += 1
    return statuses


@pytest.mark.parametrize(
    ("path", "calls"),
    [
        ("/plain", 1),
        ("/own", 1),
        ("/maybe", 1),
        ("/single", 1),
        ("/scoped", 2),  # rbac may refuse between the two, and then nothing is charged
        ("/gold", 2),  # the same, by the tier
    ],
)
def test_how_many_calls_a_request_costs(sites: dict[str, Site], path: str, calls: int) -> None:
    staff = {"token": jwt.encode(claims(sub="s", plan="staff", scope="read"), KEY)}
    if path == "/single":
        staff = {"token": jwt.encode(claims(**OTHER, sub="single"), KEY[::-1])}
    for mode, wanted in zip(MODES, (2, calls), strict=True):
        before, status = 0, 503
        while status == 503:  # a machine that is busy
            before, status = sites[mode].rpcs(), sites[mode].ask(path, staff, "203.0.113.250").status_code
        assert sites[mode].rpcs() - before == wanted, mode
