"""A host's list of routes as a tree that Envoy searches by key, so that the cost does not grow with the list.

Two flat maps: keys of single paths, then beginnings of keys, the longest that fits. Each leaf is the part of the list
that can take a request which ends there, in the list's order, so the tree decides as the list does. That includes what
stands at shorter beginnings: Envoy does not go on to those once it is in a leaf.

A leaf copies what stands above it. Where that is much (regexes that may begin anyhow), leaves of few routes become one
with a shorter key: a search then looks at some more routes, about as many as it had to look at anyway, and the whole
tree stays within a small multiple of the list. Envoy's maps have no limit of size, and protobuf's limit of nesting is
out of reach: keys are flat, never a tree of segments.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from envoy.config.route.v3.route_components_pb2 import RouteList
from envoy.type.matcher.v3.http_inputs_pb2 import HttpRequestHeaderMatchInput
from google.protobuf.any_pb2 import Any
from xds.core.v3.extension_pb2 import TypedExtensionConfig
from xds.type.matcher.v3.matcher_pb2 import Matcher

from xds_server.compiler import names
from xds_server.compiler.tables.entries import Entry
from xds_server.compiler.wire import pack
from xds_server.resources import PREFIX

ROUTE_LIST: Final = PREFIX + RouteList.DESCRIPTOR.full_name
INPUT: Final = TypedExtensionConfig(
    name="key", typed_config=pack(HttpRequestHeaderMatchInput(header_name=names.PATH_HEADER))
)
FREE: Final = 8
"""So many copies are allowed in any leaf."""

PER_ROUTE: Final = 4
"""So many more for each route of its own. Together: at most 12 copies a route, and measured far less."""

Key = tuple[str, bool]
"""A key and whether it is a whole one; a beginning sorts before the whole key of the same text."""

Leaf = list[int]
"""Places in the list, in order."""

ROOT: Final[Key] = ("", False)


def matcher_of(entries: Sequence[Entry], unmatched: Entry) -> Matcher | None:
    """None where no path begins in a known way: then the list is all there is."""
    own = pruned(entries, planted(entries))
    packed = {key: packed_leaf(entries, leaf, own[key], key, unmatched) for key, leaf in grown(entries, own)}
    whole = {key: found for (key, is_whole), found in packed.items() if is_whole}
    beginnings = {key: found for (key, is_whole), found in packed.items() if not is_whole and key}
    if not whole and not beginnings:
        return None
    result = Matcher()
    below = result
    if whole:
        fill(result.matcher_tree, result.matcher_tree.exact_match_map, whole)
        below = result.on_no_match.matcher if beginnings else result
    if beginnings:
        fill(below.matcher_tree, below.matcher_tree.prefix_match_map, beginnings)
    act(below.on_no_match, packed[ROOT])
    return result


def planted(entries: Sequence[Entry]) -> dict[Key, Leaf]:
    """Each key with the entries whose literal it is."""
    own: dict[Key, Leaf] = {ROOT: []}
    for index, entry in enumerate(entries):
        own.setdefault((entry.literal.text, entry.literal.whole), []).append(index)
    return own


def grown(entries: Sequence[Entry], own: dict[Key, Leaf]) -> Iterator[tuple[Key, Leaf]]:
    """Every key in order, with all entries that may take a request which ends there."""
    above: list[tuple[str, Leaf]] = []
    for key in sorted(own):
        text, whole = key
        while above and not text.startswith(above[-1][0]):
            above.pop()
        leaf = reached(entries, sorted(above[-1][1] + own[key] if above else own[key]), text, whole=whole)
        if not whole:
            above.append((text, leaf))
        yield key, leaf


def reached(entries: Sequence[Entry], candidates: Leaf, key: str, *, whole: bool) -> Leaf:
    """Those that may take a request with this key, up to the first that takes them all."""
    leaf = []
    for index in candidates:
        entry = entries[index]
        if entry.may_take(key, whole=whole):
            leaf.append(index)
            if entry.takes_all(key, whole=whole):
                break
    return leaf


def pruned(entries: Sequence[Entry], own: dict[Key, Leaf]) -> dict[Key, Leaf]:
    """With shorter keys in place of those whose leaves would copy too much, down to where enough routes share one."""
    copied = {key: len(set(leaf).difference(own[key])) for key, leaf in grown(entries, own)}
    if all(copied[key] <= allowed(own[key]) for key in own):
        return own
    waiting = [(-len(key[0]), not key[1], key) for key in own if key != ROOT]
    heapify(waiting)  # the longest first, a whole key before the beginning of the same text
    while waiting:
        *_, key = heappop(waiting)
        if copied[key] <= allowed(own[key]):
            continue
        shorter = (key[0] if key[1] else key[0][:-1], False)
        if shorter not in own:
            own[shorter], copied[shorter] = [], copied[key]
            heappush(waiting, (-len(shorter[0]), True, shorter))
        own[shorter] = sorted(own[shorter] + own.pop(key))
    return own


def allowed(own: Leaf) -> int:
    return max(FREE, PER_ROUTE * len(own))


def packed_leaf(entries: Sequence[Entry], leaf: Leaf, own: Leaf, key: Key, unmatched: Entry) -> bytes:
    """A RouteList, which ends with the answer to what no route takes unless one takes everything.

    Behind that one stand those of the leaf's own that it keeps from being reached: Envoy is to check them all the same.
    """
    reachable = set(leaf)
    unreached = sorted(index for index in own if index not in reachable)
    framed = [entries[index].framed for index in (*leaf, *unreached)]
    if not leaf or not entries[leaf[-1]].takes_all(key[0], whole=key[1]):
        framed.append(unmatched.framed)
    return b"".join(framed)


def fill(tree: Matcher.MatcherTree, into: Matcher.MatcherTree.MatchMap, leaves: dict[str, bytes]) -> None:
    tree.input.CopyFrom(INPUT)
    for key, leaf in leaves.items():
        act(into.map[key], leaf)


def act(on_match: Matcher.OnMatch, leaf: bytes) -> None:
    on_match.action.name = "routes"
    on_match.action.typed_config.CopyFrom(Any(type_url=ROUTE_LIST, value=leaf))
