"""`gateway.match` and a real Envoy choose the same route, for generated gateways and hostile requests.

TOLLHOUSE_PAIRS says how many pairs (`make fuzz` asks for many), TOLLHOUSE_SEED which ones.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.match import Decision, Index, Request, index, route_for
from gateway.model import decode
from tests.support.generate_gateway import document, requests, wire
from tests.support.observed import Answer, ObservedGateway

PAIRS = int(os.environ.get("TOLLHOUSE_PAIRS", "20000"))
SEED = int(os.environ.get("TOLLHOUSE_SEED", "1"))
LISTENERS = 20
A_ROUND = 50_000
"""So many pairs at most come of one set of gateways."""


@pytest.mark.parametrize("route_table", ["tree", "list"])
def test_envoy_chooses_what_is_predicted(tmp_path: Path, route_table: str) -> None:
    pairs = PAIRS // 2
    for number in range(0, pairs, A_ROUND):
        seed = SEED + number
        different = list(differences(tmp_path, seed, route_table, min(A_ROUND, pairs - number)))
        assert different == [], f"seed {seed}: {len(different)} differences"


def differences(directory: Path, seed: int, route_table: str, pairs: int) -> Iterator[str]:
    written = document(seed, LISTENERS, route_table)
    gateway = decode(written)
    found = index(gateway)
    with ObservedGateway(directory, gateway) as envoy:
        for listener in gateway.listeners:
            asked = list(requests(seed, written, listener, pairs // LISTENERS))
            for request, answer in zip(asked, envoy.ask(listener, [*map(wire, asked)]), strict=True):
                yield from difference(found, request, answer)


def difference(found: Index, request: Request, answer: Answer) -> Iterator[str]:
    decision = route_for(found, request)
    predicted, chosen = expected(decision), seen(answer, decision)
    if any(text.strip().startswith("application/grpc") for name, text in request.headers if name == "content-type"):
        predicted, chosen = (0, *predicted[1:]), (0, *chosen[1:])  # what Envoy says to gRPC is a 200 in any case
    if predicted != chosen:
        yield f"{request}\n    predicted {predicted} {decision.reason}\n    Envoy     {chosen}"


def expected(decision: Decision) -> tuple[int, str, str]:
    """Status, the route's name in Envoy, and the normalised path; what Envoy has for nobody to see is left out."""
    status = decision.status or 0
    match decision.kind:
        case "refused":
            return status, "", ""
        case "strict_path":
            return status, "ambiguous-path", decision.path
        case "redirect":
            return status, "tollhouse/redirect", decision.path
        case "unmatched":
            return status, "tollhouse/unmatched", decision.path
        case "preflight":
            return 0, (decision.route.full_name if decision.route else "tollhouse") + "/preflight", decision.path
        case "route":
            assert decision.route is not None
            return 0, decision.route.full_name, decision.path


def seen(answer: Answer, decision: Decision) -> tuple[int, str, str]:
    status, headers = answer
    if decision.kind == "refused":
        return status, headers.get(b"x-seen-route", b"").decode(), ""
    details, path = headers.get(b"x-seen-details", b"").decode(), headers.get(b"x-seen-path", b"").decode()
    name = headers.get(b"x-seen-route", b"").decode()
    if "ambiguous-path" in details:
        name = "ambiguous-path"
    plain = status if name in ("ambiguous-path", "tollhouse/redirect", "tollhouse/unmatched") or not name else 0
    return plain, name, path.partition("?")[0]
