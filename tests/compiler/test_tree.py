"""The tree by itself: each leaf is the part of the list that can take its requests; few copies; stable bytes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from envoy.config.route.v3.route_components_pb2 import Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.literals import Literal, exact, prefix, regex, template
from gateway.model import decode
from tests.support.generate_gateway import document
from xds_server.compiler import Settings, compile  # noqa: A004
from xds_server.compiler.memo import Memo
from xds_server.compiler.tables import tree
from xds_server.compiler.tables.entries import Entry
from xds_server.compiler.tables.reading import leaves_of, listed, routes_of
from xds_server.resources import LISTENER, ROUTES, Serialised, Snapshot

UNMATCHED = Entry.of(Route(name="unmatched", match=RouteMatch(prefix="/")))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (exact("/a"), Literal("/a/", whole=True)),
        (exact("/"), Literal("//", whole=True)),
        (prefix("/a/"), Literal("/a/")),
        (prefix("/"), Literal("/")),
        (template("/a/{id}"), Literal("/a/")),
        (template("/a/b"), Literal("/a/b/", whole=True)),
        (regex("/a/[0-9]+"), Literal("/a/")),
        (regex("/a/.*"), Literal("/a/")),
        (regex("/a(/.*)?"), Literal("/a")),
        (regex("/a/.*|/a0"), Literal("/a")),
        (regex("/a|/b"), Literal("/")),
        (regex("(?i)/a"), Literal("/")),
        (regex("/a/b"), Literal("/a/b/", whole=True)),
        (regex("/ä/x.*"), Literal("/")),
        (regex(".*"), Literal("")),
        (regex("(("), Literal("")),
        (regex(""), Literal("/", whole=True)),
        (regex("/a/\\x00"), Literal("/a/\0/", whole=True)),
    ],
)
def test_what_every_path_begins_with(found: Literal, expected: Literal) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("literal", "segment"),
    [(exact("/"), ""), (exact("/a/b"), "a"), (prefix("/a"), "a"), (prefix("/"), None), (template("/a{x}"), None)],
)
def test_the_first_segment_is_told_or_unknown(literal: Literal, segment: str | None) -> None:
    assert literal.first_segment == segment


def route(name: str, kind: str, text: str, method: bool) -> Route:
    found = RouteMatch()
    if kind == "regex":
        found.safe_regex.CopyFrom(RegexMatcher(regex=text))
    else:
        setattr(found, kind, text)
    if method:
        found.headers.add(name=":method").string_match.exact = "GET"
    return Route(name=name, match=found)


paths = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: "/" + "/".join(parts))
specifiers = st.one_of(
    st.tuples(st.just("path"), paths),
    st.tuples(st.just("path_separated_prefix"), paths.filter(lambda path: path != "/")),
    st.tuples(st.just("prefix"), st.just("/")),
    st.tuples(st.just("regex"), st.sampled_from(["/a/.*", ".*", "/[ab]", "/a/b", "/b(/a)?", "/a/b.*"])),
)
lists = st.lists(st.tuples(specifiers, st.booleans()), max_size=14)


@settings(max_examples=150, deadline=None)
@given(lists, paths, st.sampled_from(["GET", "PUT"]), st.sampled_from([0, 2, 8]))
def test_a_search_ends_where_the_list_does(wanted: Any, path: str, method: str, free: int) -> None:
    """With Envoy's reading of maps, lists and matches put into a few lines of Python."""
    routes = [route(f"r{index}", *specifier, conditional) for index, (specifier, conditional) in enumerate(wanted)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "FREE", free)
        patch.setattr(tree, "PER_ROUTE", min(free, 1))
        matcher = tree.matcher_of([Entry.of(route) for route in routes], UNMATCHED)
    everything = [*routes, Route(name="unmatched", match=RouteMatch(prefix="/"))]
    leaf = everything if matcher is None else searched(matcher, path + "/")
    assert first(leaf, path, method) == first(everything, path, method)


def searched(matcher: Any, key: str) -> list[Route]:
    whole, beginnings = matcher.matcher_tree.exact_match_map.map, matcher.matcher_tree.prefix_match_map.map
    if key in whole:
        return list(listed(whole[key].action.typed_config))
    fitting = [beginning for beginning in beginnings if key.startswith(beginning)]
    if fitting:
        return list(listed(beginnings[max(fitting, key=len)].action.typed_config))
    if matcher.on_no_match.HasField("matcher"):
        return searched(matcher.on_no_match.matcher, key)
    return list(listed(matcher.on_no_match.action.typed_config))


def first(routes: list[Route], path: str, method: str) -> str | None:
    return next((route.name for route in routes if takes(route.match, path, method)), None)


def takes(match: RouteMatch, path: str, method: str) -> bool:
    import re2

    if match.headers and method != "GET":
        return False
    if match.HasField("safe_regex"):
        return re2.fullmatch(match.safe_regex.regex, path) is not None
    if match.HasField("path_separated_prefix"):
        return path == match.path_separated_prefix or path.startswith(match.path_separated_prefix + "/")
    return path == match.path if match.HasField("path") else path.startswith(match.prefix)


