"""Credentials of the command line as facts: a token is taken apart here, and goes no further."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from gateway.model import Gateway
from gwctl.exits import Exit, Failure

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_KEY: Final = re.compile(r"gw_[a-z][a-z0-9]*_([0-9A-Za-z]{10})_[0-9A-Za-z]+_[0-9A-Za-z]+")
_PAIRS: Final = re.compile(r",(?=[^,=\s]+=)")
KEY_FACTS: Final = ("id", "client", "tier", "scopes", "state")


def content(text: str) -> str:
    """`@FILE` and `@-` stand for what is in there: arguments are seen by everybody on the machine."""
    if not text.startswith("@"):
        return text
    try:
        return (sys.stdin.read() if text == "@-" else Path(text[1:]).read_text()).strip()
    except (OSError, UnicodeDecodeError):
        raise Failure(Exit.FAILED, f"{text[1:]} cannot be read") from None


def token(given: str, gateway: Gateway | None) -> dict[str, Any]:
    """A token as its claims, or claims alone (`plan=gold,scope=a b`). `gateway`: whose keys may verify it."""
    text = content(given)
    if _TOKEN.fullmatch(text) is None:
        return {"claims": dict(pairs(text, "--jwt")), "assumed": True}
    import jwt

    try:
        claims = jwt.decode(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise Failure(Exit.INVALID, "--jwt looks like a JSON Web Token and is none") from None
    return {"claims": claims, "signature": signature(text, claims, gateway)}


def signature(text: str, claims: dict[str, Any], gateway: Gateway | None) -> str:
    """Checked where the document has the keys of the issuer in it; nobody else's are here."""
    providers = gateway.jwt_providers.values() if gateway is not None else ()
    issuing = (one for one in providers if one.issuer == claims.get("iss") and one.jwks.inline is not None)
    provider = next(issuing, None)
    return "unchecked" if provider is None else "good" if verified(text, provider.jwks.inline or "") else "bad"


def verified(text: str, keys: str) -> bool:
    """Whether any of the keys of the set made the signature; times and audiences are not looked at here."""
    import jwt

    nothing: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    for key in jwt.PyJWKSet.from_json(keys).keys:
        try:
            jwt.decode(text, key, algorithms=[key.algorithm_name], options=nothing)
        except jwt.PyJWTError:
            continue
        return True
    return False


def key(given: str, *, server: bool) -> dict[str, Any]:
    """An API key as its public id, or what it is good for (`tier=gold,scopes=a b`). Its secret part is left out."""
    text = content(given)
    found = _KEY.fullmatch(text)
    facts = {"id": found[1]} if found else dict(pairs(text, "--key"))
    if facts.keys() - set(KEY_FACTS):
        raise click.UsageError(f"--key takes a key, or any of {', '.join(KEY_FACTS)} as NAME=VALUE.")
    if "id" in facts and not server:
        raise click.UsageError(
            "A key cannot be looked up in files: say what it is good for, --key tier=gold,client=c_1."
        )
    if "scopes" in facts:
        facts["scopes"] = str(facts["scopes"]).split()
    return {name: value if name == "scopes" else str(value) for name, value in facts.items()}


def pairs(text: str, option: str) -> Iterator[tuple[str, Any]]:
    """`NAME=VALUE,…`; a VALUE is JSON, else text."""
    for pair in filter(None, _PAIRS.split(text)):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} is neither a credential nor NAME=VALUE,NAME=VALUE.")
        try:
            yield name.strip(), json.loads(value)
        except ValueError:
            yield name.strip(), value
