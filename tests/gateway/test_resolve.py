"""What a route inherits, and the order in which routes are tried."""

from typing import Any

from gateway.model import Gateway, HeaderEdits, decode
from gateway.resolve import NOBODY, ResolvedRoute, by_host, header_names_of_identity, resolve

RESPOND = {"respond": {"status": 200}}


def gateway(modules: dict[str, Any], **rest: Any) -> Gateway:
    return decode({"version": 1, "modules": modules, **rest})


def module(routes: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"tier": "free", "listener": "http", "routes": routes, **rest}


def route(path: dict[str, str] | None = None, **rest: Any) -> dict[str, Any]:
    match = {"path": path or {"exact": "/"}, **rest.pop("match", {})}
    return {"match": match, **RESPOND, **rest}


def only(made: Gateway) -> ResolvedRoute:
    (found,) = resolve(made)
    return found


def order(routes: dict[str, Any]) -> list[str]:
    return [found.name for found in resolve(gateway({"m": module(routes)}))]


# -------------------------------------------------------------------------------------------------------- inheritance
def test_nothing_written_is_the_defaults_of_the_language_and_nobody_may_call() -> None:
    found = only(gateway({"m": module({"r": route()})}))
    assert (found.timeouts.request, found.timeouts.idle) == (15_000, 60_000)
    assert (found.retry, found.cors, found.rate_limits, found.authorization) == (None, None, (), ())
    assert found.request_headers == found.response_headers == HeaderEdits()
    assert found.authentication == NOBODY
    assert (found.hosts, found.full_name, found.path) == (("*",), "m/r", ("modules", "m", "routes", "r"))


def test_the_nearest_level_wins() -> None:
    levels = {"defaults": {"timeouts": {"request": "1s", "idle": "2s"}, "retry": {"attempts": 1}}}
    inner = module(
        {"a": route(timeouts={"request": "4s"}), "b": route(retry="none"), "c": route(retry={"attempts": 3})},
        timeouts={"idle": "3s"},
    )
    found = {one.name: one for one in resolve(gateway({"m": inner}, **levels))}
    assert (found["a"].timeouts.request, found["a"].timeouts.idle) == (4_000, 3_000)
    assert (found["b"].timeouts.request, found["b"].timeouts.idle) == (1_000, 3_000)
    assert found["a"].retry is not None
    assert (found["a"].retry.attempts, found["a"].retry_inherited) == (1, True)
    assert (found["b"].retry, found["b"].retry_inherited) == (None, False)
    assert found["c"].retry is not None
    assert found["c"].retry.attempts == 3


def test_cors_can_be_turned_off_below() -> None:
    cors = {"allow_origins": ["https://a.example.com"]}
    found = {
        one.name: one for one in resolve(gateway({"m": module({"a": route(), "b": route(cors="none")}, cors=cors)}))
    }
    assert found["a"].cors is not None
    assert found["b"].cors is None


def test_header_edits_add_up_and_the_nearest_value_wins() -> None:
    made = gateway(
        {
            "m": module(
                {"r": route(response_headers={"set": {"X-A": "route"}, "remove": ["server"]})},
                response_headers={"set": {"x-b": "module"}, "add": {"x-c": "module"}},
            )
        },
        defaults={"response_headers": {"set": {"x-a": "defaults", "x-d": "defaults"}, "remove": ["server", "via"]}},
    )
    edits = only(made).response_headers
    assert edits.set == {"x-a": "route", "x-d": "defaults", "x-b": "module"}
    assert edits.add == {"x-c": "module"}
    assert edits.remove == ("server", "via")


def test_a_routes_authorization_replaces_its_modules_and_limits_add_up() -> None:
    outer = {"rules": [{"name": "outer", "action": "allow"}]}
    inner = {"rules": [{"name": "inner", "action": "allow"}]}
    made = gateway(
        {
            "m": module(
                {"r": route(authorization=inner, rate_limits=[{"limit": "2/second"}])},
                authorization=outer,
                rate_limits=[{"limit": "1/second"}],
            )
        }
    )
    found = only(made)
    assert [rule.name for one in found.authorization for rule in one.rules] == ["inner"]
    assert [str(limit.limit) for limit in found.rate_limits] == ["1/second", "2/second"]


