"""What goes with a listener: all that its resources refer to, and no secret that they do not."""

from collections.abc import Iterator

import pytest
from envoy.config.route.v3.route_components_pb2 import WeightedCluster
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from google.protobuf.message import Message

from gateway.model import Gateway, NodeSelector
from gateway.nodes import Node
from tests.compiler import golden
from tests.compiler.walking import walk
from xds_server.ads.groups import view_of
from xds_server.compiler import compile  # noqa: A004
from xds_server.compiler.memo import Memo
from xds_server.compiler.reach import shares_of
from xds_server.compiler.services import Assigner
from xds_server.compiler.shown import message_of
from xds_server.resources import CLUSTER, EXTENSION, SECRET, Resource, Snapshot

CASES = [name for name in golden.NAMES if golden.gateway(name).listeners]


def apart(gateway: Gateway) -> Gateway:
    """Each listener is for the node of its name only."""
    listeners = {
        name: listener.model_copy(update={"nodes": NodeSelector(ids=(name,))})
        for name, listener in gateway.listeners.items()
    }
    return gateway.model_copy(update={"listeners": {**listeners, "none": next(iter(listeners.values()))}})


@pytest.mark.parametrize("case", CASES)
def test_a_view_is_whole_and_has_no_secret_that_it_does_not_use(case: str) -> None:
    gateway = apart(golden.gateway(case))
    found = compile(gateway, golden.SETTINGS, golden.SECRETS)
    snapshot = Snapshot.of(1, found.messages, shares=found.shares)
    for listener in golden.gateway(case).listeners:
        view = view_of(snapshot, Node(listener))
        used = {ref for resource in resources(view) for ref in references(message_of(resource))}
        there = {(url, name) for url in (CLUSTER, SECRET) for name in view.types[url].resources}
        known = {(url, name) for url in (CLUSTER, SECRET) for name in snapshot.types[url].resources}
        assert used & known <= there, f"{listener} lacks {used & known - there}"
        secrets = {ref for ref in there if ref[0] == SECRET}
        assert secrets <= used, f"{listener} has {secrets - used}"


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_same_with_a_memo_and_without_compiling(case: str) -> None:
    gateway, memo = apart(golden.gateway(case)), Memo()
    first, second = (compile(gateway, golden.SETTINGS, golden.SECRETS, memo=memo).shares for _ in range(2))
    assert first == second == shares_of(gateway)


def test_where_every_node_has_every_listener_nothing_is_shared_out() -> None:
    found = compile(golden.gateway("tls"), golden.SETTINGS, golden.SECRETS)
    snapshot = Snapshot.of(1, found.messages, shares=found.shares)
    assert found.shares == ()
    assert view_of(snapshot, Node("any")) is snapshot


def resources(view: Snapshot) -> Iterator[Resource]:
    """The filters' common settings go to every node."""
    for url, of_type in view.types.items():
        if url != EXTENSION:
            yield from of_type.resources.values()


def references(message: Message) -> Iterator[tuple[str, str]]:
    for _, inner in walk(message):
        if isinstance(inner, SdsSecretConfig):
            yield SECRET, inner.name
        elif isinstance(inner, WeightedCluster.ClusterWeight):
            yield CLUSTER, inner.name
        for field, value in inner.ListFields():
            if field.name in ("cluster", "cluster_name") and isinstance(value, str):
                yield CLUSTER, value


def test_endpoints_that_come_later_leave_it_as_it_is() -> None:
    gateway = golden.gateway("nodes")
    found = compile(gateway, golden.SETTINGS, golden.SECRETS)
    snapshot = Snapshot.of(1, found.messages, shares=found.shares)
    assigned = Assigner(golden.SETTINGS).assign(gateway, snapshot, golden.ENDPOINTS).snapshot
    assert assigned is not snapshot
    assert assigned.shares == snapshot.shares != ()
    bank = Node("n", region="us-east")
    assert "bank" in view_of(assigned, bank).types[CLUSTER].resources
    assert "bank" not in view_of(assigned, Node("n", region="eu-west", zone="a")).types[CLUSTER].resources
