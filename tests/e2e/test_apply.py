"""From `gwctl apply` to Envoy: fast, atomic, refused with a place when wrong, and never touching the listener."""

import socket
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import until
from tests.support.lab import Lab


def listener_dump(lab: Lab) -> Any:
    dump = lab.envoy("/config_dump?resource=dynamic_listeners").json()["configs"]
    return [config["active_state"]["listener"] for config in dump]


def revision(lab: Lab) -> int:
    return int(lab.gateway.status()["revision"])


def test_apply_of_a_changed_route_is_live_and_leaves_the_listener_alone(lab: Lab) -> None:
    before = listener_dump(lab)
    stats = lab.envoy_stats("listener_manager.listener_(added|modified|in_place_updated)")
    assert lab.gateway.get("/ping").text == "pong"
    answer = lab.apply("respond: {status: 200, body: pong}", "respond: {status: 200, body: pang}")
    assert lab.gateway.get("/ping").text == "pang", "apply --wait returns when the change is live"
    assert answer["changed"] == [{"kind": "modules", "name": "open", "action": "updated"}]
    assert listener_dump(lab) == before
    assert lab.envoy_stats("listener_manager.listener_(added|modified|in_place_updated)") == stats
    lab.apply("body: pang", "body: pong")


def test_apply_is_live_in_under_a_second(lab: Lab) -> None:
    """The best of five, from the call of the control API to Envoy's first answer of the new kind."""
    token = (lab.gateway.state_dir / "token").read_text().strip()
    text = lab.file.read_text()
    took = []
    with httpx.Client(base_url=lab.gateway.up["control_api"], headers={"authorization": f"Bearer {token}"}) as api:
        for attempt in range(5):
            changed = text.replace("body: pong", f"body: pong-{attempt}")
            started = time.monotonic()
            answer = api.post("/v1/apply", json={"files": [{"name": "routes.yaml", "text": changed}]}, timeout=30)
            assert answer.status_code == 200, answer.text
            until(lambda body=f"pong-{attempt}": lab.gateway.get("/ping").text == body, every=0.005)  # type: ignore[misc]
            took.append(time.monotonic() - started)
    assert min(took) < 1.0, took
    lab.gateway.ask("apply", str(lab.file), "--wait")


def test_an_apply_that_changes_nothing_makes_no_revision(lab: Lab) -> None:
    before = revision(lab)
    answer = lab.gateway.ask("apply", str(lab.file), "--wait")
    assert answer["changed"] == []
    assert revision(lab) == before


def test_an_invalid_file_is_refused_whole(lab: Lab, tmp_path: Path) -> None:
    before, version = revision(lab), lab.envoy("/config_dump").json()["configs"][-1:]
    lines = lab.file.read_text().splitlines()
    lines += [
        "  broken:",
        "    tier: platinum",
        "    listener: http",
        "    authentication: {any_of: [nobody]}",
        "    routes:",
        "      a: {match: {path: {prefx: /a}}, backends: [{upstream: echo}]}",
        "      b: {match: {path: {exact: /b}}, backends: [{upstream: eccho}], timeouts: {request: 15}}",
    ]
    file = tmp_path / "broken.yaml"
    file.write_text("\n".join(lines) + "\n")
    at = len(lines)
    for command in (["validate", "--no-envoy"], ["apply"]):
        done = lab.gateway.gwctl(*command, str(file))
        assert done.returncode == 3, done.stdout + done.stderr
        said = done.stdout + done.stderr
        for place in (f"broken.yaml:{at - 1}:", f"broken.yaml:{at}:"):
            assert place in said, said
        for word in ("prefx", "did you mean 'prefix'", "a duration needs a unit", "^"):
            assert word in said, said
    # What only makes sense once the types are right (references) is reported as soon as they are.
    file.write_text("\n".join(lines).replace("prefx", "prefix").replace("request: 15}", "request: 15s}"))
    said = lab.gateway.gwctl("apply", str(file))
    assert said.returncode == 3
    for word in ("platinum", "nobody", "eccho", "did you mean 'echo'"):
        assert word in said.stdout + said.stderr, said.stdout + said.stderr
    assert revision(lab) == before, "nothing is stored"
    assert lab.gateway.get("/ping").text == "pong"
    assert lab.envoy("/config_dump").json()["configs"][-1:] == version, "nothing is pushed"


