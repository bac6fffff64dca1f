"""`gwctl up` and `gwctl down`, as an operator runs them: one command to a served request, another to nothing left."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.gateway import GWCTL, Gateway, free_port, until

DOCUMENT = """\
version: 1
owner: tiny
listeners:
  http: {port: 80}
upstreams:
  echo: {type: static, endpoints: [{address: 127.0.0.1, port: ECHO}]}
jwt_providers:
  hs: {issuer: "https://i.example", audiences: [a], jwks: {hs256: {secret: signing}}, tier_claim: tier}
api_keys:
  keys: {}
tiers:
  free: {rate_limits: [{limit: 100/hour, per: client}]}
modules:
  open: {tier: free, listener: http, authentication: none, routes: {ping: PING}}
  closed:
    tier: free
    listener: http
    authentication: {any_of: [hs, keys]}
    routes: {all: {match: {path: {prefix: /closed}}, backends: [{upstream: echo}]}}
"""
PING = "{match: {path: {exact: /ping}}, respond: {status: 200, body: pong}}"


def write(directory: Path, name: str = "tiny.yaml", echo: int = 0) -> Path:
    file = directory / name
    file.write_text(DOCUMENT.replace("PING", PING).replace("ECHO", str(echo or free_port())))
    return file


def alive(pids: dict[str, int]) -> list[str]:
    return [
        name
        for name, pid in pids.items()
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def canaries(state_dir: Path) -> list[bytes]:
    """What must be in no output and no log."""
    return [(state_dir / name).read_bytes().strip() for name in ("token", "pepper")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("up")
    gateway = Gateway(directory / "state", write(directory), options=("--no-demo", "--envoys", "2"))
    yield gateway
    gateway.close()
    assert alive(gateway.up["pids"]) == []
    assert not (gateway.state_dir / "state.json").exists()


def test_it_serves_when_the_command_returns_and_says_where_everything_is(running: Gateway) -> None:
    assert httpx.get(f"{running.url}/ping").text == "pong"
    assert running.up["schema"] == "gwctl.up/v1"
    assert running.up["gateway"] == running.up["listeners"]["http"] == f"http://127.0.0.1:{running.port}"
    parts = {"postgres", "valkey", "control-plane", "decisions", "envoy-1", "envoy-2", "supervisor"}
    assert set(running.up["pids"]) == parts
    assert sorted(alive(running.up["pids"])) == sorted(parts)
    assert set(running.up) >= {
        *("xds", "control_api", "ext_authz", "ratelimit", "envoy_admin", "database_url", "valkey_url", "state_dir")
    }
    assert json.loads((running.state_dir / "state.json").read_text()) == running.up


def test_both_envoys_serve_on_one_port_and_have_the_revision(running: Gateway) -> None:
    status = running.status()
    assert {(node["id"], node["state"]) for node in status["nodes"]} == {("envoy-1", "synced"), ("envoy-2", "synced")}
    for admin in running.up["envoy_admins"].values():
        assert httpx.get(f"{admin}/ready").text == "LIVE\n"
        assert httpx.post(f"{admin}/quitquitquit").status_code == 403
    for _ in range(20):
        assert httpx.get(f"{running.url}/ping").status_code == 200


def test_a_second_up_changes_nothing_and_says_why(running: Gateway, tmp_path: Path) -> None:
    for options in ((), ("--detach",), ("--detach", "-o", "json")):
        done = running.gwctl("up", *options, str(write(tmp_path)))
        assert done.returncode == 1
        assert done.stdout == ""
        assert "already" in done.stderr
        assert "gwctl down" in done.stderr
    assert alive(running.up["pids"]) == list(running.up["pids"])


def test_a_random_secret_is_made_for_a_shared_key_and_used(running: Gateway) -> None:
    assert len((running.state_dir / "secrets" / "signing").read_bytes()) == 32
    token = running.token("hs", "ada", "--tier", "free", "--claim", "org=acme", "--scope", "x")
    answer = running.get("/closed/1", authorization=f"Bearer {token}")
    assert answer.status_code == 503, "no upstream, but let through"
    assert running.get("/closed/1").status_code == 401


def test_keys_are_shown_once_and_listed_without_themselves(running: Gateway) -> None:
    made = running.ask("keys", "create", "--tier", "free", "--name", "ci", "--scope", "a:b", "--expires-in", "12h")
    assert made["schema"] == "gwctl.keys.create/v1"
    done = running.gwctl("keys", "create", "--tier", "free", "--name", "plain")
    assert re.fullmatch(r"gw_live_\w+\n", done.stdout), "standard output has the key and nothing else"
    running.ask("keys", "revoke", made["id"])
    listed = running.gwctl("keys", "list", "-o", "json").stdout
    states = {key["id"]: key["revoked_at"] for key in json.loads(listed)["keys"]}
    assert states[made["id"]] is not None
    assert made["key"] not in listed
    shown = running.gwctl("keys", "list").stdout
    assert re.search(rf"^{made['id']} +ci +free +revoked +a:b ", shown, re.MULTILINE), shown
    assert made["id"] not in running.gwctl("keys", "list", "--active").stdout
    assert running.gwctl("keys", "create", "--tier", "freee", "--name", "x").returncode == 3
    assert running.gwctl("keys", "revoke", "../x").returncode == 3


def test_the_server_is_found_by_url_and_token_too(running: Gateway, tmp_path: Path) -> None:
    api, token = running.up["control_api"], (running.state_dir / "token").read_text().strip()
    nowhere = ("--state-dir", str(tmp_path))
    assert running.gwctl("status", *nowhere, "--server", api, "--token", token).returncode == 0
    file = str(running.state_dir / "token")
    assert running.gwctl("status", *nowhere, "--server", api, "--token-file", file).returncode == 0
    assert running.gwctl("status", *nowhere, "--server", api, "--token", "gwt_wrong").returncode == 7
    assert running.gwctl("status", *nowhere).returncode == 8


def test_apply_says_what_changed_and_waits_for_both(running: Gateway, tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text(file.read_text().replace("pong", "pang"))
    dry = running.ask("apply", str(file), "--dry-run")
    assert {(c["kind"], c["name"], c["action"]) for c in dry["changed"]} >= {("modules", "open", "updated")}
    assert httpx.get(f"{running.url}/ping").text == "pong"
    done = running.gwctl("apply", "-", "--wait", "-m", "why not", stdin=file.read_text())
    assert done.returncode == 0, done.stderr
    assert "~ modules open" in done.stdout
    assert "live on 2 Envoys" in done.stdout
    for _ in range(20):
        assert httpx.get(f"{running.url}/ping").text == "pang"
    revision = running.status()["revision"]
    stale = running.gwctl("apply", str(file), "--expect-revision", str(revision - 1))
    assert stale.returncode == 4
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(file.read_text().replace("exact: /ping", "exakt: /ping"))
    refused = running.gwctl("apply", str(wrong), "-o", "json")
    assert refused.returncode == 3
    document = json.loads(refused.stdout)
    assert document["problems"][0]["code"] == "GW101"
    text = running.gwctl("apply", str(wrong))
    local = running.gwctl("validate", "--no-envoy", str(wrong))
    assert text.stdout == ""
    assert local.stdout.strip() in text.stderr, "the server's problems look like those found here"


def test_an_envoy_that_does_not_answer_makes_wait_time_out(running: Gateway, tmp_path: Path) -> None:
    file = write(tmp_path)
    pid = running.pids["envoy-2"]
    os.kill(pid, signal.SIGSTOP)
    try:
        file.write_text(file.read_text().replace("pong", "ping-timeout"))
        done = running.gwctl("apply", str(file), "--wait", "--timeout", "700ms")
        assert done.returncode == 6, done.stderr
        assert "envoy-2" in done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
    assert running.gwctl("apply", str(file), "--wait").returncode == 0


def test_a_killed_part_comes_back_under_a_new_pid(running: Gateway) -> None:
    before = running.pids
    os.kill(before["valkey"], signal.SIGKILL)
    until(lambda: running.pids["valkey"] != before["valkey"])
    assert {k: v for k, v in running.pids.items() if k != "valkey"} == {
        k: v for k, v in before.items() if k != "valkey"
    }
    running.up["pids"] |= running.pids


def test_no_secret_is_in_a_log(running: Gateway) -> None:
    key = running.key("free", "canary").encode()
    token = running.token("hs", "canary").encode()
    running.get("/closed/1", x_api_key=key.decode())
    running.get("/closed/1", authorization=f"Bearer {token.decode()}")
    for log in (running.state_dir / "logs").iterdir():
        content = log.read_bytes()
        for canary in (*canaries(running.state_dir), key, token):
            assert canary not in content, f"{log.name} has a secret"


# ------------------------------------------------------------------------------------------------- runs of their own
def environment(state_dir: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GWCTL_", "TOLLHOUSE_"))}
    return kept | {"GWCTL_STATE_DIR": str(state_dir)}


def gwctl(state_dir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*GWCTL, *arguments], env=environment(state_dir), capture_output=True, text=True, timeout=120, check=False
    )


def test_ctrl_c_stops_everything_and_the_lines_it_printed_had_worked(tmp_path: Path) -> None:
    state_dir, file = tmp_path / "state", write(tmp_path)
    command = [*GWCTL, "up", str(file)]
    with subprocess.Popen(
        command, env=environment(state_dir), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        lines: list[str] = []
        for line in up.stdout:
            lines.append(line.rstrip())
            if "Ctrl-C" in line:
                break
        state: dict[str, Any] = json.loads((state_dir / "state.json").read_text())
        statuses = [ask(line) for line in lines if line.startswith("curl ")]
        up.send_signal(signal.SIGINT)
        _, errors = up.communicate(timeout=60)
    assert statuses == [200, 200, 401], lines
    assert up.returncode == 0, errors
    assert alive(state["pids"]) == []
    assert gwctl(state_dir, "down").returncode == 0, "down is content if nothing runs"
    # ... and the next run serves what was stored, without being told the file again
    again = gwctl(state_dir, "up", "--detach", "-o", "json", "--no-demo")
    assert again.returncode == 0, again.stderr
    try:
        found = json.loads(again.stdout)
        assert found["gateway"] == state["gateway"], "the ports stay where they can"
        assert httpx.get(f"{found['gateway']}/ping").text == "pong"
        os.kill(found["pids"]["supervisor"], signal.SIGKILL)
        until(lambda: alive(found["pids"]) == [], what="the kernel ends the children of a killed supervisor")
    finally:
        down = gwctl(state_dir, "down", "-o", "json")
    assert json.loads(down.stdout) == {"schema": "gwctl.down/v1", "stopped": False}


def ask(curl: str) -> int:
    done = subprocess.run(
        [*shlex.split(curl), "-s", "-o", "/dev/null", "-w", "%{http_code}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return int(done.stdout)


def test_a_wrong_document_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(DOCUMENT.replace("PING", PING).replace("ECHO", "99999"))
    for options in ((), ("--detach",)):
        done = gwctl(tmp_path / "state", "up", *options, str(file))
        assert done.returncode == 3, done.stderr
        assert "wrong.yaml:6:" in done.stderr
        assert "^" in done.stderr
    assert not (tmp_path / "state" / "pg").exists()


def test_a_part_that_fails_is_named_with_its_log_and_nothing_stays(tmp_path: Path) -> None:
    state_dir, file = tmp_path / "state", write(tmp_path)
    (state_dir / "pg" / "data").mkdir(parents=True)
    (state_dir / "pg" / "data" / "PG_VERSION").write_text("9.0\n")
    done = gwctl(state_dir, "up", "--detach", str(file))
    assert done.returncode == 1
    assert "postgres does not start" in done.stderr
    assert "postgres.log ends with" in done.stderr
    mine = [p.pid for p in psutil.process_iter(["cmdline"]) if str(state_dir) in " ".join(p.info["cmdline"] or ())]
    assert mine == []


def test_a_port_in_use_is_said(tmp_path: Path, running: Gateway) -> None:
    done = gwctl(tmp_path / "state", "up", "--detach", "--port", str(running.port), str(write(tmp_path)))
    assert done.returncode == 1
    assert f"port {running.port} is in use" in done.stderr


def test_the_command_is_there_as_a_module_in_any_directory(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "gwctl", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "Put files live" in done.stdout
