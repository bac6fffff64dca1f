"""What `gwctl up` decides before anything starts."""

import socket
from pathlib import Path

import pytest

from gateway.model import Gateway
from gateway.read import load
from gwctl.demo import listen
from gwctl.files import read
from gwctl.up import plan as plans
from gwctl.up.plan import Sample
from gwctl.up.ports import Ports, is_free

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "100x-platform"
DOCUMENT = """\
version: 1
listeners:
  first: {port: FIRST}
  low: {port: 80}
  tls: {port: FIRST, protocol: HTTPS, tls: {certificates: [{secret: site}]}, address: 127.0.0.2}
upstreams:
  here: {type: static, endpoints: [{address: 127.0.0.1, port: HERE}]}
  named: {type: dns, host: localhost, port: NAMED}
  away: {type: static, endpoints: [{address: 192.0.2.1, port: 80}]}
jwt_providers:
  hs: {issuer: "https://i.example", audiences: [a], jwks: {hs256: {secret: signing}}}
api_keys:
  keys: {from: {headers: [X-Key]}}
tiers:
  free: {rate_limits: [{limit: 1/hour}]}
  gold: {rate_limits: [{limit: 2/hour}]}
modules:
  a-gold: {tier: gold, listener: first, authentication: {any_of: [keys]}, routes: {all: ROUTE}}
  open: {tier: free, listener: first, hosts: [open.example], authentication: none, routes: {all: ROUTE}}
  z-free:
    tier: free
    listener: first
    hosts: ["*.example.com"]
    authentication: {any_of: [hs, keys]}
    routes:
      post: {match: {path: {exact: /z/post}, methods: [POST]}, backends: [{upstream: here}]}
      one: {match: {path: {template: "/z/{id}"}}, backends: [{upstream: away}]}
      all: {match: {path: {prefix: /z}}, backends: [{upstream: here}, {upstream: named}]}
"""


def gateway(**numbers: int) -> Gateway:
    text = DOCUMENT.replace("ROUTE", "{match: {path: {prefix: /all}}, backends: [{upstream: here}]}")
    for name, number in numbers.items():
        text = text.replace(name.upper(), str(number))
    loaded = load([("t.yaml", text)])
    assert loaded.gateway is not None, loaded.problems
    return loaded.gateway


@pytest.fixture
def numbers() -> dict[str, int]:
    given = Ports()
    return {name: given.any() for name in ("first", "here", "named")}


def test_listeners_keep_their_port_where_they_can(numbers: dict[str, int]) -> None:
    made = plans.plan(gateway(**numbers), None, Ports())
    assert made.listeners["first"] == numbers["first"]
    assert made.listeners["low"] >= 1024
    assert made.listeners["tls"] not in (made.listeners["first"], made.listeners["low"])
    assert made.schemes == {"first": "http", "low": "http", "tls": "https"}


def test_the_port_of_the_command_line_is_the_first_listeners(numbers: dict[str, int]) -> None:
    other = Ports().any()
    assert plans.plan(gateway(**numbers), other, Ports()).listeners["first"] == other
    with listen("127.0.0.1", other), pytest.raises(OSError, match=f"port {other} is in use"):
        plans.plan(gateway(**numbers), other, Ports())


def test_upstreams_on_this_machine_are_stood_in_for_unless_somebody_serves_them(numbers: dict[str, int]) -> None:
    with serving(numbers["named"]):
        made = plans.plan(gateway(**numbers), None, Ports())
    assert made.demo == {"here": numbers["here"]}
    assert made.busy == {"named": numbers["named"]}
    with listen("127.0.0.1", numbers["named"]):
        assert plans.plan(gateway(**numbers), None, Ports()).busy == {}, "another demo may share its ports"


def serving(port: int) -> socket.socket:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken


def test_only_shared_keys_are_made_up(numbers: dict[str, int]) -> None:
    assert plans.plan(gateway(**numbers), None, Ports()).secrets == ("signing",)


def test_the_sample_call_is_one_that_the_lowest_tier_may_make(numbers: dict[str, int]) -> None:
    made = plans.plan(gateway(**numbers), None, Ports())
    assert made.sample == Sample("/z", "free", host="www.example.com", key_header="x-key", provider="hs")


def test_the_next_run_takes_the_same_ports_where_they_are_free(numbers: dict[str, int]) -> None:
    made = plans.plan(gateway(**numbers), None, Ports())
    last = plans.from_json(made.to_json())
    assert last is not None
    assert plans.again(last, None, Ports()) == made
    other = Ports().any()
    assert plans.again(last, other, Ports()).listeners["first"] == other
    with serving(numbers["here"]):
        again = plans.again(last, None, Ports())
    assert again.busy == {"here": numbers["here"]}
    assert again.demo == {"named": numbers["named"]}


@pytest.mark.parametrize("written", [{}, {"listeners": {}}, {"sample": {"nonsense": 1}}])
def test_a_plan_of_another_version_is_no_plan(written: dict[str, object]) -> None:
    assert plans.from_json(written) is None


def test_the_example_has_everything_that_up_prints() -> None:
    loaded = load(read([EXAMPLE]))
    assert loaded.gateway is not None
    made = plans.plan(loaded.gateway, None, Ports())
    assert len(made.demo) + len(made.busy) == 30
    assert made.sample is not None
    assert made.sample.tier == "free"
    assert made.sample.key_header == "x-api-key"
    assert made.sample.provider == "platform"
    assert all(is_free(port, shared=True) for port in made.demo.values())
