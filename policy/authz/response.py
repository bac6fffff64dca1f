"""Decisions as CheckResponses.

A CheckResponse whose status was not set says OK: Envoy lets the request pass. So every response starts as a denial, and
only an Allow turns it into permission.
"""

from functools import lru_cache
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import struct_pb2
from google.rpc import code_pb2

from policy.authz.check import Allow, Deny
from policy.authz.identity import Identity

OVER_LIMIT: Final = "over_limit"
KEPT: Final = 4_096
"""Permissions: making one takes several times as long as finding that the caller has had the same before."""
OVERWRITE: Final = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def response(decision: Allow | Deny) -> external_auth_pb2.CheckResponse:
    denied = external_auth_pb2.CheckResponse()
    denied.status.code = code_pb2.PERMISSION_DENIED
    if isinstance(decision, Allow):
        return _allowed(decision)
    denied.status.code = code_pb2.UNAUTHENTICATED if decision.status == 401 else code_pb2.PERMISSION_DENIED
    denied.denied_response.status.code = decision.status  # type: ignore[assignment]
    denied.denied_response.body = decision.detail
    if decision.challenge:
        denied.denied_response.headers.append(_header("www-authenticate", decision.challenge))
    _describe(denied.dynamic_metadata, decision.identity)
    described(denied, decision.reason.value, decision.reason.code)
    return denied


def described(response: external_auth_pb2.CheckResponse, reason: str, code: str) -> None:
    """Why not: `reason` for the access log, `code` for the caller (Envoy writes it into the problem detail)."""
    response.dynamic_metadata["denied"] = reason
    response.dynamic_metadata["code"] = code


def permission(decision: Allow) -> external_auth_pb2.CheckResponse:
    """Not to be changed: the next request of this caller may get the same. A caller's own cookies are not kept."""
    if any(name == "cookie" for name, _ in decision.set_headers):
        return _allowed(decision)
    return _kept(decision)


def _allowed(decision: Allow) -> external_auth_pb2.CheckResponse:
    allowed = external_auth_pb2.CheckResponse()
    allowed.status.code = code_pb2.OK
    allowed.ok_response.headers.extend(_header(name, value) for name, value in decision.set_headers)
    allowed.ok_response.headers_to_remove.extend(decision.remove_headers)
    allowed.ok_response.query_parameters_to_remove.extend(decision.remove_query)
    _describe(allowed.dynamic_metadata, decision.identity)
    return allowed


_kept = lru_cache(maxsize=KEPT)(_allowed)


def _describe(metadata: struct_pb2.Struct, identity: Identity | None) -> None:
    """For the filters that come after (rbac, ratelimit) and the access log."""
    if identity is None:
        return
    metadata["client"] = identity.client
    metadata["tier"] = identity.tier
    metadata["credential"] = identity.credential
    metadata.get_or_create_list("scopes").extend(identity.scopes)
    if identity.key_id is not None:
        metadata["key_id"] = identity.key_id


def _header(name: str, value: str) -> base_pb2.HeaderValueOption:
    header = base_pb2.HeaderValue(key=name, value=value)
    return base_pb2.HeaderValueOption(header=header, append_action=OVERWRITE)
