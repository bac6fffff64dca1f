"""NACKs are traced to the document: by what Envoy says, and where it says nothing by asking it again about parts."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import Message

from gateway import read
from gateway.problems import dotted
from tests.admin.conftest import SETTINGS
from tests.ads.real_envoy import BINARY
from xds_server import compiler, resources
from xds_server.ads.board import NodeRow
from xds_server.ads.events import Acked, Nacked
from xds_server.compiler.tables.reading import routes_of
from xds_server.resources import Snapshot
from xds_server.rollout.culprits import Culprits, Refusal, culprit
from xds_server.rollout.publisher import Published, State

DOCUMENT = """\
version: 1
listeners:
  http: {port: 8080, route_table: list}
  edge: {port: 8081}
upstreams:
  orders: {type: static, endpoints: [{address: 10.0.0.1, port: 9000}]}
  billing: {type: dns, host: billing.internal, port: 9000}
jwt_providers:
  acme:
    issuer: https://acme.example
    audiences: [lab]
    jwks: {hs256: {secret: lab-hs}}
tiers: {free: {unlimited: true}}
modules:
  shop:
    tier: free
    listener: http
    authentication: none
    hosts: [shop.example.com]
    routes:
      list: {match: {path: {prefix: /orders}}, backends: [{upstream: orders}]}
      item: {match: {path: {regex: "/items/[0-9]+"}}, backends: [{upstream: orders}]}
      pay: {match: {path: {template: "/pay/{id}"}}, backends: [{upstream: billing}]}
      moved: {match: {path: {exact: /old}}, redirect: {path: /orders}}
"""
LOADED = read.load([("routes.yaml", DOCUMENT)])
ALL = ("http", "edge")

MESSAGES = [
    # kinds of refusals that Envoy has, and where they lie
    (
        resources.CLUSTER,
        "Error adding/updating cluster(s) billing: a reason",
        ("orders", "billing"),
        "upstreams.billing",
    ),
    (resources.CLUSTER, "Proto constraint validation failed", ("orders",), "upstreams.orders"),
    (resources.ENDPOINTS, "malformed IP address: billing.internal", ("orders", "billing"), "upstreams.billing.host"),
    (
        resources.LISTENER,
        "Error adding/updating listener(s) edge: cannot bind '127.0.0.1:8081': Address already in use",
        ALL,
        "listeners.edge",
    ),
    (resources.ROUTES, "missing ]: [0-9", ALL, "modules.shop.routes.item.match.path.regex"),
    (resources.ROUTES, "route: unknown cluster 'billing'", ALL, "modules.shop.routes.pay.backends[0].upstream"),
    (
        resources.ROUTES,
        "Only unique values for domains are permitted. Duplicate entry of domain shop.example.com in route http",
        ALL,
        "modules.shop.hosts[0]",
    ),
    (resources.ROUTES, "something about shop/moved that is new", ALL, "modules.shop.routes.moved"),
    (resources.ROUTES, "path_template: /pay/{id}", ("http",), "modules.shop.routes.pay.match.path.template"),
    (resources.ROUTES, "no idea", ("http",), "listeners.http"),
    (resources.ROUTES, "no idea", ALL, ""),
    (
        resources.EXTENSION,
        "Provider 'acme' in jwt_authn config has invalid local jwks: Jwks RSA [n] field is missing",
        ("tollhouse/jwt_authn",),
        "jwt_providers.acme",
    ),
]


@pytest.mark.parametrize(("url", "message", "names", "expected"), MESSAGES)
def test_what_envoy_says_is_found_in_the_document(
    url: str, message: str, names: tuple[str, ...], expected: str
) -> None:
    assert dotted(culprit(Refusal(url, "v", message, names), LOADED.objects) or ()) == expected


class Fleet:
    """What is published, and a way to say that a node refused it."""

    def __init__(self, messages: tuple[Message, ...]) -> None:
        assert LOADED.gateway is not None
        self.snapshot = Snapshot.of(1, messages)
        published = Published(self.snapshot, LOADED.gateway, LOADED.objects, (), datetime.now(UTC))
        self.state = State(1, published)
        self.hear: Callable[[NodeRow, Acked | Nacked], None] = lambda _row, _event: None

    def listen(self, listener: Callable[[NodeRow, Acked | Nacked], None]) -> None:
        self.hear = listener

    def refuse(self, url: str, message: str) -> Refusal:
        resources_of = self.snapshot.types[url]
        event = Nacked(url, resources_of.version, "1", message, tuple(resources_of.resources))
        now = datetime.now(UTC)
        self.hear(NodeRow(1, "edge-1", "", "1.40.0", "delta", "", now, now), event)
        return Refusal(url, event.version, message, event.names)


def compiled() -> tuple[Message, ...]:
    assert LOADED.gateway is not None
    return tuple(compiler.compile(LOADED.gateway, SETTINGS, {}).messages)


def spoilt(messages: tuple[Message, ...], spoil: Callable[[Message], None]) -> tuple[Message, ...]:
    copies = []
    for message in messages:
        copy = type(message)()
        copy.CopyFrom(message)
        spoil(copy)
        copies.append(copy)
    return tuple(copies)


def spoil_route(message: Message) -> None:
    if isinstance(message, RouteConfiguration):
        for host in message.virtual_hosts:
            for route in routes_of(host):
                if route.name == "shop/moved":
                    route.redirect.regex_rewrite.pattern.regex = "(("


def spoil_cluster(message: Message) -> None:
    if isinstance(message, Cluster) and message.name == "billing":
        message.connect_timeout.seconds = -5


@pytest.mark.parametrize(
    ("spoil", "url", "expected"),
    [
        (spoil_route, resources.ROUTES, "modules.shop.routes.moved"),
        (spoil_cluster, resources.CLUSTER, "upstreams.billing"),
    ],
)
async def test_what_envoy_does_not_say_is_found_by_asking_it(
    spoil: Callable[[Message], None], url: str, expected: str
) -> None:
    messages = spoilt(compiled(), spoil)
    fleet = Fleet(messages)
    culprits = Culprits(fleet, fleet, BINARY)
    refused = fleet.refuse(url, "it said nothing that helps")
    assert dotted(culprits.path(refused) or ()) == "", "nothing is known at once"
    await culprits.settled()
    assert dotted(culprits.path(refused) or ()) == expected


async def test_an_envoy_that_accepts_it_says_nothing() -> None:
    fleet = Fleet(compiled())
    culprits = Culprits(fleet, fleet, BINARY)
    refused = fleet.refuse(resources.ROUTES, "it said nothing that helps")
    assert culprits._asked
    await culprits.settled()
    assert culprits.path(refused) is None


async def test_a_refusal_that_explains_itself_costs_no_envoy() -> None:
    fleet = Fleet(compiled())
    culprits = Culprits(fleet, fleet, BINARY)
    refused = fleet.refuse(resources.ROUTES, "route: unknown cluster 'billing'")
    assert not culprits._asked
    assert dotted(culprits.path(refused) or ()) == "modules.shop.routes.pay.backends[0].upstream"
