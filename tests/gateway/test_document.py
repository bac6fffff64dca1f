"""Objects: taking documents apart, putting them together, and applying one set over another."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import document, source
from gateway.document import KINDS, SINGLE, Change, Object

TEXT = """version: 1
owner: shop
labels: {env: prod}
upstreams:
  web: {type: dns, host: web.internal, port: 80}
tiers:
  gold: {unlimited: true}
  free: {rate_limits: [{limit: 1/second}]}
defaults:
  timeouts: {request: 5s}
"""


def objects(text: str, file: str = "in.yaml") -> tuple[Object, ...]:
    found, problems = source.read(file, text)
    assert problems == []
    return document.objects_of(found)


def one(name: str, body: Any, owner: str = "shop", kind: str = "upstreams", **labels: str) -> Object:
    return Object(kind, name, owner, labels, body, "in.yaml", {})


def keys(change: Change) -> dict[str, list[str]]:
    return {
        part: [item.name for item in getattr(change, part)]
        for part in ("created", "updated", "deleted", "unchanged", "objects")
        if getattr(change, part)
    }


def test_a_file_is_taken_apart_into_objects_with_owner_labels_and_positions() -> None:
    web, tiers, defaults = objects(TEXT)
    assert (web.kind, web.name, web.owner, dict(web.labels)) == ("upstreams", "web", "shop", {"env": "prod"})
    assert web.body == {"type": "dns", "host": "web.internal", "port": 80}
    assert web.positions == {(): (5, 3), ("type",): (5, 9), ("host",): (5, 20), ("port",): (5, 40)}
    assert (tiers.key, tiers.path) == (("tiers", "tiers"), ("tiers",))
    assert tiers.positions[()] == (6, 1)
    assert (defaults.key, defaults.positions[("timeouts", "request")]) == (("defaults", "defaults"), (10, 14))


def test_without_an_owner_it_is_the_default_one() -> None:
    assert [item.owner for item in objects("version: 1\napi_keys: {a: {}}\n")] == ["default"]


def test_a_document_is_put_together_in_the_models_order_with_tiers_in_theirs() -> None:
    parts = objects("version: 1\nmodules: {b: {}, a: {}}\nlisteners: {z: {}}\ntiers: {z: {}, a: {}}\n")
    whole = document.assemble(reversed(parts))
    assert list(whole) == ["version", "listeners", "tiers", "modules"]
    assert list(whole["modules"]) == ["a", "b"]
    assert list(whole["tiers"]) == ["z", "a"]


BODIES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers() | st.text() | st.lists(st.booleans()))
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        kind: BODIES if kind in SINGLE else st.dictionaries(st.sampled_from("xyz"), BODIES, min_size=1)
        for kind in KINDS
    },
)


@given(DOCUMENTS)
def test_taken_apart_and_put_together_is_the_same_document(values: dict[str, Any]) -> None:
    whole = {"version": 1, **values}
    found = source.Source("in.yaml", "", whole, {}, {})
    assert document.assemble(document.objects_of(found)) == whole


def test_apply_creates_updates_and_leaves_the_rest() -> None:
    current = [one("a", {"port": 1}), one("b", {"port": 2}), one("c", {"port": 3})]
    change = document.apply(current, [one("a", {"port": 1}), one("b", {"port": 9}), one("d", {"port": 4})], prune=False)
    assert keys(change) == {
        "created": ["d"],
        "updated": ["b"],
        "unchanged": ["a"],
        "objects": ["a", "b", "c", "d"],
    }
    assert {item.name: item.body["port"] for item in change.objects} == {"a": 1, "b": 9, "c": 3, "d": 4}


def test_prune_deletes_what_the_same_owner_no_longer_writes_and_nothing_of_others() -> None:
    current = [one("a", {}), one("b", {}), one("c", {}, owner="bank")]
    change = document.apply(current, [one("a", {})], prune=True)
    assert keys(change) == {"deleted": ["b"], "unchanged": ["a"], "objects": ["a", "c"]}
    assert keys(document.apply(current, [], prune=True)) == {"objects": ["a", "b", "c"]}


def test_an_object_of_another_owner_is_a_conflict_and_nothing_changes() -> None:
    current = [one("a", {"port": 1}, owner="bank"), one("b", {})]
    change = document.apply(current, [one("a", {"port": 2}), one("c", {})], prune=True)
    assert [(problem.code, problem.path) for problem in change.problems] == [("GW402", ("upstreams", "a"))]
    assert "bank" in change.problems[0].message
    assert keys(change) == {"objects": ["a", "b"]}
    assert change.empty


def test_labels_and_the_order_of_tiers_are_content_and_where_it_was_written_is_not() -> None:
    assert document.apply([one("a", {})], [one("a", {}, env="prod")], prune=False).updated
    moved = Object("upstreams", "a", "shop", {}, {}, "other.yaml", {(): (7, 3)})
    change = document.apply([one("a", {})], [moved], prune=False)
    assert (change.empty, change.objects) == (True, (moved,))
    ranked = [one("tiers", {"free": {}, "gold": {}}, kind="tiers")]
    again = [one("tiers", {"gold": {}, "free": {}}, kind="tiers")]
    assert document.apply(ranked, again, prune=False).updated


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1))), st.booleans())
def test_applying_twice_changes_nothing_the_second_time(pairs: list[tuple[str, int]], prune: bool) -> None:
    new = list({name: one(name, {"port": port}) for name, port in pairs}.values())
    first = document.apply([one("a", {"port": 0}), one("z", {})], new, prune=prune)
    second = document.apply(first.objects, new, prune=prune)
    assert second.empty
    assert second.objects == first.objects


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), None),
        (("version",), None),
        (("modules",), None),
        (("modules", "a", "routes"), ("modules", "a")),
        (("tiers", "free"), ("tiers", "tiers")),
        (("defaults",), ("defaults", "defaults")),
    ],
)
def test_the_object_that_a_path_is_in(path: tuple[str, ...], key: tuple[str, str] | None) -> None:
    assert document.key_of(path) == key
