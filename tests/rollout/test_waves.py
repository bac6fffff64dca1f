"""The state machine of rollouts: what happens next, as tables; and what never happens, whatever the fleet does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.rows import Fleet, FleetNode, RolloutRow
from gateway.model.rollout import HaltOn, Rollout, Wave, WaveNodes
from xds_server.rollout import waves
from xds_server.rollout.waves import Action, Move, NotNow, Told, order, picked, step, tally

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
OLD = BEGAN - timedelta(hours=1)
BASE, TARGET = 7, 8
CANARY = Wave(name="canary", nodes=WaveNodes(labels={"canary": "true"}), soak="60s")
QUARTER = Wave(name="quarter", nodes=WaveNodes(percent="25%"))
BLOCK = Rollout(waves=(CANARY, QUARTER, Wave(name="all")))
HOLD = BLOCK.model_copy(update={"on_halt": "hold"})


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def node(
    name: str, revision: int = BASE, *, rejected: int = 0, connected: bool = True, seen: datetime = OLD
) -> FleetNode:
    labels = {"canary": "true"} if name == "a" else {}
    return FleetNode(name, "edge", labels, "", "", connected, revision, rejected, None, seen)


def fleet(*nodes: FleetNode, since: datetime = OLD) -> Fleet:
    return Fleet({one.id: one for one in nodes}, since)


def row(**fields: Any) -> RolloutRow:
    new = RolloutRow(TARGET, BASE, "running", -1, (), frozenset(), BEGAN, None, "", ())
    return replace(new, **fields)


EIGHT = [node(name) for name in "abcdefgh"]
ONE = row(wave=0, members=(("a",),))


def after(found: RolloutRow, move: Move, now: datetime) -> RolloutRow:
    """The row as the store has it after the move."""
    changed = {name: now if value is True else value for name, value in move.changes.items()}
    made = replace(found, **changed)
    return replace(made, state="rolled_back") if move.undo and made.open else made


CASES: dict[str, tuple[RolloutRow, Fleet, float, Told, str | None, dict[str, Any]]] = {
    "the first wave begins": (row(), fleet(*EIGHT), 1, Told(), "wave_started", {"members": (("a",),), "wave": 0}),
    "nobody has watched for long enough": (row(), fleet(*EIGHT, since=BEGAN), 1, Told(), None, {}),
    "a wave that finds nobody is waited for": (row(), fleet(*EIGHT[1:]), 29, Told(), None, {}),
    "but not for ever": (row(), fleet(*EIGHT[1:]), 31, Told(), "wave_started", {"members": ((),)}),
    "no fleet at all": (row(), fleet(), 29, Told(), None, {}),
    "frozen": (row(), fleet(*EIGHT), 1, Told(frozen=True), None, {}),
    "not all have it": (ONE, fleet(*EIGHT), 5, Told(), None, {}),
    "all have it": (ONE, fleet(node("a", TARGET)), 5, Told(), "acked", {"acked_at": True}),
    "it soaks": (replace(ONE, acked_at=at(5)), fleet(node("a", TARGET), *EIGHT[1:]), 64, Told(), None, {}),
    "it has soaked": (
        replace(ONE, acked_at=at(5)), fleet(node("a", TARGET), *EIGHT[1:]), 66, Told(), "wave_started", {"wave": 1}
    ),
    "frozen while it soaks": (
        replace(ONE, acked_at=at(5)), fleet(node("a", TARGET), *EIGHT[1:]), 66, Told(frozen=True), None, {}
    ),
    "a refusal": (ONE, fleet(node("a", rejected=TARGET)), 1, Told(), "halted", {"reason": "a refused revision 8"}),
    "a refusal while frozen": (ONE, fleet(node("a", rejected=TARGET)), 1, Told(frozen=True), "halted", {}),
    "a refusal of something older": (ONE, fleet(node("a", rejected=BASE)), 1, Told(), None, {}),
    "a refusal while it soaks": (
        replace(ONE, acked_at=at(5)), fleet(node("a", rejected=TARGET)), 9, Told(), "halted", {}
    ),
    "an excused refusal": (
        replace(ONE, excused=frozenset("a")), fleet(node("a", rejected=TARGET)), 1, Told(), "acked", {}
    ),
    "silence": (
        ONE, fleet(*EIGHT), 31, Told(), "halted", {"reason": "a did not take revision 8 within 30 s"}
    ),
    "silence that began late": (ONE, fleet(node("a", seen=at(20))), 31, Told(), None, {}),
    "silence, but control planes were away": (ONE, fleet(*EIGHT, since=at(20)), 31, Told(), None, {}),
    "gone while it soaks": (
        replace(ONE, acked_at=at(1)), fleet(node("a", TARGET, connected=False, seen=at(5))), 36, Told(), "halted", {}
    ),
    "gone for a moment": (
        replace(ONE, acked_at=at(1)), fleet(node("a", TARGET, connected=False, seen=at(50))), 62, Told(), None, {}
    ),
    "unknown to anybody": (ONE, fleet(), 31, Told(), "halted", {}),
    "it does not compile": (
        row(), fleet(), 0, Told(failure="no"), "halted", {"reason": "revision 8 is not published: no"}
    ),
    "traffic is worse": (ONE, fleet(*EIGHT), 1, Told(worse="5xx went up"), "halted", {"reason": "5xx went up"}),
    "the last wave is through": (
        row(wave=2, members=(("a",), ("b",), ("c",)), acked_at=at(1)),
        fleet(*(node(name, TARGET) for name in "abc")), 2, Told(), "done", {"state": "done"},
    ),
    "nobody is left for the last wave": (
        row(wave=1, members=(("a",), ("b",)), acked_at=at(1)),
        fleet(*(node(name, TARGET) for name in "ab")), 2, Told(), "wave_started", {"wave": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_happens_next(case: str) -> None:
    found, there, seconds, told, what, changes = CASES[case]
    move = step(found, there, at(seconds), BLOCK, told)
    assert (move.what if move else None) == what
    assert move is None or {name: move.changes[name] for name in changes} == changes


@pytest.mark.parametrize("state", ["paused", "halted", "done", "rolled_back", "aborted", "superseded"])
def test_nothing_but_a_running_one_moves_by_itself(state: str) -> None:
    assert (
        step(row(state=state), fleet(node("a", rejected=TARGET)), at(99), BLOCK, Told(failure="x", worse="x")) is None
    )


def test_only_a_rollback_is_undone() -> None:
    refused = fleet(node("a", rejected=TARGET))
    assert [step(ONE, refused, at(1), block, Told()).undo for block in (BLOCK, HOLD)] == [True, False]  # type: ignore[union-attr]


def test_fewer_refusals_than_halt_it_do_not_hold_it_up() -> None:
    patient = BLOCK.model_copy(update={"halt_on": HaltOn(nack=2)})
    move = step(ONE, fleet(node("a", rejected=TARGET)), at(1), patient, Told())
    assert move is not None
    assert move.what == "acked"


def test_a_share_is_of_all_and_rounded_up_and_always_the_same() -> None:
    first = picked(QUARTER, (), fleet(*EIGHT))
    assert len(first) == 2
    assert first == picked(QUARTER, (), fleet(*reversed(EIGHT)))
    assert len(picked(QUARTER, ("a",), fleet(*EIGHT, node("i")))) == 3
    assert not set(picked(QUARTER, first, fleet(*EIGHT))) & set(first)
    assert picked(QUARTER, (), fleet(node("a", connected=False))) == ()


ORDERS: list[tuple[str, Action, str | None]] = [
    ("running", "pause", "paused"),
    ("paused", "pause", None),
    ("halted", "pause", None),
    ("running", "resume", None),
    ("paused", "resume", "running"),
    ("halted", "resume", "running"),
    ("running", "promote", "running"),
    ("halted", "promote", "running"),
    ("running", "abort", "aborted"),
    ("halted", "abort", "aborted"),
    *((state, action, None) for state in ("done", "rolled_back") for action in waves.FITS),
]


@pytest.mark.parametrize(("state", "action", "then"), ORDERS)
def test_orders(state: str, action: Action, then: str | None) -> None:
    found = replace(ONE, state=state)
    if then is None:
        with pytest.raises(NotNow, match="revision 8"):
            order(found, action, fleet(*EIGHT), at(1), BLOCK)
    else:
        assert order(found, action, fleet(*EIGHT), at(1), BLOCK).changes["state"] == then


def test_who_lets_a_halted_one_go_on_excuses_the_nodes_that_halted_it() -> None:
    found = row(wave=1, members=(("a",), ("b", "c")), state="halted", reason="a refused revision 8")
    there = fleet(node("a", rejected=TARGET), node("b", TARGET), node("c"))
    move = order(found, "resume", there, at(1), BLOCK)
    assert move.changes["excused"] == frozenset("a")
    assert order(replace(found, state="paused"), "resume", there, at(1), BLOCK).changes["excused"] == frozenset()
    assert step(after(found, move, at(1)), there, at(2), BLOCK, Told()) is None


def test_promoting_is_to_the_next_wave_or_everywhere() -> None:
    assert order(ONE, "promote", fleet(*EIGHT), at(1), BLOCK).changes["wave"] == 1
    assert order(ONE, "promote", fleet(*EIGHT), at(1), BLOCK, everywhere=True).changes["state"] == "done"
    last = row(wave=2, members=((), (), ()))
    assert order(last, "promote", fleet(*EIGHT), at(1), BLOCK).changes["state"] == "done"


NAMES = st.sampled_from("abcdefgh")
EVENTS = st.one_of(
    st.tuples(st.just("tick"), st.floats(0.1, 40)),
    st.tuples(st.sampled_from(["take", "refuse", "leave", "join"]), NAMES),
    st.tuples(st.just("operator"), st.sampled_from(sorted(waves.FITS))),
)


class Run:
    """A rollout and a fleet that gives nodes what the rules say."""

    def __init__(self, block: Rollout) -> None:
        self.block, self.row, self.now = block, row(), BEGAN
        self.nodes = {one.id: one for one in EIGHT}

    def given(self, name: str) -> int:
        """What the node is sent."""
        if self.row.state == "done":
            return TARGET
        return TARGET if self.row.open and name in self.row.admitted else BASE

    def node(self, what: str, name: str) -> None:
        one, given = self.nodes[name], self.given(name)
        changed = {
            "take": {"revision": given, "rejected": 0},
            "refuse": {"rejected": given},
            "leave": {"connected": False},
            "join": {"connected": True, "revision": 0},
        }[what]
        self.nodes[name] = replace(one, **changed, seen_at=self.now)

    def steps(self) -> None:
        for _ in range(20):
            move = step(self.row, fleet(*self.nodes.values()), self.now, self.block, Told())
            if move is None:
                return
            assert self.row.state == "running"
            self.row = after(self.row, move, self.now)
        raise AssertionError("it moves without end")

    def operator(self, action: Action) -> None:
        try:
            move = order(self.row, action, fleet(*self.nodes.values()), self.now, self.block)
        except NotNow:
            return
        self.row = after(self.row, move, self.now)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([BLOCK, HOLD]), st.lists(EVENTS, max_size=40))
def test_what_never_happens(block: Rollout, events: list[tuple[str, Any]]) -> None:
    run = Run(block)
    for what, which in events:
        before, admitted = run.row, run.row.admitted
        if what == "tick":
            run.now += timedelta(seconds=which)
        elif what == "operator":
            run.operator(which)
        else:
            run.node(what, which)
        run.steps()
        # only nodes of started waves have the revision, until everybody has
        if run.row.state == "running":
            have = {name for name, one in run.nodes.items() if TARGET in (one.revision, one.rejected)}
            assert have <= run.row.admitted
        # no node is in two waves, and a wave does not change once it has begun
        assert len(run.row.admitted) == sum(map(len, run.row.members))
        assert run.row.members[: len(before.members)] == before.members
        # a halt is final until an operator acts, and what has ended has ended
        if before.state == "halted" and what != "operator":
            assert run.row is before
        if not before.open:
            assert run.row is before
            assert run.row.admitted == admitted
        # nodes of a wave are in one place each
        found = tally(run.row, run.row.admitted, fleet(*run.nodes.values()), run.now, block.halt_on)
        assert len({*found.acked, *found.pending, *found.nacked, *found.stuck}) == len(run.row.admitted)
