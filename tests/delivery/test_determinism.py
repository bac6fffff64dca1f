"""The same gateway is the same snapshot in any process (R5)."""

import os
import subprocess
import sys

from gateway.model import decode
from tests.support.generate_gateway import document
from tests.support.results import record, size
from xds_server import compiler
from xds_server.resources import Snapshot

STATES = size("STATES", 20)
SEED = size("SEED", 20261124)


def versions(states: int, seed: int) -> list[str]:
    found = []
    for number in range(states):
        gateway = decode(document(seed + number, 1 + number % 3, "tree" if number % 2 else "list"))
        messages = compiler.compile(gateway, compiler.Settings(), {}).messages
        found.append(Snapshot.of(1, messages).version)
    return found


def elsewhere(hash_seed: str) -> list[str]:
    """As another replica with another hash seed has them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.delivery.test_determinism"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_r5_two_replicas_make_the_same_snapshots() -> None:
    one, other = elsewhere("1"), elsewhere("4242")
    different = sum(a != b for a, b in zip(one, other, strict=True))
    record("R5", value=different, passed=not different, unit="different snapshots", states=len(one), seed=SEED)
    assert len(set(one)) > STATES / 2, "the states are different ones"
    assert not different


if __name__ == "__main__":
    print("\n".join(versions(STATES, SEED)))
