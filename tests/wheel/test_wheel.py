"""The wheel, installed away from this tree: it brings all that it needs along, and its command runs from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, ROOT, cwd=target)
    (built,) = target.glob("*.whl")
    return built


def test_it_holds_the_rooms_and_nothing_of_envoys_import_names(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"gateway", "db", "protos", "xds_server", "policy", "admin", "gwctl"}
    assert "gwctl/data/envoy/bootstrap.yaml" in names
    assert "gwctl/data/examples/100x-platform/gateway.yaml" in names
    assert any(name.startswith("db/migrations/versions/") for name in names)


def test_it_runs_from_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """Into a fresh environment that shares only the third parties of this one, at their places on its path."""
    home = tmp_path / "home"
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--no-deps", wheel, cwd=tmp_path)
    (site,) = (home / "lib").glob("python3*/site-packages")
    (shared,) = (Path(sys.prefix) / "lib").glob("python3*/site-packages")
    (site / "shared.pth").write_text(f"{shared}\n")  # a .pth found on a .pth's path is not read: our tree stays out
    python, gwctl = home / "bin" / "python", home / "bin" / "gwctl"
    where = run(python, "-c", "import gwctl, db, xds_server; print(gwctl.__file__, db.__file__)", cwd=tmp_path)
    assert where.count(str(site)) == 2, where
    example = site / "gwctl" / "data" / "examples" / "100x-platform"
    assert "valid" in run(gwctl, "validate", example, cwd=tmp_path)
    assert "0.1.0" in run(gwctl, "version", cwd=tmp_path)
    render = "from gwctl import bootstrap; from pathlib import Path; print(bootstrap.__file__)"
    assert str(site) in run(python, "-c", render, cwd=tmp_path)
