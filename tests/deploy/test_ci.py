"""The files for CI systems: in the shape that each wants, and their commands do what they say."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CI = ROOT / "deploy" / "ci"
SCHEMAS = ROOT / "tests" / "gwctl" / "schemas"
GOOD = "version: 1\nlisteners: {http: {port: 8080}}\n"
TESTS = "version: 1\ntests: [{name: nobody, given: {url: 'http://a.example:8080/'}, expect: {status: 404}}]\n"
BAD = GOOD.replace("port", "prot")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def check(document: Any, name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(document)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "gateway").mkdir()
    return tmp_path


def shell(command: str, where: Path) -> int:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["sh", "-ec", command], cwd=where, env=environment, capture_output=True).returncode


def test_the_workflow_is_one_and_finds_what_is_wrong(checkout: Path) -> None:
    workflow = loaded(CI / "github.yml")
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads the key so
    check(workflow, "github-workflow")
    install, annotate, tests, report = (step["run"] for step in workflow["jobs"]["validate"]["steps"] if "run" in step)
    assert install == "pip install 'tollhouse[up]'"
    (checkout / "gateway" / "tests.yaml").write_text(TESTS)
    for text, code in ((GOOD, 0), (BAD, 3)):
        (checkout / "gateway" / "routes.yaml").write_text(text)
        assert shell(annotate, checkout) == code
        assert shell(tests, checkout) == code
        assert shell(report, checkout) == 0, "the report of a bad gateway is uploaded too"
        results = json.loads((checkout / "gateway.sarif").read_text())["runs"][0]["results"]
        assert bool(results) == bool(code)


def test_the_gitlab_job_writes_its_report(checkout: Path) -> None:
    job = loaded(CI / "gitlab.yml")["gateway"]
    (checkout / "gateway" / "routes.yaml").write_text(BAD)
    assert shell(job["script"][1], checkout) == 3
    (issue, *_) = json.loads((checkout / job["artifacts"]["reports"]["codequality"]).read_text())
    assert issue["location"]["path"] == "gateway/routes.yaml"


def test_the_hooks_are_hooks_and_run(checkout: Path) -> None:
    hooks = loaded(ROOT / ".pre-commit-hooks.yaml")
    check(hooks, "pre-commit-hooks")
    used = {hook["id"] for repo in loaded(CI / "pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert used == {hook["id"] for hook in hooks}
    file = checkout / "gateway" / "routes.yaml"
    for hook in hooks:
        file.write_text(GOOD)
        assert shell(shlex.join([*shlex.split(hook["entry"]), str(file)]), checkout) == 0, hook["id"]
    file.write_text(BAD)
    assert shell(f"gwctl validate {file}", checkout) == 3
