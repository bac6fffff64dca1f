"""The board of nodes and the waiting for convergence."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from gateway.nodes import Node
from tests.ads.dialogue import cluster, routes
from xds_server.ads.board import GONE_FOR, Board, NodeRow
from xds_server.ads.events import Acked, Nacked, Send
from xds_server.ads.hub import Hub
from xds_server.resources import CLUSTER, ROUTES, Snapshot

ONE = Snapshot.of(1, [routes("a")])
TWO = Snapshot.of(2, [routes("a", 1)])


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


def connect(board: Board, node: str = "n") -> NodeRow:
    return board.connect(Node(node, "edge"), "1.40.0", "delta", "ipv4:127.0.0.1:1")


def take(board: Board, row: NodeRow, snapshot: Snapshot) -> None:
    """As a node that subscribes to routes and accepts them."""
    version = snapshot.types[ROUTES].version
    board.subscribed(row.stream, ROUTES)
    board.sent(row.stream, Send(ROUTES, "1", version, ()))
    board.settled(row.stream, snapshot, {ROUTES: False})
    board.acked(row.stream, Acked(ROUTES, version, "1"))
    board.settled(row.stream, snapshot, {ROUTES: True})


def test_a_row_tells_who_and_what(board: Board, clock: Clock) -> None:
    row = connect(board)
    take(board, row, ONE)
    (row,) = board.rows
    assert (row.id, row.cluster, row.build, row.mode, row.connected) == ("n", "edge", "1.40.0", "delta", True)
    version = ONE.types[ROUTES].version
    types = row.types[ROUTES]
    assert (types.sent_version, types.acked_version, types.current_version) == (version, version, version)
    assert types.nack is None
    assert row.since == types.acked_at == clock.now


def test_a_refusal_stands_until_something_better_is_taken_and_the_last_one_stays(board: Board) -> None:
    row = connect(board)
    take(board, row, ONE)
    board.nacked(row.stream, Nacked(ROUTES, TWO.types[ROUTES].version, "2", "bad regex", ("a",)))
    board.settled(row.stream, TWO, {ROUTES: False})
    types = board.rows[0].types[ROUTES]
    assert types.nack is not None
    assert (types.nack.message, types.nack.names, types.nack.version) == (
        "bad regex",
        ("a",),
        TWO.types[ROUTES].version,
    )
    assert types.current_version == ONE.types[ROUTES].version
    assert not board.synced(TWO)
    three = Snapshot.of(3, [routes("a", 2)])
    take(board, row, three)
    types = board.rows[0].types[ROUTES]
    assert types.nack is None
    assert types.last_nack is not None
    assert board.synced(three)


def test_two_streams_of_one_node_are_two_rows(board: Board) -> None:
    first, second = connect(board), connect(board)
    assert [row.stream for row in board.rows] == [first.stream, second.stream]
    take(board, first, ONE)
    board.subscribed(second.stream, ROUTES)
    assert [row.stream for row in board.behind(ONE)] == [second.stream]
    board.disconnect(second.stream)
    assert [row.connected for row in board.rows] == [True]


def test_a_gone_node_is_listed_for_a_while_and_holds_nobody_up(board: Board, clock: Clock) -> None:
    row = connect(board)
    board.subscribed(row.stream, ROUTES)
    clock.now += timedelta(seconds=5)
    board.disconnect(row.stream)
    (gone,) = board.rows
    assert not gone.connected
    assert gone.last_seen == clock.now
    assert board.synced(ONE)
    clock.now += GONE_FOR + timedelta(seconds=1)
    assert board.rows == ()


def test_a_node_that_comes_back_is_not_gone_any_more(board: Board) -> None:
    board.disconnect(connect(board).stream)
    connect(board)
    assert [row.connected for row in board.rows] == [True]


def test_unchanged_types_count_without_an_ack_and_later_revisions_count_too(board: Board) -> None:
    row = connect(board)
    take(board, row, ONE)
    more = Snapshot.of(2, [routes("a"), cluster("c")])
    assert board.synced(more)  # nothing that it subscribes to has changed
    assert not board.synced(2)  # but nobody has looked yet
    board.settled(row.stream, more, {ROUTES: True})
    assert board.synced(2)
    take(board, row, Snapshot.of(4, [routes("a", 9)]))
    assert board.synced(Snapshot.of(3, [routes("a", 8)]))


def test_a_new_subscription_is_behind_until_it_is_served(board: Board) -> None:
    row = connect(board)
    take(board, row, ONE)
    board.subscribed(row.stream, CLUSTER)
    assert not board.synced(ONE)
    assert not board.synced(1)
    board.settled(row.stream, ONE, {ROUTES: True, CLUSTER: True})
    assert board.synced(ONE)


async def test_convergence_is_told_when_the_last_node_has_it(board: Board) -> None:
    hub = Hub(board)
    first, second = connect(board, "a"), connect(board, "b")
    board.subscribed(first.stream, ROUTES)
    board.subscribed(second.stream, ROUTES)
    waiting = asyncio.create_task(hub.converged(ONE, 10))
    await asyncio.sleep(0)
    take(board, first, ONE)
    await asyncio.sleep(0)
    assert not waiting.done()
    take(board, second, ONE)
    assert await waiting == ()


async def test_convergence_counts_a_node_that_connects_at_the_last_moment(board: Board) -> None:
    first = connect(board, "a")
    board.subscribed(first.stream, ROUTES)
    waiting = asyncio.create_task(board.converged(ONE, 10))
    await asyncio.sleep(0)
    take(board, first, ONE)
    second = connect(board, "b")
    board.subscribed(second.stream, ROUTES)
    await asyncio.sleep(0)
    assert not waiting.done()
    take(board, second, ONE)
    assert await waiting == ()


async def test_convergence_does_not_wait_for_a_node_that_leaves(board: Board) -> None:
    row = connect(board)
    board.subscribed(row.stream, ROUTES)
    waiting = asyncio.create_task(board.converged(ONE, 10))
    await asyncio.sleep(0)
    board.disconnect(row.stream)
    assert await waiting == ()


async def test_convergence_names_who_is_behind_when_time_is_up(board: Board) -> None:
    row = connect(board)
    board.subscribed(row.stream, ROUTES)
    (behind,) = await board.converged(ONE, 0.01)
    assert behind.id == "n"
    assert await Board().converged(ONE, 0.01) == ()


async def test_the_newest_snapshot_wins_and_slots_are_given_back() -> None:
    hub = Hub()
    with hub.slot() as slot:
        hub.publish(ONE)
        hub.publish(TWO)
        assert slot.is_set()
    assert hub.snapshot is TWO
    slot.clear()
    hub.publish(ONE)
    assert not slot.is_set()
    assert await hub.published() is ONE


def test_a_failing_listener_harms_nobody() -> None:
    hub, heard = Hub(), []

    def fail(node: NodeRow, event: object) -> None:
        raise OSError("disk full")

    hub.listen(fail)
    hub.listen(lambda node, event: heard.append(event))
    with capture_logs() as logs:
        hub.tell(connect(hub.board), Acked(ROUTES, "v", "1"))
    assert len(heard) == 1
    assert logs[0]["log_level"] == "error"


def test_listeners_hear_events_until_they_end() -> None:
    hub, heard = Hub(), []
    row = connect(hub.board)
    end = hub.listen(lambda node, event: heard.append((node.id, event)))
    event = Acked(ROUTES, "v", "1")
    hub.tell(row, event)
    end()
    hub.tell(row, event)
    assert heard == [("n", event)]
