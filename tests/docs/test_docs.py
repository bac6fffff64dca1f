"""What the documentation says is run: each `$ command` of a console block, each YAML document, each shown output.

Three pages have tests of their own beside this one: docs/language.md, docs/control-api.md (its `sh` block) and
docs/problems.md.

A command that must fail says so: `$ gwctl validate broken.yaml   # exit 3`.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import read
from tests.support.gateway import Gateway, until

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])

STARTED_OTHERWISE = {
    "make up": "the `documented` fixture is what it does: `gwctl up`; its terminal output has a test in tests/gwctl",
    "make test": "whoever reads this test is running it",
    "gwctl up": "its terminal output has a test in tests/gwctl",
}


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced code blocks of a page that are marked as `kind` ("" for those without a mark)."""
    found: list[str] = []
    inside: str | None = None
    for line in page.read_text().splitlines(keepends=True):
        if not line.startswith("```"):
            if inside == kind:
                found[-1] += line
        elif inside is None:
            inside = line.removeprefix("```").strip()
            found += [""] if inside == kind else []
        else:
            inside = None
    return found


def commands() -> list[tuple[str, str]]:
    """(page, command) in reading order; a trailing backslash joins lines."""
    lines = [
        (page.name, line)
        for page in PAGES
        for block in blocks(page, "console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, line.removeprefix("$ ")) for page, line in lines if line.startswith("$ ")]


@pytest.fixture(scope="module")
def documented() -> Iterator[Gateway]:
    """What `make up` starts, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-test-") as directory:
        gateway = Gateway(Path(directory) / "state", ROOT / "examples" / "100x-platform")
        try:
            until(lambda: gateway.get("/health").status_code == 200)
            yield gateway
        finally:
            gateway.gwctl("down", "--state-dir", f"{gateway.state_dir}-of-its-own")
            gateway.close()


def test_there_are_commands_to_run() -> None:
    assert len(commands()) >= 8
    assert {page for page, _ in commands()} >= {"README.md", "gwctl.md"}


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda text: text[:60])
def test_command(page: str, command: str, documented: Gateway) -> None:
    line, _, expected = command.partition("# exit ")
    if line.strip() in STARTED_OTHERWISE:
        return
    programs = Path(sys.executable).parent
    environment = documented.environment | {
        "PATH": f"{programs}{os.pathsep}{documented.environment['PATH']}",
        "GATEWAY": documented.url,
        "PKI": str(documented.state_dir / "pki"),
        "PLAN": str(documented.state_dir / "plan.json"),
        "GWCTL_SERVER": documented.up["control_api"],
        "GWCTL_TOKEN": (documented.state_dir / "token").read_text().strip(),
    }
    if line.startswith(("gwctl up", "gwctl down")):  # beside the gateway that all other commands speak to
        environment["GWCTL_STATE_DIR"] += "-of-its-own"
    if "$KEY_ID" in line:
        environment["KEY_ID"] = documented.ask("keys", "create", "--tier", "free", "--name", "documented")["id"]
    line = line.replace(".venv/bin/", f"{shlex.quote(str(programs))}/")
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == int(expected or 0), f"{page}: {command}\n{done.stdout}\n{done.stderr}"


def test_the_readme_shows_what_the_command_says() -> None:
    command = [sys.executable, "-m", "gwctl", "validate", "examples/broken/routes.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    shown = [block for block in blocks(ROOT / "README.md", "") if "error[GW" in block]
    assert shown == [done.stdout + done.stderr]


def test_every_whole_document_in_the_readme_is_valid() -> None:
    documents = blocks(ROOT / "README.md", "yaml")
    assert documents
    for text in documents:
        loaded = read.load([("README.md", text)])
        assert loaded.gateway is not None, loaded.problems


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
