"""Which Envoys a part of the document is for."""

from dataclasses import dataclass

from gateway.model.rollout import NodeSelector


@dataclass(frozen=True, slots=True)
class Node:
    """An Envoy, as it says of itself and as its operator has written it into its bootstrap."""

    id: str
    cluster: str = ""
    labels: frozenset[tuple[str, str]] = frozenset()
    region: str = ""
    zone: str = ""


def matches(selector: NodeSelector | None, node: Node) -> bool:
    """Whether the node is one of those: each word that is written must fit. Without a selector every node is.

    Values are compared as they are; there are no patterns. A node that says nothing is never meant by a word about it.
    """
    if selector is None:
        return True
    one_of = (
        (selector.ids, node.id),
        (selector.clusters, node.cluster),
        (selector.regions, node.region),
        (selector.zones, node.zone),
    )
    wanted = (selector.labels or {}).items()
    return all(values is None or value in values for values, value in one_of) and node.labels.issuperset(wanted)


def apart(one: NodeSelector | None, other: NodeSelector | None) -> bool:
    """Whether no node can ever be meant by both."""
    if one is None or other is None:
        return False
    pairs = (
        (one.ids, other.ids),
        (one.clusters, other.clusters),
        (one.regions, other.regions),
        (one.zones, other.zones),
    )
    labels, others = one.labels or {}, other.labels or {}
    return any(a is not None and b is not None and set(a).isdisjoint(b) for a, b in pairs) or any(
        labels[key] != others[key] for key in labels.keys() & others.keys()
    )
