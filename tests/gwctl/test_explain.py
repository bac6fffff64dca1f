"""`gwctl explain` without a server: forms of the result, credentials that go nowhere, a real Envoy that agrees."""

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from gwctl.main import run
from gwctl.proving.runner import Observed
from tests.support.tokens import broken_signature, key_set, signing_keys

SECRET = "s3cr3tPartOfAKey0123456789abcdefXY"
KEY = f"gw_live_4fXc9QpL2m_{SECRET}_1bTq3Z"
DOCUMENT = """\
version: 1
listeners: {http: {port: 8080}}
upstreams: {echo: {type: static, endpoints: [{address: 10.0.0.1, port: 80}]}}
jwt_providers:
  acme: {issuer: "https://acme.example/", audiences: [lab], jwks: {inline: 'KEYS'}, tier_claim: plan}
api_keys: {partner: {}}
tiers: {free: {unlimited: true}, gold: {unlimited: true}}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [acme, partner]}
    routes:
      all:
        match: {path: {prefix: /a}}
        backends: [{upstream: echo}]
        rewrite: {path: {prefix: /b}}
        authorization: {rules: [{name: readers, action: allow, scopes: [read]}]}
"""


@pytest.fixture(scope="module")
def signers() -> dict[str, Any]:
    return {"RS256": signing_keys()["RS256"]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signers: dict[str, Any]) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").write_text(DOCUMENT.replace("KEYS", key_set(signers)))
    return tmp_path


def token(signers: dict[str, Any], **more: Any) -> str:
    claims = {"iss": "https://acme.example/", "aud": "lab", "sub": "u1", "exp": int(time.time()) + 60, **more}
    return jwt.encode(claims, signers["RS256"], algorithm="RS256", headers={"kid": "RS256"})


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(["explain", "GET", "http://api.example:8080/a/x", "-f", "routes.yaml", *arguments])
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    return code, said.out


@pytest.mark.usefixtures("here")
def test_text_names_places(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(capsys, "--jwt", "scope=read write,plan=gold")
    assert code == 0
    assert "rewrite     path /a/x -> /b/x" in said
    assert "routes.yaml:14:7" in said
    assert said.endswith("the upstream's answer  via_upstream\n")


@pytest.mark.usefixtures("here")
def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(capsys, "--jwt", "scope=none", "-o", "json")
    found = json.loads(said)
    assert code == 0
    assert (found["schema"], found["status"], found["route"]) == ("gwctl.explain/v1", 403, "m/all")
    rule = next(step for step in found["steps"] if step["facts"].get("rule") == "readers")
    assert rule["facts"]["lacks"] == ["needs scope read, has none"]
    assert rule["place"].startswith("routes.yaml:")


@pytest.mark.usefixtures("here")
def test_a_token_is_checked_with_the_documents_keys(
    capsys: pytest.CaptureFixture[str], signers: dict[str, Any]
) -> None:
    good = token(signers, scope="read")
    code, said = asked(capsys, "--jwt", good)
    assert (code, "not proven" in said) == (0, False)
    assert said.endswith("via_upstream\n")
    _, said = asked(capsys, "--jwt", broken_signature(good))
    assert "the signature is wrong" in said
    for part in good.split("."):
        assert part not in said


def test_credentials_may_be_in_a_file(here: Path, capsys: pytest.CaptureFixture[str], signers: dict[str, Any]) -> None:
    (here / "token").write_text(token(signers, scope="read") + "\n")
    assert asked(capsys, "--jwt", "@token")[1].endswith("via_upstream\n")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--key", KEY], 64),
        (["--key", "colour=red"], 64),
        (["--jwt", "nonsense"], 64),
        (["--header", "nonsense"], 64),
        (["--header", f"Authorization: Bearer {SECRET}"], 64),
        (["--certificate", "nonsense"], 64),
        (["--ip", "nonsense"], 3),
        (["--listener", "gone"], 3),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    assert asked(capsys, *arguments)[0] == code


@pytest.mark.usefixtures("here")
def test_files_must_be_a_gateway(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "routes.yaml").write_text("version: 1\nlisteners: [\n")
    assert asked(capsys)[0] == 3


@pytest.mark.usefixtures("here")
def test_a_real_envoy_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = asked(capsys, "--key", "tier=gold,client=c_1,scopes=read", "--live")
    assert (code, said.splitlines()[-1]) == (0, "a real Envoy agrees: 200  via_upstream")


@pytest.mark.usefixtures("here")
def test_disagreement_is_loud(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gwctl.proving.runner.Runner.ask", lambda *_: iter([Observed(500, "m/all", "broken", {})]))
    code, said = asked(capsys, "--jwt", "scope=none", "--live")
    assert code == 1
    assert "!! Envoy disagrees: status: explained 403, Envoy 500" in said


def test_the_page_shows_what_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    page = (root / "docs" / "explain.md").read_text()
    command, shown = re.findall(r"```console\n\$ gwctl (.*?)```\n\n```\n(.*?)```", page, re.DOTALL)[0]
    assert run(shlex.split(command.replace("\\\n", " "))) == 0
    assert capsys.readouterr().out == shown
