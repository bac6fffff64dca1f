"""No credential is in any log, status or list, whatever happened to the requests that carried it."""

import base64
import os
import signal
from pathlib import Path

import pytest

from tests.support.gateway import until
from tests.support.lab import Lab


@pytest.fixture
def canaries(lab: Lab) -> dict[str, bytes]:
    """Credentials of every kind, each used well and badly."""
    key, token, hs = lab.gateway.key("free", "canary"), lab.hs_token(sub="canary"), lab.hs256
    admin = (lab.gateway.state_dir / "token").read_text().strip()
    pepper = (lab.gateway.state_dir / "pepper").read_bytes()
    with_token = {"authorization": f"Bearer {token}"}
    for headers in ({"x-api-key": key}, with_token, {"x-api-key": f"{key},{key}"}, {"x-api-key": key[:-1]}):
        lab.gateway.client.get("/orders/1", headers=headers)
        lab.gateway.client.get("/nothing", headers=headers)
        lab.gateway.client.get("/gold/1", headers=headers)
    lab.gateway.get(f"/orders/1?access_token={token}&key={key}")
    os.kill(lab.gateway.pids["decisions"], signal.SIGKILL)  # what is logged about failures counts as well
    lab.gateway.client.get("/orders/1", headers=with_token)
    until(lambda: lab.gateway.client.get("/orders/1", headers=with_token).status_code == 200)
    return {
        "key": key.encode(),
        "key's secret": key.split("_")[3].encode(),
        "token": token.encode(),
        "admin token": admin.encode(),
        "hs256": hs,
        "hs256 as JWK": base64.urlsafe_b64encode(hs).rstrip(b"="),
        "pepper": pepper.strip(),
    }


def written(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_no_credential_is_written_or_said(lab: Lab, canaries: dict[str, bytes]) -> None:
    logs = lab.gateway.state_dir / "logs"
    until(lambda: b"/orders/1" in (logs / "envoy-1.log").read_bytes(), what="the access log is written")
    texts = written(logs)
    assert {name.split(".")[0] for name in texts} >= {"control-plane", "decisions", "envoy-1", "postgres", "valkey"}
    for command in (["status"], ["keys", "list"], ["version"]):
        done = lab.gateway.gwctl(*command, "-o", "json")
        texts[" ".join(command)] = (done.stdout + done.stderr).encode()
    texts["state.json"] = (lab.gateway.state_dir / "state.json").read_bytes()
    for what, canary in canaries.items():
        assert len(canary) >= 16
        assert [where for where, text in texts.items() if canary in text] == [], what
