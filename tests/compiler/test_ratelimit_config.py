"""What envoyproxy/ratelimit would be told: the same descriptors that Envoy sends, and a list of what cannot be said."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from gateway.limits import tier_nodes
from gateway.model import decode
from gateway.resolve import resolve
from xds_server.compiler.ratelimit_config import Export, export
from xds_server.resources import RATE_LIMITS, Resource


def exported(*limits: dict[str, Any]) -> Export:
    gateway = decode({"version": 1, "tiers": {"free": {"rate_limits": list(limits)}}})
    return export(gateway, resolve(gateway))


def tree(found: Export) -> Any:
    assert found.config is not None
    return MessageToDict(found.config, preserving_proto_field_name=True)


def test_it_is_a_resource_of_the_type_that_the_service_asks_for() -> None:
    found = exported({"limit": "10/minute"})
    assert found.config is not None
    resource = Resource.of(found.config)
    assert (resource.type_url, resource.name) == (RATE_LIMITS, "tollhouse")
    assert found.missing == ()


def test_the_tree_has_a_branch_for_each_descriptor_that_envoy_sends() -> None:
    gateway = decode(
        {"version": 1, "tiers": {"free": {"rate_limits": [{"limit": "3/day", "per": ["client", "route"]}]}}}
    )
    found = tree(export(gateway, ()))
    for node in tier_nodes(gateway):
        level = found["descriptors"]
        for key, value in (node.head, *((key, "") for key in node.keys)):
            (at,) = [one for one in level if (one["key"], one.get("value", "")) == (key, value)]
            level = at.get("descriptors", [])
        assert at["rate_limit"] == {"unit": "DAY", "requests_per_unit": 3}


def test_what_cannot_be_said_is_named() -> None:
    found = exported(
        {"limit": "100/hour", "burst": 5},
        {"limit": "10/second"},
        {"limit": "1000/week", "per": "ip"},
        {"limit": "7/minute", "per": "route", "cost": 2, "shadow": True},
    )
    of_tier = [line for line in found.missing if line.startswith("tier=")]
    assert of_tier == [
        "tier=free per client: 10/second is left out",
        "tier=free per client: the burst of 5 is left out, it counts in fixed windows",
        "tier=free per remote_address: 1000/week is left out",
        "tier=free per route: 7/minute at a cost of 2 is rounded down",
    ]
    (tier, _) = tree(found)["descriptors"]
    said = {one["key"]: one for one in tier["descriptors"]}
    assert said["client"]["rate_limit"] == {"unit": "HOUR", "requests_per_unit": 100}
    assert "rate_limit" not in said["remote_address"]
    assert (said["route"]["rate_limit"]["requests_per_unit"], said["route"]["shadow_mode"]) == (3, True)


def test_without_limits_there_is_nothing() -> None:
    assert export(decode({"version": 1, "tiers": {"free": {"unlimited": True}}}), ()) == Export(None, ())
