"""A client that comes back: it says what it has (statement 42), and make before break holds for that too (47 to 52).

The state of the world cannot say it: there a full set without the old cluster goes out at once.
"""

from tests.ads.conformance.variants import Talks, delta
from tests.ads.dialogue import cluster, endpoints, listener, names, routes
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource

OLD, MOVED = routes("r"), routes("r", 1)

PATIENCE = 0.6


def has(*messages: object) -> dict[str, str]:
    """What a client says that it has."""
    resources = map(Resource.of, messages)  # type: ignore[arg-type]
    return {resource.name: resource.version for resource in resources}


@delta
def test_s48_s52_a_swap_while_the_client_was_away_is_made_before_it_is_broken(talk: Talks) -> None:
    t = talk(cluster("new", eds=True), endpoints("new"), listener("l"), MOVED)
    (clusters,) = t.start(CLUSTER, versions=has(cluster("old", eds=True)))
    assert (names(clusters), clusters.removed) == (["new"], ())
    assert t.start(LISTENER, versions=has(listener("l"))) == []
    assert t.start(ENDPOINTS, "old", versions=has(endpoints("old"))) == []
    assert t.start(ROUTES, "r", versions=has(OLD)) == []  # nothing moves to a cluster that is not warm
    (assignments,) = t.ask(ENDPOINTS, "new")
    t.ack(assignments)
    (moved,) = t.ack(clusters)
    assert names(moved) == ["r"]
    assert t.ack(moved) == []  # something of another type may still point at the old one


@delta
def test_s48_what_is_gone_is_removed_in_the_end(talk: Talks) -> None:
    t = talk(cluster("new"), MOVED, patience=PATIENCE)
    (clusters,) = t.start(CLUSTER, versions=has(cluster("old")))
    t.start(ROUTES, "r", versions=has(OLD))
    (moved,) = t.ack(clusters)
    t.ack(moved)
    (removal,) = t.wait()
    assert (names(removal), removal.removed) == ([], ("old",))
    t.ack(removal)
    assert t.in_sync(CLUSTER, ROUTES)


@delta
def test_s52_routes_wait_for_a_client_that_has_not_spoken_of_its_clusters_yet(talk: Talks) -> None:
    t = talk(cluster("new"), MOVED)
    assert t.start(ROUTES, "r", versions=has(OLD)) == []
    (clusters,) = t.start(CLUSTER, versions=has(cluster("old")))
    assert names(clusters) == ["new"]
    (moved,) = t.ack(clusters)
    assert names(moved) == ["r"]


@delta
def test_s52_a_client_without_clusters_waits_for_a_while_only(talk: Talks) -> None:
    t = talk(cluster("new"), MOVED, patience=PATIENCE)
    assert t.start(ROUTES, "r", versions=has(OLD)) == []
    (moved,) = t.wait()
    assert names(moved) == ["r"]


@delta
def test_s51_what_a_returning_client_lacks_is_answered_at_once(talk: Talks) -> None:
    t = talk(cluster("new"), MOVED, routes("never-had"))
    t.start(CLUSTER, versions=has(cluster("old")))
    (answer,) = t.start(ROUTES, "r", "never-had", versions=has(OLD))
    assert names(answer) == ["never-had"]


@delta
def test_s42_whoever_has_it_all_is_in_sync_at_once(talk: Talks) -> None:
    content = [cluster("c", eds=True), endpoints("c"), listener("l"), OLD]
    t = talk(*content)
    assert t.start(CLUSTER, versions=has(content[0])) == []
    assert t.start(ENDPOINTS, "c", versions=has(content[1])) == []
    assert t.start(LISTENER, versions=has(content[2])) == []
    assert t.start(ROUTES, "r", versions=has(content[3])) == []
    assert t.in_sync(CLUSTER, ENDPOINTS, LISTENER, ROUTES)
