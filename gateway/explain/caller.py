"""Who calls, as authorization and limits see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.claims import claim_path
from gateway.model import ClaimMatch, Gateway, JwtProvider


@dataclass(frozen=True, slots=True)
class Caller:
    """`claims`: of every token that was verified. `credential` `open`: nobody was asked, so there is no tier either."""

    credential: Literal["open", "jwt", "key", "basic", "certificate", "anonymous"]
    client: str = ""
    tier: str | None = None
    scopes: tuple[str, ...] = ()
    claims: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def has_claim(self, name: str, match: ClaimMatch) -> bool:
        return any(fits(value_at(claims, name), match) for claims in self.claims)

    def claim(self, name: str) -> str | None:
        """A claim whose value is a text, of the first token that has it."""
        found = (value_at(claims, name) for claims in self.claims)
        return next((value for value in found if isinstance(value, str)), None)


OPEN = Caller("open")


def tier_of(gateway: Gateway, claimed: object) -> str:
    """The claimed tier if the gateway has it, else the lowest: nobody gains by naming one that is not there."""
    if isinstance(claimed, str) and claimed in gateway.tiers:
        return claimed
    return next(iter(gateway.tiers), "")


def value_at(claims: Mapping[str, Any], name: str) -> Any:
    found: Any = claims
    for key in claim_path(name):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def normalised(provider: JwtProvider, claims: Mapping[str, Any]) -> dict[str, Any]:
    """Claims as Envoy keeps them: a scope claim at the top that is a text is a list of its words (RFC 8693, 4.2)."""
    text = claims.get(provider.scope_claim)
    split = {provider.scope_claim: [word for word in text.split(" ") if word]} if isinstance(text, str) else {}
    return {**claims, **split}


def scopes_in(claim: Any) -> tuple[str, ...]:
    if isinstance(claim, str):
        return tuple(claim.split())
    return tuple(one for one in claim if isinstance(one, str)) if isinstance(claim, list) else ()


def fits(value: Any, match: ClaimMatch) -> bool:
    """A number or a boolean equals; a text equals or, for a list claim, is in it."""
    wanted = match.in_ if match.in_ is not None else (match.exact,)
    if isinstance(match.exact, bool) or isinstance(value, bool):
        return value is match.exact
    if isinstance(match.exact, int):
        return isinstance(value, int | float) and value == match.exact
    return any(isinstance(one, str) and one in wanted for one in (value if isinstance(value, list) else [value]))
