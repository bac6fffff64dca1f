"""The shape of the command line: exit codes, lazy imports, one JSON document a command, nothing on the wrong stream."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gwctl.client import refusal
from gwctl.exits import MEANING, Exit
from gwctl.main import COMMANDS, cli, exit_codes, run

SLOW = (
    "grpc",
    "pydantic",
    "rich",
    "httpx",
    "yaml",
    "sqlalchemy",
    "cryptography",
    "google.protobuf",
    "asyncio",
    "psycopg",
)
IMPORTED = (
    "import sys; from gwctl.main import run; code = run({arguments!r}); print(code, *sys.modules, file=sys.stderr)"
)


def modules_after(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", IMPORTED.format(arguments=list(arguments))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    code, *modules = done.stderr.split()
    assert code == "0"
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("help", "exit-codes")])
def test_help_imports_nothing_slow(arguments: tuple[str, ...]) -> None:
    found = modules_after(*arguments)
    assert not {name for name in SLOW if name in found}
    assert not {name for name in found if name.split(".")[0] in ("gateway", "db", "admin", "policy", "xds_server")}


def test_a_command_that_only_asks_the_server_imports_none_of_the_planes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORTED.format(arguments=["status", "--state-dir", str(tmp_path)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    modules = done.stderr.splitlines()[-1].split()
    assert modules[0] == "8"
    assert not {
        name for name in ("grpc", "sqlalchemy", "pydantic", "google.protobuf", "db", "admin") if name in modules
    }


def test_every_command_is_where_the_list_says_and_has_its_line() -> None:
    context = click.Context(cli)
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert line.endswith(".")
        assert command.help, f"{name} explains nothing"


def test_every_option_of_every_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["schema"] == "gwctl.help/v1"
    waiting = [tree]
    while waiting:
        command = waiting.pop()
        waiting += command.get("commands", [])
        for option in command["options"]:
            assert option["help"] or option["names"][0].startswith("--log-"), f"{command['name']} {option['names']}"
    assert {c["name"] for c in tree["commands"]} == set(COMMANDS)


def test_exit_codes_are_the_documented_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 130]
    assert run(["help", "exit-codes"]) == 0
    assert capsys.readouterr().out == exit_codes()
    assert set(MEANING) == set(Exit)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status", "--typo"],
        ["status", "--exit-code", "--typo"],
        ["keys", "create", "--name", "x"],
        ["keys", "create", "--tier", "free"],
        ["apply"],
        ["validate", "/no/such/file.yaml"],
        ["apply", "--timeout", "15", "-"],
        ["status", "-o", "xml"],
        ["token", "mint", "--provider", "p", "--subject", "s", "--claim", "novalue"],
        ["help", "no-such-topic"],
        ["serve", "demo", "--ports", "a"],
        ["serve", "demo", "--ports", "a=1", "--host", "0.0.0.0"],
    ],
)
def test_wrong_usage_is_64_and_says_so_on_standard_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "rror: " in said.err


def test_no_gateway_is_8_and_names_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--state-dir", str(tmp_path)]) == Exit.UNREACHABLE
    said = capsys.readouterr()
    assert said.out == ""
    assert "gwctl up" in said.err


def test_a_server_that_is_not_there_is_8(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["status"], ["keys", "list"], ["apply", __file__]):
        assert run([*command, "--server", "http://127.0.0.1:1", "--token", "t", "-o", "json"]) == Exit.UNREACHABLE
        assert capsys.readouterr().out == ""


def test_no_token_is_7(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["status", "--server", "http://127.0.0.1:1"]) == Exit.DENIED
    assert run(["status", "--server", "http://127.0.0.1:1", "--token-file", str(tmp_path / "none")]) == Exit.DENIED
    assert "token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 7), (403, 7), (404, 1), (409, 4), (412, 4), (413, 3), (422, 3), (500, 1), (502, 8), (503, 8), (504, 6)],
)
def test_an_error_of_the_server_has_its_exit_code(status: int, code: int) -> None:
    problem = {"status": status, "title": "T", "detail": "what happened", "errors": [{"message": "m"}, "junk"]}
    found = refusal(status, json.dumps(problem))
    assert (found.exit_code, found.message, found.errors) == (code, "what happened", ({"message": "m"},))


@pytest.mark.parametrize("text", ["", "<html>Bad Gateway</html>", "[]", "null"])
def test_an_error_that_is_no_problem_document_is_still_one(text: str) -> None:
    found = refusal(503, text)
    assert found.exit_code == Exit.UNREACHABLE
    assert "503" in found.message


def test_version_names_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gwctl.version/v1"
    assert found["envoy"].count(".") == 2


def test_python_minus_m_works_and_exits_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gwctl", "nope"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 64
    assert "No such command 'nope'" in done.stderr


def test_a_reader_that_goes_away_is_no_crash() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gwctl", "help", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
