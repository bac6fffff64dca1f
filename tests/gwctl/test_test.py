"""`gwctl test`: what holds and what does not, at a real Envoy and without one; that it fails when it should."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gateway.testing import Sent
from gwctl.main import run
from gwctl.proving.counting import Counters

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "payments" / "tests.yaml"
GATEWAY = """\
version: 1
listeners: {http: {port: 8080}}
upstreams: {echo: {type: static, endpoints: [{address: 10.0.0.1, port: 80}]}}
api_keys: {partner: {}}
tiers: {free: {rate_limits: [{name: tiered, limit: 5/minute, per: client}]}}
modules:
  m:
    tier: free
    listener: http
    authentication: {any_of: [partner]}
    routes:
      one:
        match: {path: {prefix: /a}}
        backends: [{upstream: echo}]
        rewrite: {path: {prefix: /b}}
        response_headers: {set: {x-from: gateway}}
        rate_limits: [{name: few, limit: 2/second, mode: local}]
      old: {match: {path: {exact: /old}}, authentication: none, redirect: {path: /a, status: 308}}
"""
TESTS = """\
version: 1
tests:
  - name: limits come back
    steps:
      - given: {url: "http://api.example:8080/a/x", api_key: {client: c1}, repeat: 3, within: 300ms}
        expect: {status: [200, 429], first_limited: 3, limited_by: few, upstream_path: /b/x}
      - after: 30s
        given: {url: "http://api.example:8080/a/x", api_key: {client: c1}}
        expect: {status: 200, response_headers: {x-from: gateway}}
  - name: the tier counts over a longer time
    steps:
      - given: {url: "http://api.example:8080/a", api_key: {client: c1}, repeat: 6, within: 30s}
        expect: {first_limited: 6, limited_by: tiered}
      - given: {url: "http://api.example:8080/a", api_key: {client: c2}}
        expect: {status: 200}
  - name: a wrong key
    given: {url: "http://api.example:8080/a", api_key: {state: wrong}}
    expect: {status: 401, denied_by: authentication.partner}
  - name: the old address
    given: {url: "http://api.example:8080/old"}
    expect: {route: m/old, status: 308, location: "http://api.example:8080/a"}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").write_text(GATEWAY)
    (tmp_path / "tests.yaml").write_text(TESTS)
    return tmp_path


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = run(["test", *arguments, "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("more", [(), ("--offline",)])
def test_the_example_passes_both_ways(capsys: pytest.CaptureFixture[str], more: tuple[str, ...]) -> None:
    code, found = outcome(capsys, str(EXAMPLE), *more)
    assert code == 0
    assert (found["passed"], found["failed"], found["envoy"]) == (3, 0, not more)


@pytest.mark.parametrize("more", [(), ("--offline",)])
@pytest.mark.usefixtures("here")
def test_limits_steps_and_answers_of_the_gateway(capsys: pytest.CaptureFixture[str], more: tuple[str, ...]) -> None:
    code, found = outcome(capsys, "tests.yaml", "--fail-under", "100%", *more)
    assert [case["failures"] for case in found["tests"]] == [[], [], [], []]
    assert (code, found["disagreements"], found["coverage"]["untested"]) == (0, 0, [])


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("first_limited: 3", "first_limited: 2", "steps[0]: first_limited: expected 2, is 3"),
        ("limited_by: few", "limited_by: tiered", "steps[0]: limited_by: expected tiered, is few"),
        ("status: 401", "status: 403", "status: expected 403, is 401"),
        ("authentication.partner", "tier", "denied_by: expected tier, is authentication.partner"),
        ("upstream_path: /b/x", "upstream_path: /a/x", "steps[0]: upstream_path: expected /a/x, is /b/x"),
        ("after: 30s", "after: 0s", "steps[1]: status: expected 200, is 429"),
    ],
)
def test_what_does_not_hold_is_said(
    capsys: pytest.CaptureFixture[str], here: Path, right: str, wrong: str, said: str
) -> None:
    (here / "tests.yaml").write_text(TESTS.replace(right, wrong))
    code, found = outcome(capsys, "tests.yaml", "--offline")
    assert code == 3
    assert said in [line for case in found["tests"] for line in case["failures"]]


def test_a_header_that_envoy_does_not_send_fails(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "tests.yaml").write_text(TESTS.replace("x-from: gateway}}\n  -", "x-from: nobody}}\n  -"))
    code, found = outcome(capsys, "tests.yaml")
    assert code == 3
    assert found["tests"][0]["failures"] == ["steps[1]: response_headers.x-from: expected nobody, is gateway"]


@pytest.mark.usefixtures("here")
def test_an_envoy_that_does_otherwise_is_a_failure_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if nothing were counted here: Envoy then refuses what is explained as let through."""
    monkeypatch.setattr(Counters, "sent", lambda _, found: Sent(found))
    assert run(["test", "tests.yaml"]) == 1
    said = capsys.readouterr()
    assert "Envoy disagrees: status: explained 200, Envoy 429" in said.out
    assert "a real Envoy did otherwise" in said.err


def test_wrong_words_and_names(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "tests.yaml").write_text(TESTS.replace("m/old", "m/odl"))
    assert run(["test", "tests.yaml", "--offline"]) == 3
    said = capsys.readouterr().err
    assert "GW201" in said
    assert "did you mean 'm/old'?" in said
    (here / "tests.yaml").write_text(TESTS.replace("denied_by", "denyed_by"))
    assert run(["test", "tests.yaml", "--offline"]) == 3
    assert "did you mean 'denied_by'" in capsys.readouterr().err


def test_coverage_and_junit(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "tests.yaml").write_text(TESTS[: TESTS.index("  - name: the old")].replace("status: 401", "status: 200"))
    code, found = outcome(capsys, "tests.yaml", "--offline", "--coverage")
    assert [one["name"] for one in found["coverage"]["untested"]] == ["m/old"]
    assert found["coverage"]["untested"][0]["place"].startswith("routes.yaml:18:")
    assert run(["test", "tests.yaml", "--offline", "-o", "junit"]) == code == 3
    (suite,) = ElementTree.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "status: expected 200, is 401"


def test_the_documented_tests_pass(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    page = (EXAMPLE.parent.parent.parent / "docs" / "testing.md").read_text()
    (here / "shown.tests.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    code, found = outcome(capsys, "shown.tests.yaml", "-f", str(EXAMPLE.parent))
    assert (code, found["passed"]) == (0, 2)


def test_tests_are_no_part_of_the_gateway_beside_them(here: Path) -> None:
    (here / "more.tests.yaml").write_text(TESTS)
    assert run(["validate", "--no-envoy", str(here)]) == 0