def test_copies_are_bounded_where_every_path_may_be_a_regex() -> None:
    routes = [route(f"r{index}", "regex", f".*[{index}]", False) for index in range(200)]
    routes += [route(f"p{index}", "path_separated_prefix", f"/p{index}", True) for index in range(2000)]
    matcher = tree.matcher_of([Entry.of(route) for route in routes], UNMATCHED)
    assert matcher is not None
    copies = sum(len(listed(leaf)) for leaf in leaves_of(matcher))
    assert copies < (tree.FREE + tree.PER_ROUTE + 1) * len(routes)
    assert len(routes_of(VirtualHost(matcher=matcher))) == len(routes) + 1, "and none is lost"
    assert max(len(listed(leaf)) for leaf in leaves_of(matcher)) < 600, "and a search looks at few more than it must"


def written(body: str = "x", scoping: str = "path") -> dict[str, Any]:
    def module(number: int) -> dict[str, Any]:
        routes = {
            f"r{index}": {
                "match": {"path": {"prefix": f"/m{number}/{index}"}},
                "respond": {"status": 200, "body": body if (number, index) == (7, 3) else "same"},
            }
            for index in range(5)
        }
        return {"tier": "free", "listener": "http", "hosts": ["a.example"], "authentication": "none", "routes": routes}

    return {
        "version": 1,
        "listeners": {"http": {"port": 8080, "route_scopes": scoping}},
        "tiers": {"free": {"unlimited": True}},
        "modules": {f"m{number}": module(number) for number in range(20)},
    }


@pytest.mark.parametrize("scoping", ["none", "host", "path", "host_path"])
def test_one_edit_changes_one_table_and_never_a_listener(scoping: str) -> None:
    before, after = (
        Snapshot.of(1, compile(decode(written(body, scoping)), Settings(), {}, strict=True).messages) for body in "xy"
    )
    assert before.types[LISTENER].version == after.types[LISTENER].version
    old, new = before.types[ROUTES].resources, after.types[ROUTES].resources
    changed = [name for name in new if old[name] != new[name]]
    assert changed == [
        {"none": "http", "host": "http/a.example", "path": "http/*/m7"}.get(scoping, "http/a.example/m7")
    ]


def editions() -> list[dict[str, Any]]:
    """Documents that follow each other: edits, a module gone and back, another default, another listener's table."""
    found = [written(), written("y"), written("y", "host"), document(3, 4, "tree"), document(4, 4, "tree")]
    less, other = written(), written()
    less["modules"].pop("m7")
    other["defaults"] = {"cors": {"allow_origins": ["https://app.example"]}}
    broken = written()
    broken["modules"]["m2"]["routes"]["r1"] = {"match": {"path": {"prefix": "/m2"}}, "backends": [{"upstream": "gone"}]}
    limited, again = written(), written("y")
    for one in (limited, again):
        one["modules"]["m7"]["rate_limits"] = [{"limit": "5/second", "mode": "local", "per": "ip"}]
        one["modules"]["m7"]["routes"]["r2"] = {
            "match": {"path": {"prefix": "/m7/up"}},
            "backends": [{"upstream": "u"}],
        }
        one["modules"]["m7"]["routes"]["r4"] = {
            "match": {"path": {"prefix": f"/m7/up/{len(one['modules']['m7']['routes']['r3']['respond']['body'])}"}},
            "backends": [{"upstream": "u"}],
        }
        for index in (0, 1, 3):
            one["modules"]["m7"]["routes"].pop(f"r{index}")
        one["upstreams"] = {"u": {"type": "static", "endpoints": [{"address": "127.0.0.1", "port": 9001}]}}
    again["modules"]["m7"]["routes"]["r4"]["match"]["path"]["prefix"] = "/m7/other"
    return [*found, limited, again, less, found[0], other, found[1], broken, broken, found[0]]


def test_a_memo_changes_no_byte_and_no_problem() -> None:
    memo, serialised = Memo(), Serialised()
    for edition in editions():
        warm = compile(decode(edition), Settings(), {}, strict=True, memo=memo)
        cold = compile(decode(edition), Settings(), {}, strict=True)
        assert Snapshot.of(1, warm.messages, serialised.of) == Snapshot.of(1, cold.messages)
        assert warm.problems == cold.problems
        serialised.end()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=5))
def test_a_memo_changes_no_byte_of_any_sequence(steps: list[tuple[int, bool]]) -> None:
    """Each step is another generated document, or the last one with its first module's routes in a new order."""
    memo = Memo()
    for seed, turned in steps:
        edition = document(seed, 2, "tree")
        if turned:
            module = next(iter(edition["modules"].values()))
            module["routes"] = dict(list(module["routes"].items())[1:])
        warm = compile(decode(edition), Settings(), {}, strict=True, memo=memo)
        cold = compile(decode(edition), Settings(), {}, strict=True)
        assert Snapshot.of(1, warm.messages).version == Snapshot.of(1, cold.messages).version


def test_what_did_not_change_is_not_made_again() -> None:
    gateway = decode(written())
    memo = Memo()
    tables = [
        {m.name: m for m in compile(one, Settings(), {}, memo=memo).messages if isinstance(m, RouteConfiguration)}
        for one in (
            gateway,
            gateway.model_copy(update={"modules": {**gateway.modules, "m7": decode(written("y")).modules["m7"]}}),
        )
    ]
    same = [name for name in tables[1] if tables[1][name] is tables[0][name]]
    assert len(same) == 19


PRINT_VERSION = """
from gateway.model import decode
from tests.support.generate_gateway import document
from xds_server.compiler import Settings, compile
from xds_server.resources import Snapshot
print(Snapshot.of(1, compile(decode(document(5, 6, "tree")), Settings(), {}).messages).version)
"""


def test_the_same_tree_in_any_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", PRINT_VERSION],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "4242")
    }
    assert len(seen) == 1
