"""`gateway.explain` and a real Envoy agree: status, route, details, location, upstream, and what it is asked for.

Gateways that know their callers, callers of every kind, our real decision service. TOLLHOUSE_EXPLAINED says how many
pairs (`make fuzz` asks for many), TOLLHOUSE_SEED which ones.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.explain import explain
from gateway.model import Gateway, decode
from gwctl.proving.agreement import disagreements
from gwctl.proving.credentials import Signer
from gwctl.proving.runner import Runner
from tests.support import generate_explained
from tests.support.tokens import key_set, signing_keys
from xds_server.compiler import HmacKey

PAIRS = int(os.environ.get("TOLLHOUSE_EXPLAINED", "1000"))
SEED = int(os.environ.get("TOLLHOUSE_SEED", "1"))
LISTENERS = 10
GATEWAYS = 4
KEY = b"0123456789abcdef0123456789abcdef"


def test_envoy_does_what_is_explained(tmp_path: Path) -> None:
    different = [line for number in range(GATEWAYS) for line in differences(tmp_path, SEED * GATEWAYS + number)]
    assert different == [], f"seed {SEED}: {len(different)} differences\n" + "\n".join(different[:20])


def differences(directory: Path, seed: int) -> Iterator[str]:
    signing = {"RS256": signing_keys()["RS256"]}
    written = generate_explained.document(seed, LISTENERS, key_set(signing))
    gateway = decode(written)
    shared = Signer("HS256", KEY)
    signers = {"acme": shared, "other": Signer("RS256", signing["RS256"], "RS256"), "third": shared}
    here = directory / str(seed)
    here.mkdir()
    with Runner(here, gateway, signers=signers, store={"acme": HmacKey(KEY)}) as runner:
        for listener in gateway.listeners:
            yield from of_listener(runner, seed, written, listener)


def of_listener(runner: Runner, seed: int, written: dict[str, object], listener: str) -> Iterator[str]:
    count = PAIRS // GATEWAYS // LISTENERS
    asked = list(generate_explained.asked(seed, written, listener, count, time.time()))
    gateway: Gateway = runner.gateway
    for one, observed in zip(asked, runner.ask(asked), strict=True):
        found = explain(gateway, one, runner.index)
        for line in disagreements(one, found, observed):
            who = one.token and (one.token.claims, one.token.provider, one.token.signature)
            last = [step.text for step in found.steps if step.part in ("authn", "tier", "authz", "answer")]
            yield f"{seed} {one.request} {who} {one.key} {one.password} {one.address}\n  {line}\n  {last} {observed}"
