"""How a claim is named: the one rule for the compiler, which reads claims in Envoy, and for the decision service."""


def claim_path(claim: str) -> tuple[str, ...]:
    """A claim's path in the payload: `realm_access.roles` is nested; a name with a `/` in it (a URL) is one name."""
    return (claim,) if "/" in claim else tuple(claim.split("."))
