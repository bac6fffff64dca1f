"""`gwctl init`: a first document that is valid as it stands, and never over one that is there."""

from pathlib import Path

import pytest

from gwctl.commands.init import STARTER
from gwctl.exits import Exit
from gwctl.formatting import canonical
from gwctl.main import run

PETSTORE = Path(__file__).parent / "importing" / "openapi.yaml"


def test_the_starter_is_valid_and_in_canonical_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    assert (tmp_path / "routes.yaml").read_text() == STARTER == canonical("x", STARTER)
    assert run(["validate", "routes.yaml"]) == 0
    said = capsys.readouterr()
    assert "warning" not in said.out
    assert run(["init"]) == Exit.FAILED
    assert "--force" in capsys.readouterr().err
    assert run(["init", "--force"]) == 0


def test_to_standard_output(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", "-"]) == 0
    assert capsys.readouterr().out == STARTER
    assert list(tmp_path.iterdir()) == []


def test_from_openapi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "routes.yaml"
    assert run(["init", "--from", str(PETSTORE), str(out)]) == 0
    assert "lost: tags: " in capsys.readouterr().err
    assert run(["validate", str(out)]) == 0
