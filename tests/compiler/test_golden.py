"""Every golden case: the compiler says what is written there, and a real Envoy accepts it.

TOLLHOUSE_GOLDEN=update rewrites all cases and removes files that are no longer made.
"""

import os

import pytest

from xds_server.validate import find_envoy, validate

from .golden import CASES, NAMES, compiled, expected_files


@pytest.mark.parametrize("name", NAMES)
def test_compiles_to_what_is_written(name: str) -> None:
    files = expected_files(compiled(name))
    if os.environ.get("TOLLHOUSE_GOLDEN") == "update":
        for path in (CASES / name).iterdir():
            if path.name != "in.yaml":
                path.unlink()
        for file, text in files.items():
            (CASES / name / file).write_text(text)
    found = {path.name: path.read_text() for path in (CASES / name).iterdir() if path.name != "in.yaml"}
    assert found == files


@pytest.mark.parametrize("name", NAMES)
async def test_envoy_accepts_it(name: str) -> None:
    envoy = find_envoy()
    assert envoy is not None
    assert await validate(compiled(name).messages, envoy, timeout=60) == ()
