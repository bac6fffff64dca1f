"""`gwctl docs`: every field can be looked up, its example is valid, and a wrong word finds the right one."""

import json
import re

import jsonschema
import pytest

from gateway import lookup
from gateway.meanings import MEANINGS
from gateway.model import Gateway, Model
from gateway.schema import schema
from gwctl.exits import Exit
from gwctl.main import run


def test_the_top_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "gwctl.docs/v1"
    assert [row["field"] for row in found["fields"]] == list(schema()["properties"])
    assert run(["docs"]) == 0
    assert "listeners" in capsys.readouterr().out


def test_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", "routes.retry.backoff.base"]) == 0
    said = capsys.readouterr().out
    assert "modules.<name>.routes.<name>.retry.backoff.base" in said
    assert re.search(r"default\s+25ms", said)
    assert re.search(r"type\s+text like 15s", said)
    assert run(["docs", "upstreams.load_balancing.policy", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["field"] == "upstreams.<name>.load_balancing.policy"
    assert "least_request" in found["allowed"]
    assert found["default"] == "least_request"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("routes.retry.backoff", "modules.<name>.routes.<name>.retry.backoff"),
        ("modules.orders.routes.all.match.path", "modules.<name>.routes.<name>.match.path"),
        ("modules.<name>.routes.<name>.match", "modules.<name>.routes.<name>.match"),
        ("upstreams.endpoints.weight", "upstreams.<name>.endpoints[].weight"),
        ("upstreams.endpoints[].weight", "upstreams.<name>.endpoints[].weight"),
        ("jwt_providers.from.cookies", "jwt_providers.<name>.from.cookies"),
        ("version", "version"),
    ],
)
def test_names_may_be_left_out(written: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", written, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["field"] == path


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("routes.retri", "modules.routes.retry"),
        ("upstreams.loadbalancing", "upstreams.load_balancing"),
        ("nothing-like-it", "gwctl docs"),
    ],
)
def test_a_wrong_word_finds_the_right_one(wrong: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", wrong]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert meant in said.err


def test_every_field_is_found_and_its_example_is_valid() -> None:
    for name in lookup.names():
        field = lookup.find(tuple(name.split(".")))
        assert field is not None, name
        part = {"$defs": schema()["$defs"], **field.schema}
        example = lookup.example_of(field.path[-1], field.schema)
        assert jsonschema.Draft202012Validator(part).is_valid(example), f"{name}: {example}"
        assert lookup.kind(field.schema), name


def test_the_table_names_only_what_there_is() -> None:
    known = {cls.__name__: cls for cls in _models(Model)} | {"Gateway": Gateway}
    for entry in MEANINGS:
        model, _, name = entry.partition(".")
        assert model in known, entry
        fields = known[model].model_fields
        assert name in {field.alias or one for one, field in fields.items()}, entry


def _models(cls: type[Model]) -> list[type[Model]]:
    return [cls, *(one for below in cls.__subclasses__() for one in _models(below))]
