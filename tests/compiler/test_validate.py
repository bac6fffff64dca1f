"""The gate: what a real Envoy refuses becomes a problem at its place in the document."""

import stat
from pathlib import Path

import pytest
import yaml
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from gateway.model import decode
from gateway.problems import Path as PathInDocument
from xds_server.compiler import compile  # noqa: A004
from xds_server.compiler.inline import without_secrets
from xds_server.validate import find_envoy, patience, throwaway_certificate, validate

from .golden import CASES, SECRETS, SETTINGS, compiled

ENVOY = find_envoy() or Path("/nonexistent")
BAD = {
    "a regex": ("matching", "/export/[0-9]{4}", "/export/[0-9", ("modules", "m", "routes", "regex"), "missing ]"),
    "a template": ("matching", "/v1/{id}", "/v1/{id", ("modules", "m", "routes", "template"), "Invalid variable"),
    "a header": ("open-routes", "x-set", "host", ("modules", "shop", "routes", "edits"), "may not be modified"),
    "a status": ("upstreams", '"200-204"', '"300-200"', ("upstreams", "checked"), "start < end"),
    "a key": ("decided", "11qYAYKxCrfVS", "!!", ("jwt_providers", "globex"), "globex"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_envoy_refuses_is_placed(what: str) -> None:
    case, good, bad, path, message = BAD[what]
    text = (CASES / case / "in.yaml").read_text()
    assert good in text
    found = compile(decode(yaml.safe_load(text.replace(good, bad))), SETTINGS, SECRETS, strict=True)
    (problem,) = await validate(found.messages, ENVOY, timeout=60)
    assert (problem.code, problem.path) == ("GW701", path)
    assert message in problem.message
    assert "/tmp" not in problem.message


async def test_two_problems_together_are_placed_at_one_of_them() -> None:
    text = (CASES / "matching" / "in.yaml").read_text().replace("[0-9]{4}", "[0-9").replace("{id}", "{id")
    found = compile(decode(yaml.safe_load(text)), SETTINGS, SECRETS, strict=True)
    (problem,) = await validate(found.messages, ENVOY, timeout=60)
    places: set[PathInDocument] = {("modules", "m", "routes", name) for name in ("regex", "template")}
    assert problem.path in places


async def test_a_missing_resource_is_refused() -> None:
    messages = [m for m in compiled("native-jwt").messages if m.DESCRIPTOR.name != "RouteConfiguration"]
    (problem,) = await validate(messages, ENVOY)
    assert "is not there" in problem.message


async def test_what_cannot_be_checked_does_not_pass(tmp_path: Path) -> None:
    (missing,) = await validate(compiled("empty").messages, tmp_path / "envoy")
    assert missing.code == "GW702"
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    (late,) = await validate(compiled("empty").messages, slow, timeout=0.2)
    assert late.code == "GW702"


def test_no_secret_is_written_for_envoy_to_check() -> None:
    found = without_secrets(compiled("tls").messages + compiled("native-jwt").messages, throwaway_certificate())
    written = b"".join(message.SerializeToString() for message in found)
    key = (CASES.parent / "tls" / "site.key").read_bytes()
    assert key not in written
    assert b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY" not in written  # the HS256 key in base64url
    assert throwaway_certificate().key in written


def test_the_environment_says_which_envoy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = find_envoy()
    assert packaged is not None
    assert packaged.name == "envoy"
    monkeypatch.setenv("TOLLHOUSE_ENVOY", str(tmp_path / "mine"))
    assert find_envoy() == tmp_path / "mine"


def test_envoy_is_given_time_by_the_size_of_what_it_checks() -> None:
    small = compiled("empty").messages
    large = [RouteConfiguration(name="x" * 90_000_000)]
    assert patience(small) == pytest.approx(10, abs=0.1)
    assert patience(large) == pytest.approx(100, abs=1)
