"""What a request's verified metadata says of its caller, as CEL: where one entry of metadata is not all there is to it.

Nothing here may fail, since Envoy drops a descriptor whose expression does: each step is looked at before it is taken.
"""

from collections.abc import Iterable

from gateway.claims import claim_path
from gateway.resolve import ResolvedRoute
from xds_server.compiler.context import Context
from xds_server.compiler.identity import DECIDED_NAMESPACE, JWT_NAMESPACE, Identity


def text_at(namespace: str, path: Iterable[str], otherwise: str, among: Iterable[str] = ()) -> str:
    """The text at a place of the metadata, if there is one (and it is among those), else what `otherwise` says."""
    place = f"metadata.filter_metadata['{namespace}']"
    conditions = [f"'{namespace}' in metadata.filter_metadata"]
    for key in path:
        conditions.append(f"type({place}) == map && '{key}' in {place}")
        place += f"['{key}']"
    conditions.append(f"type({place}) == string")
    known = ", ".join(f"'{one}'" for one in among)
    if known:
        conditions.append(f"{place} in [{known}]")
    return f"{' && '.join(conditions)} ? {place} : ({otherwise})"


def known_tier(context: Context, identity: Identity, route: ResolvedRoute) -> str:
    """The caller's tier; the lowest for whoever is on none that this gateway has."""
    lowest, tiers = f"'{identity.lowest}'", context.gateway.tiers
    if identity.kind == "open":
        return f"'{route.tier}'"
    if identity.kind == "decided":
        return text_at(DECIDED_NAMESPACE, ("tier",), lowest, tiers)
    provider = identity.providers[0]
    claim = context.gateway.jwt_providers[provider].tier_claim
    return lowest if claim is None else text_at(JWT_NAMESPACE, (provider, *claim_path(claim)), lowest, tiers)
