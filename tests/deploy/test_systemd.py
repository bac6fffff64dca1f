"""The units name commands, options and variables that exist."""

import re
from pathlib import Path

import click
import pytest

from gwctl.main import cli

UNITS = sorted((Path(__file__).parent.parent.parent / "deploy" / "systemd").glob("*.service"))


def command_of(unit: str) -> click.Command:
    words = re.search(r"^ExecStart=/opt/tollhouse/bin/gwctl (.*)$", unit, re.MULTILINE)
    assert words
    command: click.Command = cli
    for word in words[1].split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found, word
        command = found
    return command


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_unit(path: Path) -> None:
    unit = path.read_text()
    command = command_of(unit)
    variables = {str(p.envvar): p.required for p in command.params if isinstance(p, click.Option)}
    written = set(re.findall(r"TOLLHOUSE_[A-Z_]+", unit))
    assert written <= variables.keys()
    assert {name for name, required in variables.items() if required} <= written, "what must be said is said"


def test_there_are_units() -> None:
    assert len(UNITS) == 3
