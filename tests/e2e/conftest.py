"""The laboratory: a whole Tollhouse (`gwctl up`) with upstreams and signing keys that the tests own."""

import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import tokens
from tests.support.gateway import Gateway, free_port, until
from tests.support.upstream import Upstream

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Lab:
    gateway: Gateway
    echo: Upstream
    fragile: Upstream
    keys: dict[str, tokens.Signer]
    hs256: bytes
    file: Path

    def hs_token(self, **claims: Any) -> str:
        return tokens.sign(self.hs256, "HS256", tokens.claims("https://hs.example", **claims))

    def pk_token(self, algorithm: str, **claims: Any) -> str:
        return tokens.sign(self.keys[algorithm], algorithm, tokens.claims("https://pk.example", **claims), kid=algorithm)


def start_lab(directory: Path, *options: str, edit: dict[str, str] | None = None) -> Iterator[Lab]:
    """`edit`: replacements in lab.yaml, from -> to."""
    hs256 = secrets.token_bytes(32)
    store = directory / "state" / "secrets"
    store.mkdir(parents=True, mode=0o700)
    (store / "lab-hs").write_bytes(hs256)
    keys = tokens.signing_keys()
    with Upstream() as echo, Upstream(status=503) as fragile:
        text = (HERE / "lab.yaml").read_text()
        for old, new in (edit or {}).items():
            assert old in text
            text = text.replace(old, new)
        names = {"ECHO": echo.port, "FRAGILE": fragile.port, "DEAD": free_port(), "JWKS": tokens.key_set(keys)}
        file = directory / "routes.yaml"
        file.write_text(string.Template(text).substitute(names))
        gateway = Gateway(directory / "state", file, options=("--no-demo", *options))
        try:
            until(lambda: gateway.get("/ping").status_code == 200, what="/ping answers")
            yield Lab(gateway, echo, fragile, keys, hs256, file)
        finally:
            gateway.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from start_lab(tmp_path_factory.mktemp("lab"))
