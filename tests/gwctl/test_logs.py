"""A crash is logged with its stack, and without the values that were at hand there."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, logging, sys
import structlog
from gwctl import logs

logs.configure(sys.argv[1])

def crash():
    token = "CANARY" + "-token"
    raise ValueError("told")

for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
    try:
        crash()
    except ValueError:
        log.exception("crashed")
"""


@pytest.mark.parametrize("style", ["json", "console"])
def test_tracebacks_have_no_local_variables(style: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, style], capture_output=True, text=True, check=True)
    assert done.stderr.count("told") >= 2, done.stderr
    assert done.stderr.count("crash") >= 4, done.stderr
    assert "CANARY-token" not in done.stderr
