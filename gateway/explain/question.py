"""A question to `explain` as JSON: what `gwctl explain` sends to the control API, and reads by itself without one.

No credential is in it: of a token its claims, of an API key its public id or what it is good for.
"""

import ipaddress
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from gateway.explain.asked import Asked, Key, KeyState, Password, Token
from gateway.match import Request
from gateway.model import Model

_URL: Final = re.compile(r"(https?)://([^/?#\s]*)(/[^#\s]*|\?[^#\s]*)?")
_PORT: Final = re.compile(r":(\d{1,5})$")


def _url(text: str) -> str:
    if _URL.fullmatch(text) is None:
        raise ValueError("write a URL such as https://api.example.com/v1/payments")
    return text


def _address(text: str) -> str:
    ipaddress.ip_address(text)  # raises ValueError with a text that says it all
    return text


Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$", max_length=8192)]
Word = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=255)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Url = Annotated[str, StringConstraints(max_length=8192), AfterValidator(_url)]
Address = Annotated[str, AfterValidator(_address)]


class Header(Model):
    name: Word
    value: Line


class AskedToken(Model):
    """`assumed`: there are only claims; else they are those of a token, checked by whoever saw it (`signature`)."""

    claims: dict[str, Any]
    provider: Text | None = None
    signature: Literal["good", "bad", "unchecked"] = "unchecked"
    assumed: bool = False


class AskedKey(Model):
    """By `id`, for whoever can look it up; or by what it is good for."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,64}$")] | None = None
    client: Text = "-"
    tier: Text | None = None
    scopes: list[Text] = Field(default=[])
    state: KeyState = "good"
    networks: list[Text] = Field(default=[])


class San(Model):
    kind: Literal["uri", "dns", "email"]
    value: Text


class Question(Model):
    """`address`: the caller's, as Envoy takes it. `user`: who comes with the right password."""

    method: Word = "GET"
    url: Url
    headers: list[Header] = Field(default=[], max_length=100)
    address: Address = "127.0.0.1"
    listener: Text | None = None
    sni: Text | None = None
    token: AskedToken | None = None
    key: AskedKey | None = None
    user: Text | None = None
    certificate: list[San] = Field(default=[])
    session: bool = False

    def asked(self, now: float) -> Asked:
        """`now`: seconds since the epoch."""
        scheme, host, target = self._parts()
        port = _PORT.search(host)
        headers = tuple((one.name, one.value) for one in self.headers)
        return Asked(
            request=Request(self.method, target, host, headers, self.listener),
            scheme=scheme,
            port=int(port[1]) if port else None,
            sni=self.sni,
            address=self.address,
            token=self._token(),
            key=self._key(),
            password=Password(self.user) if self.user else None,
            certificate=tuple((one.kind, one.value) for one in self.certificate),
            session=self.session,
            now=now,
        )

    def _parts(self) -> tuple[Literal["http", "https"], str, str]:
        found = _URL.fullmatch(self.url)
        if found is None:
            raise ValueError("not a URL")  # the model has made sure of it
        target = found[3] or "/"
        return "https" if found[1] == "https" else "http", found[2], target if target[0] == "/" else f"/{target}"

    def _token(self) -> Token | None:
        one = self.token
        return Token(one.claims, one.provider, one.signature, one.assumed) if one is not None else None

    def _key(self) -> Key | None:
        one = self.key
        return Key(one.state, one.client, one.tier, tuple(one.scopes), tuple(one.networks)) if one is not None else None
