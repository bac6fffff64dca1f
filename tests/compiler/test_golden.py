"""Every golden case: the compiler says what is written there, and a real Envoy accepts it.

TOLLHOUSE_GOLDEN=update rewrites all cases and removes files that are no longer made.
"""

import os
import subprocess
from pathlib import Path

import pytest

from xds_server.compiler.inline import bootstrap, without_secrets
from xds_server.validate import find_envoy, throwaway_certificate, validate

from .golden import CASES, NAMES, compiled, expected_files

WORK_IN_PROGRESS = {"quotas": "message 'envoy.type.v3.RateLimitStrategy' is contained in proto file"}
"""What Envoy says of words that are not stable yet; the language calls them experimental (GW421)."""


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


@pytest.mark.parametrize("name", NAMES)
def test_envoy_has_nothing_to_warn_of(name: str, tmp_path: Path) -> None:
    """Deprecated fields and ignored settings are warnings: what works today and not with the next Envoy."""
    envoy = find_envoy()
    assert envoy is not None
    config = tmp_path / "bootstrap.pb"
    messages = without_secrets(compiled(name).messages, throwaway_certificate())
    config.write_bytes(bootstrap(messages).SerializeToString())
    options = ("--mode", "validate", "-l", "warning", "--concurrency", "1", "--config-path", str(config))
    done = subprocess.run([str(envoy), *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "[warning]" in line]
    assert [line for line in said if WORK_IN_PROGRESS.get(name, "nothing at all") not in line] == []
