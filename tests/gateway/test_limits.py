"""Limits as descriptors: the entries that the compiler sends and the decision service looks up."""

from typing import Any

from gateway.limits import (
    entry_keys,
    limit_id,
    route_nodes,
    tier_key,
    tier_nodes,
    tier_shapes,
)
from gateway.local_limits import LocalLimit, of_route
from gateway.model import Gateway, RateLimit, decode
from gateway.resolve import resolve


def limit(per: Any = "client", rate: str = "1/second", **rest: Any) -> dict[str, Any]:
    return {"limit": rate, "per": per, **rest}


def gateway(tiers: dict[str, Any], authentication: Any = None, **rest: Any) -> Gateway:
    route = {"match": {"path": {"exact": "/"}}, "respond": {"status": 200}, **rest}
    module = {
        "tier": "free",
        "listener": "http",
        "authentication": authentication or {"any_of": ["keys"]},
        "rate_limits": [limit("ip", name="module")],
        "routes": {"r": route},
    }
    return decode({"version": 1, "tiers": tiers, "modules": {"m": module}})


TIERS = {
    "free": {"rate_limits": [limit(), limit(rate="9/day"), limit(["client", "route"])]},
    "gold": {"rate_limits": [limit(["claim:org", "ip"])]},
    "top": {"unlimited": True},
}


def test_keys_of_per() -> None:
    made = RateLimit.model_validate_json(
        '{"limit": "1/second", "per": ["client", "ip", "route", "claim:org", "client"]}'
    )
    assert entry_keys(made, anonymous=False) == ("client", "remote_address", "route", "claim:org")
    assert entry_keys(made, anonymous=True) == ("remote_address", "route", "claim:org")


def test_every_shape_of_any_tier_goes_out_once() -> None:
    made = gateway(TIERS)
    assert tier_shapes(made, anonymous=False) == (("claim:org", "remote_address"), ("client",), ("client", "route"))
    assert tier_shapes(made, anonymous=True) == (
        ("claim:org", "remote_address"),
        ("remote_address",),
        ("remote_address", "route"),
    )


def test_limits_of_one_shape_share_a_node_and_callers_without_credentials_have_their_own() -> None:
    nodes = tier_nodes(gateway(TIERS))
    assert [(node.head, node.keys, [str(one.limit) for one in node.limits]) for node in nodes] == [
        (("tier", "free"), ("client",), ["1/second", "9/day"]),
        (("tier", "free"), ("client", "route"), ["1/second"]),
        (("anonymous_tier", "free"), ("remote_address",), ["1/second", "9/day"]),
        (("anonymous_tier", "free"), ("remote_address", "route"), ["1/second"]),
        (("tier", "gold"), ("claim:org", "remote_address"), ["1/second"]),
        (("anonymous_tier", "gold"), ("claim:org", "remote_address"), ["1/second"]),
    ]


def test_every_node_is_found_under_a_shape_that_is_sent() -> None:
    made = gateway(TIERS)
    for node in tier_nodes(made):
        assert node.keys in tier_shapes(made, anonymous=node.head[0] == tier_key(anonymous=True))


def test_a_routes_limits_have_a_node_each_called_by_name_or_place() -> None:
    (route,) = resolve(gateway(TIERS, rate_limits=[limit(), limit(["client", "route"], name="burst")]))
    assert [(node.head, node.keys) for node in route_nodes(route)] == [
        (("route_limit", "m/r/module"), ("remote_address",)),
        (("route_limit", "m/r/1"), ("client",)),
        (("route_limit", "m/r/burst"), ("client", "route")),
    ]
    assert limit_id(route, 1, route.rate_limits[1]) == "m/r/1"


def test_on_an_open_route_the_client_is_an_address() -> None:
    (route,) = resolve(gateway(TIERS, "none", rate_limits=[limit()]))
    assert [node.keys for node in route_nodes(route)] == [("remote_address",), ("remote_address",)]


def test_local_limits_are_no_business_of_the_decision_service() -> None:
    limits = [limit(name="exact"), limit(["ip", "route"], "60/minute", mode="local", burst=90, cost=2)]
    (route,) = resolve(gateway({"free": {"rate_limits": [limit(mode="local")]}}, rate_limits=limits))
    assert [node.head for node in route_nodes(route)] == [("route_limit", "m/r/module"), ("route_limit", "m/r/exact")]
    assert of_route(route) == (LocalLimit("m/r/2", ("remote_address",), requests=60, seconds=60, burst=90, cost=2),)
    made = gateway({"free": {"rate_limits": [limit(mode="local")]}})
    assert (tier_nodes(made), tier_shapes(made, anonymous=False)) == ((), ())
