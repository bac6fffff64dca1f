"""Each policy of a route with the level that it comes from, as `resolve` takes it."""

from gateway import read
from gateway.effective import as_json, effective

DOCUMENT = """\
version: 1
listeners:
  http: {port: 8080}
upstreams:
  echo: {type: static, endpoints: [{address: 127.0.0.1, port: 9000}]}
tiers:
  free: {unlimited: true}
floor:
  timeouts: {request: 10s}
  response_headers: {set: {x-floor: "1"}}
defaults:
  timeouts: {idle: 70s}
  retry: {attempts: 3}
  request_headers: {set: {x-all: "1"}}
modules:
  open:
    tier: free
    listener: http
    authentication: none
    retry: {attempts: 4}
    request_headers: {set: {x-module: "1"}}
    routes:
      near: {match: {path: {prefix: /a}}, backends: [{upstream: echo}], timeouts: {request: 5s}, retry: none}
      far: {match: {path: {prefix: /b}}, backends: [{upstream: echo}]}
"""


def levels(route: str) -> list[tuple[str, object, str, str | None]]:
    loaded = read.load([("routes.yaml", DOCUMENT)])
    assert loaded.gateway is not None, loaded.problems
    found = as_json(effective(loaded.gateway, loaded.where, "open", route), loaded.where)
    return [(one["field"], one["value"], one["level"], one["place"]) for one in found]


def test_the_nearest_wins_and_says_where_it_is() -> None:
    found = levels("near")
    assert ("hosts", ["*"], "default", None) in found
    assert ("timeouts.request", "5s", "route") in [one[:3] for one in found]
    assert ("timeouts.idle", "70s", "defaults") in [one[:3] for one in found]
    assert ("retry", "none", "route") in [one[:3] for one in found]
    assert next(place for field, *_, place in found if field == "tier") == "routes.yaml:17:11"


def test_the_floor_caps_and_what_is_merged_is_told_level_by_level() -> None:
    found = [one[:3] for one in levels("far")]
    assert ("timeouts.request", "10s", "floor") in found, "nobody wrote one, and the floor is less than the default"
    assert ("retry", {"attempts": 4}, "module") in found
    assert [level for field, _, level in found if field == "request_headers"] == ["defaults", "module"]
    assert [level for field, _, level in found if field == "response_headers"] == ["floor"]
