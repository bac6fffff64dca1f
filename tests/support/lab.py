"""The laboratory: a whole Tollhouse (`gwctl up`) with upstreams and signing keys that the tests own."""

import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support import tokens
from tests.support.gateway import Gateway, free_port, until
from tests.support.upstream import Upstream

DOCUMENT = Path(__file__).parent.parent / "e2e" / "lab.yaml"


@dataclass(frozen=True)
class Lab:
    gateway: Gateway
    echo: Upstream
    fragile: Upstream
    dead: int  # a port that nobody listens on
    keys: dict[str, tokens.Signer]
    hs256: bytes
    file: Path

    def hs_token(self, **claims: Any) -> str:
        """A good token of the tier `free`, unless `claims` say otherwise; a claim of None is left out."""
        return tokens.sign(self.hs256, "HS256", tokens.claims("https://hs.example", **({"tier": "free"} | claims)))

    def pk_token(self, algorithm: str, **claims: Any) -> str:
        return tokens.sign(
            self.keys[algorithm], algorithm, tokens.claims("https://pk.example", **claims), kid=algorithm
        )

    def envoy(self, path: str) -> httpx.Response:
        """A page of Envoy's own admin interface."""
        return httpx.get(f"{self.gateway.up['envoy_admin']}{path}", timeout=10).raise_for_status()

    def envoy_stats(self, pattern: str) -> dict[str, int]:
        stats = self.envoy(f"/stats?format=json&filter={pattern}").json()["stats"]
        return {s["name"]: s["value"] for s in stats if "name" in s}

    def apply(self, old: str, new: str, *options: str) -> Any:
        """Apply the laboratory's document with `old` replaced by `new`, and wait until it is live."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))
        return self.gateway.ask("apply", str(self.file), "--wait", *options)


def start(directory: Path, *options: str) -> Iterator[Lab]:
    """A laboratory in `directory`, for a fixture: yields it once it serves, and takes it down afterwards."""
    hs256 = secrets.token_bytes(32)
    store = directory / "state" / "secrets"
    store.mkdir(parents=True, mode=0o700)
    (store / "lab-hs").write_bytes(hs256)
    keys = tokens.signing_keys()
    with Upstream() as echo, Upstream(status=503) as fragile:
        dead = free_port()
        names = {"ECHO": echo.port, "FRAGILE": fragile.port, "DEAD": dead, "JWKS": tokens.key_set(keys)}
        file = directory / "routes.yaml"
        file.write_text(string.Template(DOCUMENT.read_text()).substitute(names))
        gateway = Gateway(directory / "state", file, options=("--no-demo", *options))
        try:
            until(lambda: gateway.get("/ping").status_code == 200, what="/ping answers")
            yield Lab(gateway, echo, fragile, dead, keys, hs256, file)
        finally:
            gateway.close()
