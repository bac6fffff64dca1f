"""`gwctl validate`: what it says of good and bad files, word for word, and with which exit code.

`TOLLHOUSE_GOLDEN=update pytest tests/gwctl/test_validate.py` rewrites the expected outputs.
"""

import io
import json
import os
from pathlib import Path

import pytest

from gwctl.exits import Exit
from gwctl.main import run

GOLDEN = Path(__file__).parent / "golden"
GOOD = """\
version: 1
owner: team
listeners:
  http: {port: 8080}
  https: {port: 8443, protocol: HTTPS, tls: {certificates: [{secret: site}]}}
upstreams:
  echo: {type: static, endpoints: [{address: 127.0.0.1, port: 9}]}
  far: {type: dns, host: far.internal, port: 443, tls: {sni: far.internal, ca_secret: internal-ca}}
jwt_providers:
  hs: {issuer: "https://id.example", audiences: [api], jwks: {hs256: {secret: signing}}, tier_claim: tier}
api_keys:
  keys: {}
tiers:
  free: {rate_limits: [{limit: 100/hour, per: client}]}
modules:
  orders:
    tier: free
    listener: http
    authentication: {any_of: [hs, keys]}
    routes:
      all: {match: {path: {prefix: /orders}}, backends: [{upstream: echo}, {upstream: far}]}
  site:
    tier: free
    listener: https
    authentication: none
    routes:
      ping: {match: {path: {exact: /ping}}, respond: {status: 200, body: pong}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TOLLHOUSE_GOLDEN") == "update":
        path.write_text(text)
    assert text == path.read_text()


def test_a_real_envoy_is_asked_and_secrets_are_stood_in_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "good.yaml"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert said.startswith("good.yaml: 2 modules, 2 routes, 2 upstreams, valid (Envoy ")
    assert "accepted it in" in said


def test_envoy_can_be_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "--no-envoy", "good.yaml"]) == 0
    assert capsys.readouterr().out == "good.yaml: 2 modules, 2 routes, 2 upstreams, valid (Envoy was not asked)\n"


BAD = {
    "unknown-field": ("exact: /ping", "exakt: /ping"),
    "dangling": ("upstream: echo}, ", "upstream: eccho}, "),
    "duplicate-key": ("  keys: {}", "  keys: {}\n  keys: {}"),
    "unit": ("limit: 100/hour", "limit: 100"),
    "syntax": ("modules:", "modules: ["),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_said_of_a_bad_file(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = BAD[name]
    assert old in GOOD
    (here / "bad.yaml").write_text(GOOD.replace(old, new))
    assert run(["validate", "bad.yaml"]) == Exit.INVALID
    said = capsys.readouterr()
    golden(name, said.out)
    assert said.err == ""
    assert run(["validate", "bad.yaml", "-o", "json"]) == Exit.INVALID, "the same exit code in every format"
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "gwctl.validate/v1"
    assert document["valid"] is False
    for problem in document["problems"]:
        assert f"bad.yaml:{problem['line']}:{problem['column']}: {problem['severity']}[{problem['code']}]" in said.out


def test_json_of_a_good_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "--no-envoy", "good.yaml", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": "gwctl.validate/v1", "valid": True, "envoy": None, "problems": []}


def test_a_directory_is_every_document_below_it_and_f_is_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, modules = GOOD.split("modules:\n")
    (here / "site" / "modules").mkdir(parents=True)
    (here / "site" / "gateway.yaml").write_text(head)
    (here / "site" / "modules" / "all.yml").write_text(f"version: 1\nowner: team\nmodules:\n{modules}")
    (here / "site" / "README.md").write_text("not a document")
    for arguments in (["site"], ["-f", "site"], ["-f", "site/gateway.yaml", "site/modules"]):
        assert run(["validate", "--no-envoy", *arguments]) == 0
        assert capsys.readouterr().out == "2 files: 2 modules, 2 routes, 2 upstreams, valid (Envoy was not asked)\n"


def test_standard_input(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.replace("exact", "exakt").encode())))
    assert run(["validate", "--no-envoy", "-"]) == Exit.INVALID
    assert "<stdin>:27:29: error[GW101]" in capsys.readouterr().out


def test_a_file_that_is_not_utf8(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "latin.yaml").write_bytes("version: 1\nowner: café\n".encode("latin-1"))
    assert run(["validate", "latin.yaml"]) == Exit.INVALID
    assert "latin.yaml:2:11: error[GW002]" in capsys.readouterr().err


def test_an_empty_directory_is_not_a_valid_gateway(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    assert run(["validate", "empty"]) == Exit.FAILED
    assert "holds no .yaml file" in capsys.readouterr().err
