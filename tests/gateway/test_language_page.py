"""`docs/language.md`: its examples are one gateway without problems, and it has every word."""

import re
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel

from gateway import model, read, render, yaml_events
from gateway.source import MAX_CHARACTERS
from gateway.words import PLANNED

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = "\n".join(page.read_text() for page in (DOCS / "language.md", *sorted(DOCS.glob("language/*.md"))))
YAML: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
BLOCKS: Final = YAML.findall((DOCS / "language.md").read_text())
EXAMPLES: Final = {
    f"{page.stem}-{number}": block
    for page in sorted(DOCS.glob("language/*.md"))
    for number, block in enumerate(YAML.findall(page.read_text()))
}
"""Of the pages below: gateways of their own, or more files of the one on this page."""
CODE: Final = re.compile(r"`([^`\n]+)`")


SHOP: Final = [
    (f"{number}.yaml", block if block.startswith("version") else f"version: 1\nowner: shop\n{block}")
    for number, block in enumerate(BLOCKS)
]


def told(files: list[tuple[str, str]]) -> str:
    """The problems of these files as one gateway."""
    loaded = read.load(files)
    return render.text(loaded.problems, loaded.where)


def words_of_the_page() -> set[str]:
    return {word for code in CODE.findall(PAGE) for word in re.findall(r"[a-z0-9_-]+", code)}


def models() -> list[type[BaseModel]]:
    found = [value for value in vars(model).values() if isinstance(value, type) and issubclass(value, model.Model)]
    return [one for one in found if one.__module__.startswith(model.__name__)]


def test_the_examples_are_one_gateway_without_problems() -> None:
    assert len(BLOCKS) > 8
    assert told(SHOP) == ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_gateway_without_problems(name: str) -> None:
    alone = told([("example.yaml", EXAMPLES[name])])
    page = [(f"{one}.yaml", block) for one, block in EXAMPLES.items() if one.split("-")[0] == name.split("-")[0]]
    assert not alone or told([*SHOP, *page]) == "", alone


@pytest.mark.parametrize("one", models(), ids=lambda one: one.__name__)
def test_every_field_is_on_the_page(one: type[BaseModel]) -> None:
    fields = {field.alias or name for name, field in one.model_fields.items()}
    assert fields - words_of_the_page() == set()


def literals(annotation: Any) -> set[str]:
    found = {value for value in get_args(annotation) if isinstance(value, str)}
    return found.union(*(literals(inner) for inner in get_args(annotation)))


@pytest.mark.parametrize("one", models(), ids=lambda one: one.__name__)
def test_every_word_that_a_field_may_hold_is_on_the_page(one: type[BaseModel]) -> None:
    text = " ".join(CODE.findall(PAGE))
    words = set().union(*(literals(field.annotation) for field in one.model_fields.values()))
    assert {word for word in words if word not in text} == set()


def test_what_is_not_supported_yet_is_named() -> None:
    later = PAGE.split("## Not yet")[1]
    words = {word for group in PLANNED.values() for word in group} - {"cache", "timeout", "env", "file", "grpc"}
    assert {word for word in words if word not in later} == set()


def test_limits_are_as_they_are_said() -> None:
    assert MAX_CHARACTERS == 4 * 2**20
    assert f"{yaml_events.MAX_EVENTS:,} parts" in PAGE
    assert f"{yaml_events.MAX_ALIASED_EVENTS:,} parts" in PAGE
    assert f"at most {yaml_events.MAX_DEPTH} deep" in PAGE
