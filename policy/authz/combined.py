"""One Check for two filters: whom the caller is, and whether its limits have room for the request.

Where a route says so (`limits: here` in its context extensions), an Allow is followed by the question that Envoy's rate
limit filter would have asked, in this process; its answer goes out with the decision, headers included.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.rpc import code_pb2

from gateway.claims import claim_path
from policy.authz.check import Allow
from policy.authz.facts import Facts, claim
from policy.authz.response import OVER_LIMIT, described
from policy.ratelimit.asking import Asking, header
from protos.tollhouse.ratelimit.v1 import ratelimit_pb2

HERE: Final = "here"
UNKNOWN: Final = "-"  # what Envoy is told to say for what is not there


def asked_here(request: external_auth_pb2.CheckRequest) -> bool:
    return request.attributes.context_extensions.get("limits", "") == HERE


def question(
    asking: Asking, request: external_auth_pb2.CheckRequest, known: Facts, allowed: Allow
) -> ratelimit_pb2.RateLimitRequest | None:
    """None if nothing limits this caller on this route."""
    return asking.question(known.route, allowed.identity.tier, partial(_value, request, known, allowed))


def _value(request: external_auth_pb2.CheckRequest, known: Facts, allowed: Allow, key: str) -> str:
    match key:
        case "client":
            return allowed.identity.client or UNKNOWN
        case "remote_address":
            return known.address
        case "route":
            return known.route
        case _:
            return _claim(request, known.providers, claim_path(key.removeprefix("claim:")))


def _claim(request: external_auth_pb2.CheckRequest, providers: tuple[str, ...], path: Iterable[str]) -> str:
    """Of the first provider whose token has it as a string; an empty one is none where there is one provider only."""
    texts = [text for provider in providers if isinstance(text := claim(request, provider, tuple(path)), str)]
    found = texts[0] if texts else UNKNOWN
    return found if len(providers) > 1 else found or UNKNOWN


def add(response: external_auth_pb2.CheckResponse, asking: Asking, answer: rls_pb2.RateLimitResponse) -> None:
    """To the response to a caller who was let in: what its limits say."""
    headers = [header(key, value) for key, value in asking.headers(answer)]
    if answer.overall_code == rls_pb2.RateLimitResponse.OK:
        response.ok_response.response_headers_to_add.extend(headers)
        return
    response.status.code = code_pb2.RESOURCE_EXHAUSTED
    response.denied_response.status.code = asking.status  # type: ignore[assignment]
    response.denied_response.body = answer.raw_body.decode()
    response.denied_response.headers.extend(headers)
    described(response, OVER_LIMIT, "rate_limited")