def test_who_authenticates_in_the_documents_order() -> None:
    made = gateway({"m": module({"r": route(authentication={"any_of": ["b", "keys", "a"]})}, authentication="none")})
    found = only(made)
    assert found.authenticated_by(["a", "b"]) == ("b", "a")
    assert found.authenticated_by(["keys"]) == ("keys",)
    assert only(gateway({"m": module({"r": route(authentication="none")})})).authenticated_by(["a"]) == ()


# ---------------------------------------------------------------------------------------------------------- precedence
def test_exact_before_longest_prefix_or_template_before_regex() -> None:
    assert order(
        {
            "regex": route({"regex": "^/orders/[0-9]+/items/very/long$"}),
            "root": route({"prefix": "/"}),
            "template": route({"template": "/orders/{id}"}),
            "deeper": route({"template": "/orders/{id}/items"}),
            "prefix": route({"prefix": "/orders/special"}),
            "short": route({"prefix": "/orders"}),
            "exact": route({"exact": "/o"}),
        }
    ) == ["exact", "prefix", "deeper", "template", "short", "root", "regex"]


def test_a_star_is_no_literal() -> None:
    assert order({"a": route({"template": "/a/**"}), "b": route({"prefix": "/a/b"})}) == ["b", "a"]


def test_methods_then_headers_then_query_then_names() -> None:
    one, two = {"exact": "1"}, {"exact": "2"}
    assert order(
        {
            "plain": route(),
            "a-plain": route(),
            "query": route(match={"query": {"q": one}}),
            "header": route(match={"headers": {"x": one}}),
            "headers": route(match={"headers": {"x": one, "y": two}}),
            "method": route(match={"methods": ["GET"]}),
        }
    ) == ["method", "headers", "header", "query", "a-plain", "plain"]


def test_priority_comes_before_everything() -> None:
    routes = {
        "exact": route(),
        "first": route({"regex": "/.*"}, priority=1),
        "last": route({"exact": "/a"}, priority=-1),
    }
    assert order(routes) == ["first", "exact", "last"]


def test_order_does_not_depend_on_where_things_are_written() -> None:
    routes = {name: route({"prefix": f"/{name}"}) for name in ("a", "b", "cc", "dd")}
    backwards = dict(reversed(routes.items()))
    assert order(routes) == order(backwards) == ["cc", "dd", "a", "b"]


def test_routes_by_host_keep_their_order() -> None:
    made = gateway(
        {
            "m": module({"r": route({"prefix": "/"}), "s": route()}, hosts=["b.example.com", "a.example.com"]),
            "n": module({"r": route({"exact": "/x"})}),
        }
    )
    grouped = {host: [found.full_name for found in routes] for host, routes in by_host(resolve(made)).items()}
    assert grouped == {"*": ["n/r"], "a.example.com": ["m/s", "m/r"], "b.example.com": ["m/s", "m/r"]}
    assert list(grouped) == sorted(grouped)


def test_identity_headers_of_all_providers_and_key_sources() -> None:
    made = gateway(
        {},
        jwt_providers={
            "acme": {
                "issuer": "i",
                "audiences": ["a"],
                "jwks": {"hs256": {"secret": "s"}},
                "claims_to_headers": {"sub": "X-User-Id", "org": "x-org"},
            }
        },
        api_keys={"partner": {"forward_client_id": "x-client-id"}, "other": {}},
    )
    assert header_names_of_identity(made) == ("x-client-id", "x-org", "x-user-id")


def test_what_a_route_turns_on_is_inherited_whole_and_none_turns_it_off() -> None:
    limit, nearer = {"limit": "1KiB"}, {"limit": "2KiB"}
    routes = {
        "a-inherits": route(),
        "b-overrides": route({"exact": "/b"}, request_buffer=nearer, grpc_web=False),
        "c-off": route({"exact": "/c"}, request_buffer="none", csrf="none"),
    }
    made = gateway({"m": module(routes, request_buffer=limit, grpc_web=True)}, defaults={"csrf": {}})
    found = {one.name: one.traffic for one in resolve(made)}
    assert {
        name: (one.request_buffer.limit if one.request_buffer else None, one.grpc_web, one.csrf is not None)
        for name, one in found.items()
    } == {"a-inherits": (1024, True, True), "b-overrides": (2048, False, True), "c-off": (None, True, False)}
