"""`gwctl schema`: the schema takes every valid document that there is here, and none that the language refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway import source
from gateway.model import Gateway
from gateway.scalars import Duration, Percent, RateField, parse_rate
from gateway.schema import DIALECT, alternatives, key_order, schema, written
from gwctl.commands.init import STARTER
from gwctl.main import run

ROOT = Path(__file__).parent.parent.parent
CASES = sorted((ROOT / "tests" / "compiler" / "cases").glob("*/in.yaml"))
EXAMPLES = sorted((ROOT / "examples" / "100x-platform").rglob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(schema())

HEAD = "version: 1\nlisteners: {http: {port: 80}}\n"
MODULE = "modules: {m: {tier: free, listener: http, routes: {r: %s}}}\n"
BROKEN = {
    "no version": "listeners: {}",
    "another version": "version: 2",
    "an unknown key": "version: 1\nlistener: {}",
    "an unknown key far down": HEAD + MODULE % "{match: {path: {exakt: /}}, respond: {status: 200}}",
    "a name that may not be": "version: 1\nlisteners: {'No Name': {port: 80}}",
    "a port out of range": "version: 1\nlisteners: {http: {port: 70000}}",
    "a port that is text": "version: 1\nlisteners: {http: {port: '80'}}",
    "a duration without a unit": "version: 1\ndefaults: {timeouts: {request: 15}}",
    "a duration with a wrong one": "version: 1\ndefaults: {timeouts: {request: 15min}}",
    "a rate without a unit": "version: 1\ntiers: {free: {rate_limits: [{limit: 100}]}}",
    "half a certificate": "version: 1\nlisteners: {h: {port: 1, tls: {certificates: [{cert_file: /a}]}}}",
    "a certificate twice": "version: 1\nlisteners: {h: {port: 1, tls: {certificates: [{secret: a, key_file: /a}]}}}",
    "two paths": HEAD + MODULE % "{match: {path: {exact: /a, prefix: /a}}, respond: {status: 200}}",
    "no path": HEAD + MODULE % "{match: {path: {}}, respond: {status: 200}}",
    "two actions": HEAD + MODULE % "{match: {path: {exact: /}}, respond: {status: 200}, redirect: {path: /b}}",
    "no action": HEAD + MODULE % "{match: {path: {exact: /}}}",
    "an upstream without its kind": "version: 1\nupstreams: {u: {endpoints: [{address: 10.0.0.1, port: 80}]}}",
    "a kind with another's fields": "version: 1\nupstreams: {u: {type: dns, host: a, port: 1, endpoints: []}}",
    "no endpoints": "version: 1\nupstreams: {u: {type: static, endpoints: []}}",
    "limits and no limits": "version: 1\ntiers: {free: {rate_limits: [{limit: 1/day}], unlimited: true}}",
    "a value that is not allowed": "version: 1\nrate_limit_defaults: {on_error: maybe}",
    "an alias by its Python name": "version: 1\napi_keys: {k: {from_: {headers: [x-k]}}}",
    "a list for a mapping": "version: 1\nmodules: []",
    "a method in lower case": HEAD + MODULE % "{match: {path: {exact: /}, methods: [get]}, respond: {status: 200}}",
    "a header with a space": HEAD
    + MODULE % "{match: {path: {exact: /}, headers: {'a b': {exact: x}}}, respond: {status: 200}}",
}


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == DIALECT
    assert "discriminator" not in json.dumps(schema()), "OpenAPI's word, not JSON Schema's"


@pytest.mark.parametrize("path", [*CASES, *EXAMPLES], ids=lambda path: "/".join(path.parts[-2:]))
def test_every_document_here_is_valid(path: Path) -> None:
    read, problems = source.read(path.name, path.read_text())
    assert not [problem for problem in problems if problem.severity == "error"]
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(read.values)] == []


def test_the_starter_is_valid() -> None:
    VALIDATOR.validate(yaml.safe_load(STARTER))


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_documents_are_not(name: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(BROKEN[name]))


def test_the_documents_that_were_broken_are_valid_otherwise() -> None:
    VALIDATOR.validate(yaml.safe_load(HEAD + MODULE % "{match: {path: {exact: /}}, respond: {status: 200}}"))


def test_defaults_are_shown_as_they_are_written_and_are_valid() -> None:
    found = dict(_defaults(schema()["$defs"]))
    assert found["Retry.backoff" if "Retry.backoff" in found else "Backoff.base"] in ("25ms", {"base": "25ms"})
    assert found["HealthCheck.interval"] == "5s"
    assert found["OutlierDetection.max_ejection_percent"] == "100%"
    for place, default in found.items():
        model, _, name = place.partition(".")
        part = {"$defs": schema()["$defs"], **schema()["$defs"][model]["properties"][name]}
        jsonschema.Draft202012Validator(part).validate(default)


def test_values_are_written_with_their_units() -> None:
    assert written(Duration, 90_000) == "90s"
    assert written(Duration, 3_600_000) == "1h"
    assert written(Duration, 0) == "0s"
    assert written(Percent, 12.5) == "12.5%"
    assert written(RateField, parse_rate("60/minute")) == "60/minute"
    assert written(tuple[Duration, ...], (1, 1000)) == ["1ms", "1s"]
    assert written(str | None, "as it is") == "as it is"


def test_what_a_validator_says_is_the_schemas_alternatives() -> None:
    from gateway.model import ListenerCertificate, Route, Timeouts, ValueMatch

    assert set(alternatives(Route)) == {("backends",), ("respond",), ("redirect",)}
    assert ("exact",) in alternatives(ValueMatch)
    assert ("optional",) not in alternatives(ValueMatch)
    assert alternatives(ListenerCertificate) == (("secret",), ("cert_file", "key_file"))
    assert alternatives(Timeouts) == ()


def test_the_order_of_keys() -> None:
    from gateway.model import Module, RateLimit, Route

    assert key_order(Gateway)[0] == "version"
    assert key_order(Route)[0] == "match"
    assert key_order(Module)[-1] == "routes"
    assert key_order(RateLimit)[0] == "name"


def test_every_field_says_what_it_means() -> None:
    silent = [
        f"{model}.{name}"
        for model, made in schema()["$defs"].items()
        for name, field in made.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == [], "write a Field(description=…), a docstring, or a line in gateway/meanings.py"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == schema()
    out = tmp_path / ".gwctl" / "schema.v1.json"
    assert run(["schema", "--out", str(out)]) == 0
    assert out.read_text() == printed


def _defaults(defs: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (f"{model}.{name}", field["default"])
        for model, made in defs.items()
        for name, field in made.get("properties", {}).items()
        if "default" in field
    ]
