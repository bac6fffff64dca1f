"""Thousands of documents gone wrong: each is read to the end or refused with a place, quickly, and never with a crash.

`TOLLHOUSE_DOCUMENTS` sets how many (`make fuzz` reads 200,000), `TOLLHOUSE_SEED` which.
"""

import os
import random
import time
from pathlib import Path

import pytest

from gateway.read import load_bytes
from tests.support.mutate import mutated
from xds_server.compiler import Settings, compile  # noqa: A004

DOCUMENTS = int(os.environ.get("TOLLHOUSE_DOCUMENTS", "20000"))
SEED = int(os.environ.get("TOLLHOUSE_SEED", "1"))
BATCHES = 20
LONGEST = 1.0  # seconds of this process's own time
ROOT = Path(__file__).parents[2]
TEXTS = [
    path.read_text()
    for path in sorted([*ROOT.glob("tests/compiler/cases/*/in.yaml"), *ROOT.glob("examples/*/*.yaml")])
    if path.stat().st_size < 2500
]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_document_gone_wrong_is_refused_with_a_place(batch: int) -> None:
    chance = random.Random(f"{SEED} {batch}")
    accepted = 0
    for number in range(DOCUMENTS // BATCHES):
        data = mutated(chance, TEXTS)
        began = time.process_time()
        try:
            accepted += judged(data)
        except Exception as error:
            raise AssertionError(f"document {number} of seed {SEED}, batch {batch}: {data!r}") from error
        assert time.process_time() - began < LONGEST, data
    assert accepted, "no document was accepted: the mutations are too coarse to reach the compiler"


def judged(data: bytes) -> bool:
    """Whether the document was accepted; then it compiles too. Raises whatever anything raises."""
    loaded = load_bytes([("fuzz.yaml", data)])
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    assert all(problem.place is not None and problem.message for problem in loaded.problems), loaded.problems
    assert (loaded.gateway is None) == bool(errors)
    if loaded.gateway is None:
        return False
    compile(loaded.gateway, Settings(decisions=(("127.0.0.1", 9800),)), {}, strict=True)
    return True
