"""docs/gwctl.md says what the command does: its exit codes, every command, every variable, every option of `up`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gwctl.exits import MEANING
from gwctl.main import run

TEXT = (Path(__file__).parent.parent.parent / "docs" / "gwctl.md").read_text()


@pytest.fixture
def tree(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["help", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def commands(command: dict[str, Any]) -> list[dict[str, Any]]:
    return [command, *(found for below in command.get("commands", []) for found in commands(below))]


def test_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", TEXT, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == {int(code): text for code, text in MEANING.items()}


def test_every_variable_and_no_other(tree: dict[str, Any]) -> None:
    known = {option["env"] for command in commands(tree) for option in command["options"]} - {None}
    assert set(re.findall(r"\b(?:GWCTL|TOLLHOUSE)_[A-Z_]+\b", TEXT)) == known


def test_every_command(tree: dict[str, Any]) -> None:
    for command in tree["commands"]:
        assert re.search(rf"\b{command['name']}\b", TEXT), command["name"]
        for below in command.get("commands", []):
            assert re.search(rf"\b{below['name']}\b", TEXT), f"{command['name']} {below['name']}"


def test_every_option_of_up_apply_and_bootstrap(tree: dict[str, Any]) -> None:
    for command in tree["commands"]:
        if command["name"] in ("up", "apply", "bootstrap"):
            for option in command["options"]:
                assert any(name in TEXT for name in option["names"]), f"{command['name']} {option['names']}"


def test_the_commands_that_are_shown_exist(tree: dict[str, Any]) -> None:
    names = {command["name"] for command in commands(tree)}
    shown = re.findall(r"^\$ gwctl (\w+)", TEXT, re.MULTILINE)
    assert len(shown) > 5
    assert set(shown) <= names
