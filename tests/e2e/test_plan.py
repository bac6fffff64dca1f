"""`gwctl plan`, `diff` and `apply --plan` as an operator uses them, exit codes included."""

import json
from pathlib import Path

import pytest

from gwctl.exits import Exit
from gwctl.main import run
from tests.support.lab import Lab


@pytest.fixture
def changed(lab: Lab, tmp_path: Path) -> Path:
    """The laboratory's document with one route answering something else."""
    file = tmp_path / "changed.yaml"
    file.write_text(lab.file.read_text().replace("body: pong", f"body: pong-{tmp_path.name}"))
    lab.gateway.ask("apply", str(lab.file), "--wait")
    return file


def test_what_is_live_is_no_change(lab: Lab) -> None:
    lab.gateway.ask("apply", str(lab.file), "--wait")
    done = lab.gateway.gwctl("plan", str(lab.file), "--exit-code")
    assert (done.returncode, done.stdout[:10]) == (Exit.DONE, "no changes")
    exported = lab.gateway.gwctl("export")
    assert lab.gateway.gwctl("plan", "-", "--prune", "--exit-code", stdin=exported.stdout).returncode == Exit.DONE


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_the_exit_code_is_the_same_in_every_form(lab: Lab, changed: Path, tmp_path: Path, form: str) -> None:
    assert lab.gateway.gwctl("plan", str(changed), "-o", form, "--exit-code").returncode == Exit.CHANGES
    broken = tmp_path / "broken.yaml"
    broken.write_text(changed.read_text().replace("listeners:", "listners:"))
    assert lab.gateway.gwctl("plan", str(broken), "-o", form, "--exit-code").returncode == Exit.INVALID


@pytest.mark.parametrize(
    "wrong",
    [
        ("plan", "--exit-code", "--typo"),
        ("diff", "--exit-code", "--typo"),
        ("diff", "HEAD", "no-such-file"),
        ("plan", "--offline", __file__),
        ("apply", "--plan", __file__, __file__),
    ],
)
def test_wrong_usage_is_64(wrong: tuple[str, ...]) -> None:
    assert run([*wrong, "--server", "http://127.0.0.1:1", "--token", "x"]) == Exit.USAGE


def test_a_saved_plan_is_applied_exactly_and_once(lab: Lab, changed: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    plan = lab.gateway.ask("plan", str(changed), "--out", str(saved))
    assert saved.stat().st_mode & 0o777 == 0o600
    changed.write_text("version: 1\n")  # what was planned is in the plan
    done = lab.gateway.gwctl("apply", "--plan", str(saved), "--wait", "-m", "as planned")
    assert done.returncode == 0, done.stderr
    assert lab.gateway.get("/ping").text == f"pong-{tmp_path.name}"
    again = lab.gateway.gwctl("apply", "--plan", str(saved))
    assert again.returncode == Exit.CONFLICT
    base = plan["base"]["revision"]
    assert f"the plan is of revision {base}, and the head is {base + 1}" in again.stderr
    assert "as planned" in again.stderr, "who came in between says why"
    assert "~ route open/ping" in again.stderr, "and what changed is told"
    diff = lab.gateway.ask("diff", f"@{base}", "HEAD")
    assert [one["name"] for one in diff["changes"]] == [one["name"] for one in plan["changes"]] == ["open/ping"]


def test_a_plan_that_somebody_edited_is_not_applied(lab: Lab, changed: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    lab.gateway.ask("plan", str(changed), "--out", str(saved))
    record = json.loads(saved.read_text())
    record["files"][0]["text"] = record["files"][0]["text"].replace("pong-", "gong-")
    saved.write_text(json.dumps(record))
    edited = lab.gateway.gwctl("apply", "--plan", str(saved))
    assert (edited.returncode, "was changed after it was made" in edited.stderr) == (Exit.INVALID, True)


def test_a_plan_whose_files_do_something_else_is_not_applied(lab: Lab, changed: Path, tmp_path: Path) -> None:
    """A digest is no signature: somebody made another plan of the reviewed words and other files."""
    from gwctl.files import File
    from gwctl.planning import saved as plans

    saved = tmp_path / "plan.json"
    reviewed = lab.gateway.ask("plan", str(changed), "--out", str(saved))
    other = File("changed.yaml", changed.read_text().replace("pong-", "gong-"))
    plans.write(saved, plans.Saved((other,), prune=False, plan=reviewed))
    done = lab.gateway.gwctl("apply", "--plan", str(saved))
    assert (done.returncode, "something else than it says" in done.stderr) == (Exit.INVALID, True)
    assert lab.gateway.gwctl("plan", str(lab.file), "--exit-code").returncode == Exit.DONE, "nothing was applied"


def test_differences_with_files(lab: Lab, changed: Path) -> None:
    for old, new in (("HEAD", str(changed)), (str(changed), "HEAD")):
        done = lab.gateway.gwctl("diff", old, new, "--exit-code", "-o", "json")
        assert done.returncode == Exit.CHANGES, done.stderr
        assert [one["name"] for one in json.loads(done.stdout)["changes"]] == ["open/ping"]
    assert lab.gateway.gwctl("diff", "HEAD", str(lab.file), "--exit-code").returncode == Exit.DONE
    assert lab.gateway.gwctl("diff", "@999999", "HEAD").returncode == Exit.FAILED


def test_a_plan_without_a_server(lab: Lab, changed: Path, tmp_path: Path) -> None:
    asked = ("plan", "--offline", "--base", str(lab.file), str(changed), "--server", "http://127.0.0.1:1")
    done = lab.gateway.gwctl(*asked, "--no-envoy", "-o", "json", "--exit-code")
    assert done.returncode == Exit.CHANGES, done.stderr
    assert json.loads(done.stdout)["nodes"] is None
