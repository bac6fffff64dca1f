"""The format of `tests.yaml` (docs/testing.md)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gateway.explain import Question
from gateway.explain.asked import KeyState
from gateway.explain.question import Address, AskedKey, AskedToken, Header, Line, San, Text, Url, Word
from gateway.model import Model
from gateway.model.base import Status
from gateway.scalars import Duration


class GivenToken(Model):
    """Claims of a token; what `provider` needs and is not among them is added."""

    claims: dict[str, Any] = Field(default={})
    provider: Text | None = None
    signature: Literal["good", "bad"] = "good"


class GivenKey(Model):
    client: Text = "-"
    tier: Text | None = None
    scopes: tuple[Text, ...] = ()
    networks: tuple[Text, ...] = ()
    state: KeyState = "good"


class Given(Model):
    """A request. `repeat`: how often it is sent, evenly `within` that many milliseconds."""

    method: Word = "GET"
    url: Url
    headers: dict[Word, Line] = Field(default={})
    client_ip: Address = "127.0.0.1"
    jwt: GivenToken | None = None
    api_key: GivenKey | None = None
    user: Text | None = None
    certificate: tuple[San, ...] = ()
    session: bool = False
    listener: Text | None = None
    sni: Text | None = None
    repeat: Annotated[int, Field(ge=1, le=10_000)] = 1
    within: Duration = 0

    def question(self) -> Question:
        token, key = self.jwt, self.api_key
        return Question(
            method=self.method,
            url=self.url,
            headers=[Header(name=name, value=value) for name, value in self.headers.items()],
            address=self.client_ip,
            listener=self.listener,
            sni=self.sni,
            token=AskedToken(**token.model_dump(), assumed=True) if token else None,
            key=AskedKey(**_lists(key.model_dump())) if key else None,
            user=self.user,
            certificate=list(self.certificate),
            session=self.session,
        )


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


class Expect(Model):
    """What is written must hold; of several values any one. The answer of an upstream counts as 200."""

    route: Text | None = None
    status: Status | tuple[Status, ...] | None = None
    tier: Text | None = None
    upstream: Text | tuple[Text, ...] | None = None
    timeout: Duration | None = None
    denied_by: Text | tuple[Text, ...] | None = None
    limited_by: Text | tuple[Text, ...] | None = None
    first_limited: Annotated[int, Field(ge=1)] | None = None
    location: Text | None = None
    upstream_path: Text | None = None
    upstream_host: Text | None = None
    response_headers: dict[Word, Line] = Field(default={})

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("expect something: a test without expectations never fails")
        return self


class Step(Model):
    """`after`: milliseconds since the step before it."""

    after: Duration = 0
    given: Given
    expect: Expect


class Case(Model):
    """Either `given` and `expect`, or `steps`, which share their counters."""

    name: Text
    given: Given | None = None
    expect: Expect | None = None
    steps: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.steps) == (self.given is not None) or (self.given is None) != (self.expect is None):
            raise ValueError("write `given` and `expect`, or `steps` that have them")
        return self

    @property
    def sequence(self) -> tuple[Step, ...]:
        if self.given is None or self.expect is None:
            return self.steps
        return (Step(given=self.given, expect=self.expect),)


class Tests(Model):
    __test__ = False  # pytest takes it for one of its own

    version: Literal[1]
    tests: Annotated[tuple[Case, ...], Field(min_length=1)]
