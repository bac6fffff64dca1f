"""`gwctl export`: what is live or in files, as documents that change nothing when they are applied."""

import json
from pathlib import Path

import pytest
import yaml

from gateway import document, source
from gateway.read import load
from gwctl.client import Client
from gwctl.exits import Exit
from gwctl.exporting.convert import convert
from gwctl.main import run

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "100x-platform"
CASES = sorted((ROOT / "tests" / "compiler" / "cases").glob("*/in.yaml"))


def objects(*paths: Path) -> tuple[document.Object, ...]:
    return load([(str(path), path.read_text()) for path in paths]).objects


def test_a_directory_of_files_comes_back_as_it_was(tmp_path: Path) -> None:
    assert run(["export", "--from", str(EXAMPLE), "--dir", str(tmp_path)]) == 0
    before, after = objects(*EXAMPLE.rglob("*.yaml")), objects(*tmp_path.glob("*.yaml"))
    assert document.apply(before, after, prune=True).empty
    assert run(["fmt", "--check", str(tmp_path)]) == 0


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_export_and_apply_is_empty(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load([(str(path), path.read_text())])
    if loaded.gateway is None or not loaded.objects:
        return
    assert run(["export", "--from", str(path)]) == 0
    read, problems = source.read("x", capsys.readouterr().out)
    assert not [one for one in problems if one.severity == "error"]
    assert document.apply(loaded.objects, document.objects_of(read), prune=True).empty


def test_different_labels_are_not_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--from", str(EXAMPLE)]) == Exit.FAILED
    assert "--dir" in capsys.readouterr().err


def test_from_the_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = next(one for one in CASES if one.parent.name == "matching")
    stored = [
        {
            "kind": one.kind,
            "name": one.name,
            "owner": one.owner,
            "labels": dict(one.labels),
            "file": one.file,
            "body": one.body,
        }
        for one in objects(path)
    ]
    answers = {"/v1/revisions": {"revisions": [{"revision": 7}]}, "/v1/revisions/7": {"objects": stored}}
    monkeypatch.setattr(Client, "get", lambda self, path, timeout=30.0, **query: answers[path])
    assert run(["export", "--server", "http://127.0.0.1:1", "--token", "t", "-o", str(tmp_path / "x.yaml")]) == 0
    assert document.apply(objects(path), objects(tmp_path / "x.yaml"), prune=True).empty
    assert (
        run(["export", "--server", "http://127.0.0.1:1", "--token", "t", "-o", str(tmp_path / "x.yaml")]) == Exit.FAILED
    )
    answers["/v1/revisions"]["revisions"] = []
    assert run(["export", "--server", "http://127.0.0.1:1", "--token", "t"]) == Exit.FAILED
    assert "nothing was applied" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["openapi", "gateway-api"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_nothing_is_forgotten_in_another_language(kind: str, path: Path) -> None:
    loaded = load([(str(path), path.read_text())])
    if loaded.gateway is None:
        return
    made = convert(kind, document.assemble(loaded.objects))
    assert made.forgotten == ()
    assert list(yaml.safe_load_all(made.text))


def test_openapi(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--from", str(EXAMPLE), "--format", "openapi", "--losses", "json"]) == 0
    said = capsys.readouterr()
    made = yaml.safe_load(said.out)
    assert made["paths"]["/health"]["get"]["security"] == []
    assert made["paths"]["/modules/podcast/transcribe"]["post"]["security"] == [{"platform": []}, {"platform-keys": []}]
    losses = json.loads(said.err)["losses"]
    assert any(loss["path"] == "modules.podcast.routes.all" for loss in losses), "a prefix is not OpenAPI's"
    assert run(["export", "--from", str(EXAMPLE), "--format", "openapi", "--strict"]) == Exit.INVALID


def test_gateway_api_never_opens_what_was_closed() -> None:
    text = """\
version: 1
listeners: {http: {port: 80}}
upstreams: {u: {type: static, endpoints: [{address: 10.0.0.1, port: 80}]}}
api_keys: {k: {}}
tiers: {free: {unlimited: true}, gold: {unlimited: true}}
modules:
  a:
    tier: free
    listener: http
    authentication: {any_of: [k]}
    routes:
      keyed: {match: {path: {template: "/a/{id}"}}, backends: [{upstream: u}]}
      open: {match: {path: {prefix: /}}, backends: [{upstream: u}], authentication: none}
  b:
    tier: gold
    listener: http
    authentication: none
    routes: {gold: {match: {path: {exact: /gold}}, backends: [{upstream: u}]}}
"""
    made = convert("gateway-api", document.assemble(load([("x", text)]).objects))
    found = {one["metadata"]["name"]: one["spec"] for one in yaml.safe_load_all(made.text)}
    assert "backendRefs" not in found["a-keyed"]["rules"][0]
    assert found["a-keyed"]["rules"][0]["matches"] == [{"path": {"type": "RegularExpression", "value": "/a/[^/]+"}}]
    assert "backendRefs" not in found["b-gold"]["rules"][0]
    assert found["a-open"]["rules"][0]["backendRefs"][0]["name"] == "u"
    assert {loss.place for loss in made.losses} >= {"modules.a.routes.keyed", "modules.b.routes.gold"}


def test_what_was_exported_as_gateway_api_can_be_imported(tmp_path: Path) -> None:
    text = "version: 1\nlisteners: {http: {port: 80}}\nupstreams: {u: {type: dns, host: u.example, port: 80}}\n"
    text += "tiers: {free: {unlimited: true}}\nmodules: {m: {tier: free, listener: http, authentication: none, routes: "
    text += "{r: {match: {path: {prefix: /r}}, backends: [{upstream: u}], rewrite: {path: {prefix: /v1}}}}}}\n"
    (tmp_path / "x.yaml").write_text(text)
    assert (
        run(["export", "--from", str(tmp_path / "x.yaml"), "--format", "gateway-api", "-o", str(tmp_path / "g.yaml")])
        == 0
    )
    assert run(["import", "gateway-api", str(tmp_path / "g.yaml"), "-o", str(tmp_path / "y.yaml")]) == 0
    gateway = load([("y", (tmp_path / "y.yaml").read_text())]).gateway
    assert gateway is not None
    (module,) = gateway.modules.values()
    (route,) = module.routes.values()
    assert route.rewrite is not None
