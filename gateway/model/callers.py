"""Who is calling, and how much each tier may."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, OneOf, written_in
from gateway.model.listeners import SubjectAltName
from gateway.scalars import Duration, HeaderName, Name, RateField


class HeaderSource(Model):
    name: HeaderName
    prefix: str = ""


class JwtFrom(Model):
    headers: tuple[HeaderSource, ...] = ()
    cookies: tuple[str, ...] = ()


class SecretRef(Model):
    """A value that is never in the document: `{secret: name}` in the control plane's secret store."""

    secret: Name


class Jwks(OneOf):
    """Where the verification keys come from: `inline` (a JSON Web Key Set, RFC 7517, public keys), `hs256` or `uri`.

    The key set at `uri` is fetched by the control plane, every `cache`; a fetch may take `timeout`.
    """

    inline: str | None = None
    hs256: SecretRef | None = None
    uri: Annotated[str, StringConstraints(max_length=2048)] | None = None
    cache: Duration = 600_000
    timeout: Duration = 2_000

    @classmethod
    def _alternatives(cls) -> frozenset[str]:
        return frozenset({"inline", "hs256", "uri"})

    @model_validator(mode="after")
    def _times_of_a_fetch(self) -> Self:
        if self.uri is None and {"cache", "timeout"} & written_in(self):
            raise ValueError("write cache and timeout only with uri")
        return self


class JwtProvider(Model):
    issuer: Annotated[str, StringConstraints(min_length=1)]
    audiences: tuple[str, ...] = Field(min_length=1)  # an unset list would accept tokens meant for anybody
    jwks: Jwks
    from_: JwtFrom = Field(
        default=JwtFrom(headers=(HeaderSource(name="authorization", prefix="Bearer "),)), alias="from"
    )
    clock_skew: Duration = 10_000
    max_lifetime: Duration = 86_400_000
    claims_to_headers: dict[str, HeaderName] = {}
    tier_claim: str | None = None
    scope_claim: str = "scope"


Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=256)]
"""The name of a cookie (RFC 6265: a token), or of a query parameter that needs no encoding."""


class KeyFrom(Model):
    """Where a key may be. In the query it ends up in histories and logs of others, so `check` warns."""

    headers: tuple[HeaderName, ...] = ()
    query: tuple[Token, ...] = ()
    cookies: tuple[Token, ...] = ()

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.headers or self.query or self.cookies):
            raise ValueError("write one of headers, query, cookies at least")
        return self


class ApiKeys(Model):
    """A way to present API keys. The keys live in the database, hashed; all sources share them."""

    from_: KeyFrom = Field(default=KeyFrom(headers=("x-api-key",)), alias="from")
    forward_client_id: HeaderName | None = None
    strip: bool = True


class BasicAuth(Model):
    """User names and passwords (RFC 7617). `users_secret`: lines `name:argon2id hash` in the secret store."""

    users_secret: Name
    forward_username: HeaderName | None = None


class ClientCertificates(Model):
    """Callers whose client certificate the listener verified, and one of whose names is among these.

    The first name that fits is the client; all are of one `tier` and have the same `scopes`.
    """

    subject_alt_names: tuple[SubjectAltName, ...] = Field(min_length=1)
    tier: Name | None = None
    scopes: tuple[str, ...] = ()
    forward_client_id: HeaderName | None = None


# ------------------------------------------------------------------------------------------------------ tiers, limits
Per = Annotated[str, StringConstraints(pattern=r"^(client|ip|route|claim:[A-Za-z0-9_.-]{1,64})$")]

CostFrom = Annotated[
    str,
    StringConstraints(pattern=r"^(response_bytes|response_header:[a-z0-9-]{1,64})$"),
    Field(examples=["response_header:x-tokens"]),
]


class RateLimit(Model):
    """`limit` requests for each distinct value of `per`. `shadow`: counted and reported, never enforced.

    `mode`: `exact` is counted for all Envoys together by the decision service, `local` by each Envoy for itself; of a
    `quota` each Envoy gets a share by what it is asked for, and counts that itself.

    With a `burst` that many may come at once and the rest comes evenly, instead of all at any time of the window.
    `algorithm`: how an exact limit is counted; `gcra` where there is a `burst`, else `sliding`.
    `cost_from`: what `cost` is counted by once the response is there; the request itself only needs something left.
    `count_denied`: refused requests count as well. `on_error`: for this limit, in place of the default's.
    """

    limit: RateField
    per: Per | tuple[Per, ...] = "client"
    name: Name | None = None
    cost: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    cost_from: CostFrom | None = None
    algorithm: Literal["sliding", "fixed", "log", "gcra"] | None = None
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    count_denied: bool = False
    on_error: Literal["allow", "deny"] | None = None
    shadow: bool = False
    mode: Literal["exact", "local", "quota"] = "exact"

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.per,) if isinstance(self.per, str) else self.per


class Tier(Model):
    rate_limits: tuple[RateLimit, ...] = ()
    unlimited: bool = False

    @model_validator(mode="after")
    def _limits_or_unlimited(self) -> Self:
        if self.unlimited == bool(self.rate_limits):
            raise ValueError("write either rate_limits or `unlimited: true`")
        return self


class LimitedBody(Model):
    """Every error is a problem detail (RFC 9457); it is written here for who reads the document."""

    problem: Literal[True] = True


class LimitedResponse(Model):
    """What a caller over a limit gets: 429 (RFC 6585), or 503 for clients that know no better."""

    status: Literal[429, 503] = 429
    body: LimitedBody = LimitedBody()


class RateLimitDefaults(Model):
    """`on_error`: what happens to requests while the rate limit service or its store cannot be reached.

    `decision`: whether Envoy asks who calls and whether the limits have room in two calls, or in one where it can.
    """

    on_error: Literal["allow", "deny"] = "allow"
    headers: tuple[Literal["x-ratelimit", "draft-ietf"], ...] = ("x-ratelimit",)
    response: LimitedResponse = LimitedResponse()
    decision: Literal["separate", "combined"] = "separate"
