"""`gwctl history`, `undo`, `access` and `audit` as an operator uses them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gwctl.exits import Exit
from tests.support.lab import Lab


@pytest.fixture
def changed(lab: Lab) -> Iterator[int]:
    """The revision that answers `undone` where the laboratory answers `pong`; the one before it is the laboratory."""
    lab.gateway.ask("apply", str(lab.file))
    text = lab.file.read_text()
    yield int(lab.apply("body: pong", "body: undone", "-m", "a mistake")["revision"])
    lab.file.write_text(text)


def test_undo_is_a_new_revision_that_says_so(lab: Lab, changed: int) -> None:
    assert lab.gateway.get("/ping").text == "undone"
    done = lab.gateway.ask("undo", "--wait", "-m", "it was one")
    assert (done["revision"], lab.gateway.get("/ping").text) == (changed + 1, "pong")
    newest, before = lab.gateway.ask("history", "-n", "2")["revisions"]
    assert newest["message"] == f"undo: revision {changed - 1} again: it was one"
    assert (before["revision"], before["message"]) == (changed, "a mistake")
    assert lab.gateway.ask("rollout", "undo", f"@{changed}")["revision"] == changed + 2, "kubectl's word for it"
    assert "a mistake" in lab.gateway.gwctl("history").stdout


def test_who_comes_too_late_is_told_what_changed(lab: Lab, changed: int) -> None:
    for command in (("apply", str(lab.file)), ("undo",)):
        late = lab.gateway.gwctl(*command, "--expect-revision", str(changed - 1))
        assert late.returncode == Exit.CONFLICT
        assert "a mistake" in late.stderr
        assert f"gwctl diff @{changed - 1} HEAD" in late.stderr
    assert lab.gateway.gwctl("undo", "99999").returncode == Exit.FAILED
    assert lab.gateway.gwctl("undo", "@x").returncode == Exit.USAGE


def test_a_revision_knows_its_commit(lab: Lab, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def applied(answer: str, *options: str) -> Any:
        file.write_text(lab.file.read_text().replace("body: pong", f"body: {answer}"))
        if answer == "committed":
            git("add", ".")
            git("commit", "-qm", "one")
        lab.gateway.ask("apply", str(file), *options)
        return lab.gateway.ask("history", "-n", "1")["revisions"][0]["git_commit"]

    file = tmp_path / "routes.yaml"
    git("init", "-q")
    assert applied("uncommitted") is None, "there is no commit yet"
    assert applied("committed") == git("rev-parse", "HEAD")
    (tmp_path / "other").write_text("not applied, so it does not matter")
    assert lab.gateway.gwctl("apply", str(file)).returncode == 0
    assert applied("changed") == git("rev-parse", "HEAD") + "-dirty"
    assert applied("told", "--commit", "0123abc") == "0123abc"


def test_tokens_of_roles(lab: Lab) -> None:
    made = lab.gateway.ask("access", "create", "reader", "--role", "viewer", "--expires-in", "1h")
    asked = ("--token", made["token"])
    assert lab.gateway.gwctl("history", *asked).returncode == Exit.DONE
    assert lab.gateway.gwctl("undo", *asked).returncode == Exit.DENIED
    listed = lab.gateway.gwctl("access", "list", "-o", "json").stdout
    assert made["id"] in listed
    assert made["token"] not in listed
    assert lab.gateway.ask("access", "revoke", made["id"])["name"] == "reader"
    assert lab.gateway.gwctl("history", *asked).returncode == Exit.DENIED
    assert lab.gateway.gwctl("access", "create", "x", "--role", "author").returncode == Exit.USAGE
    assert lab.gateway.gwctl("access", "revoke", "../keys").returncode == Exit.USAGE


def test_the_audit_log_is_whole_and_all_of_it_is_exported(lab: Lab, changed: int) -> None:
    shown = lab.gateway.gwctl("audit", "verify")
    assert shown.returncode == Exit.DONE, shown.stderr
    kept = shown.stdout.split("head ")[1].strip()
    lines = [json.loads(line) for line in lab.gateway.gwctl("audit", "export").stdout.splitlines()]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert f"{lines[-1]['number']}:{lines[-1]['hash']}" == kept
    assert (lines[-1]["action"], lines[-1]["revision"]) == ("apply", changed)
    assert lab.gateway.gwctl("audit", "export", "--after", str(len(lines) - 1)).stdout.count("\n") == 1
    assert lab.gateway.gwctl("audit", "verify", "--kept", kept).returncode == Exit.DONE
    forged = lab.gateway.gwctl("audit", "verify", "--kept", f"1:{lines[-1]['hash']}")
    assert (forged.returncode, "written anew" in forged.stderr) == (Exit.FAILED, True)
    assert lab.gateway.ask("audit", "list", "-n", "1")["entries"][0]["number"] == len(lines)


def test_objects_of_a_revision_and_what_applies_to_a_route(lab: Lab, changed: int) -> None:
    now = lab.gateway.ask("get", "routes", "open/ping")["objects"]
    before = lab.gateway.ask("get", "routes", "open/ping", "--revision", str(changed - 1))["objects"]
    assert [one[0]["body"]["respond"]["body"] for one in (now, before)] == ["undone", "pong"]
    assert "body: undone" in lab.gateway.gwctl("get", "routes", "open/ping").stdout
    assert "open" in lab.gateway.gwctl("get", "modules").stdout
    found = lab.gateway.ask("get", "routes", "open/ping", "--effective")
    settings = {one["field"]: one for one in found["settings"]}
    assert settings["authentication"]["level"] in ("route", "module")
    assert f"routes.yaml@{changed}:" in settings["authentication"]["place"]
    assert lab.gateway.gwctl("get", "routes", "open/none", "--effective").returncode == Exit.FAILED
    assert lab.gateway.gwctl("get", "routes", "open/none").returncode == Exit.FAILED
    assert lab.gateway.gwctl("get", "rutes").returncode == Exit.USAGE
    assert lab.gateway.gwctl("get", "modules", "open", "--effective").returncode == Exit.USAGE
