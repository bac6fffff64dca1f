"""Which nodes a selector means, and which selectors never mean the same node."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import NodeSelector
from gateway.nodes import Node, apart, matches

NODE = Node("edge-1", "edge", frozenset({("stage", "live"), ("team", "core")}), "eu", "eu-1")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"ids": ("edge-1",)}, True),
        ({"ids": ("edge-2", "edge-1")}, True),
        ({"ids": ("edge",)}, False),
        ({"ids": ("edge-*",)}, False),
        ({"clusters": ("edge",)}, True),
        ({"labels": {"stage": "live"}}, True),
        ({"labels": {"stage": "live", "team": "core"}}, True),
        ({"labels": {"stage": "live", "team": "web"}}, False),
        ({"labels": {"region": "eu"}}, False),
        ({"regions": ("us", "eu"), "zones": ("eu-1",)}, True),
        ({"regions": ("eu",), "zones": ("eu-2",)}, False),
        ({"ids": ("edge-1",), "clusters": ("other",)}, False),
    ],
)
def test_every_written_word_must_fit(selector: dict[str, object], expected: bool) -> None:
    assert matches(NodeSelector.model_validate(selector), NODE) is expected


def test_without_a_selector_every_node_is_meant() -> None:
    assert matches(None, Node("any"))


@pytest.mark.parametrize("word", ["clusters", "regions", "zones"])
def test_a_node_that_says_nothing_is_not_meant(word: str) -> None:
    assert not matches(NodeSelector.model_validate({word: ("x",)}), Node("any"))


VALUES = ("a", "b")
WORDS = st.sets(st.sampled_from(VALUES), min_size=1).map(lambda found: tuple(sorted(found)))
LABELS = st.dictionaries(st.sampled_from("kl"), st.sampled_from(VALUES), min_size=1)
SELECTORS = (
    st.fixed_dictionaries({}, optional={"ids": WORDS, "clusters": WORDS, "labels": LABELS, "regions": WORDS})
    .filter(bool)
    .map(NodeSelector.model_validate)
)
NODES = [
    Node(one, two, frozenset({("k", k), ("l", label)}), region)
    for one, two, k, label, region in itertools.product(VALUES, repeat=5)
]


@given(SELECTORS, SELECTORS)
def test_apart_is_exactly_that_no_node_is_meant_by_both(one: NodeSelector, other: NodeSelector) -> None:
    assert apart(one, other) == (not any(matches(one, node) and matches(other, node) for node in NODES))


def test_nothing_is_apart_from_every_node() -> None:
    assert not apart(None, NodeSelector(ids=("a",)))