def test_a_document_that_is_not_one_is_refused(lab: Lab, tmp_path: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    cases = {"duplicate": "version: 1\nversion: 1\n", "bomb": bomb, "syntax": "version: [1\n", "empty": ""}
    for name, text in cases.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        done = lab.gateway.gwctl("apply", str(file))
        assert done.returncode == 3, f"{name}: {done.stdout}{done.stderr}"
        assert f"{name}.yaml:" in done.stdout + done.stderr


def test_status_names_the_node_and_its_versions(lab: Lab) -> None:
    lab.gateway.ask("apply", str(lab.file), "--wait")
    status = lab.gateway.status()
    assert [node["state"] for node in status["nodes"]] == ["synced"]


def test_another_owner_cannot_take_an_object_over(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "thief.yaml"
    file.write_text(lab.file.read_text().replace("owner: lab", "owner: thief").replace("body: pong", "body: stolen"))
    done = lab.gateway.gwctl("apply", str(file))
    assert done.returncode == 4, done.stdout + done.stderr
    assert lab.gateway.get("/ping").text == "pong"


def test_only_prune_deletes(lab: Lab, tmp_path: Path) -> None:
    module = (
        "  extra:\n    tier: anonymous\n    listener: http\n    authentication: none\n"
        "    routes: {extra: {match: {path: {exact: /extra}}, respond: {status: 200, body: extra}}}\n"
    )
    file = tmp_path / "more.yaml"
    file.write_text(lab.file.read_text() + module)
    lab.gateway.ask("apply", str(file), "--wait")
    assert lab.gateway.get("/extra").text == "extra"
    lab.gateway.ask("apply", str(lab.file), "--wait")
    assert lab.gateway.get("/extra").status_code == 200, "an apply that does not mention an object leaves it"
    answer = lab.gateway.ask("apply", str(lab.file), "--wait", "--prune")
    assert {"kind": "modules", "name": "extra", "action": "deleted"} in answer["changed"]
    assert lab.gateway.get("/extra").status_code == 404


def test_metrics_count_what_was_pushed(lab: Lab) -> None:
    token = (lab.gateway.state_dir / "token").read_text().strip()
    page = httpx.get(f"{lab.gateway.up['control_api']}/metrics", headers={"authorization": f"Bearer {token}"}).text
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert samples['gw_nodes{state="synced"}'] == "1.0"
    assert samples['gw_xds_streams{type="delta"}'] == "1.0"
    assert float(samples["gw_xds_ack_seconds_count"]) >= 5, "clusters, endpoints, a filter, a listener, routes"
    nacks = [v for k, v in samples.items() if k.startswith("gw_xds_responses_total") and 'result="nack"' in k]
    assert all(value == "0.0" for value in nacks)


def test_a_nack_is_traced_to_the_line_and_healed_by_the_next_revision(lab: Lab, tmp_path: Path) -> None:
    """A port that is taken on the node: nothing but that node can know."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "taken.yaml"
        old = "listeners:\n  http: {port: 80, protocol: HTTP}\n"
        text = lab.file.read_text()
        assert old in text
        file.write_text(text.replace(old, f"{old}  extra: {{port: {port}}}\n"))
        line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("  extra:"))
        done = lab.gateway.gwctl("apply", str(file), "--wait")
        said = done.stdout + done.stderr
        assert done.returncode == 5, said
        assert f"taken.yaml:{line}:" in said, said
        assert "envoy-1" in said
        assert "ddress already in use" in said or "cannot bind" in said, said
        assert [node["state"] for node in lab.gateway.status()["nodes"]] == ["nacked"]
        assert lab.gateway.get("/ping").text == "pong", "what was accepted goes on"
    lab.gateway.ask("apply", str(lab.file), "--wait", "--prune", "--allow-shrink")
    assert [node["state"] for node in lab.gateway.status()["nodes"]] == ["synced"]
    lab.apply("body: pong", "body: healed")
    assert lab.gateway.get("/ping").text == "healed"
    lab.apply("body: healed", "body: pong")
