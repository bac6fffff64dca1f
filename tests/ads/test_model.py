"""Random dialogues: whatever is said in whatever order, the client ends with the snapshot's content, by needed sends.

The client here knows the protocol and nothing of the server. It refuses a response that has a resource of the bad
edition, as a whole, and it complains about a response that it had no reason to expect.
"""

from dataclasses import dataclass, field

from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.ads.dialogue import MAKERS, DeltaTalk, SotwTalk, cluster
from xds_server.ads.events import Send
from xds_server.resources import CLUSTER, LISTENER, SCOPED_ROUTES, Resource

BAD = 3
POOL = ("a", "b", "c")
FULL_SET = (CLUSTER, LISTENER, SCOPED_ROUTES)
TYPES = tuple(MAKERS)

Editions = dict[tuple[str, str], int]

contents = st.dictionaries(st.tuples(st.sampled_from(TYPES), st.sampled_from(POOL)), st.integers(0, BAD), max_size=12)
types = st.sampled_from(TYPES)
subscriptions = st.sets(st.sampled_from((*POOL, "*", "nobody")), max_size=3)


def build(type_url: str, name: str, edition: int) -> Message:
    return cluster(name, edition, eds=True) if type_url == CLUSTER else MAKERS[type_url](name, edition)


BAD_VERSIONS = {Resource.of(build(type_url, name, BAD)).version for type_url in TYPES for name in POOL}


@dataclass
class Side:
    """What the client knows of one type. `expected` are names that it has a reason to get though it may have them."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    has: dict[str, str] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    outstanding: Send | None = None

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names


class Conversation(RuleBasedStateMachine):
    """The rules that hold for both variants.

    A variant brings `new_talk` (a fresh stream), `ask` (subscribe), `reply` (ACK or NACK), `check_expected` (is this
    what the client lacked?) and `take` (what the client holds then).
    """

    talk: SotwTalk | DeltaTalk

    @initialize()
    def begin(self) -> None:
        self.sides: dict[str, Side] = {}
        self.talk = self.new_talk()

    def hear(self, sends: list[Send]) -> None:
        for send in sends:
            side = self.sides[send.type_url]
            assert side.outstanding is None, "two responses of one type are outstanding"
            assert len(send.names) == len(set(send.names))
            self.check_expected(side, send)
            side.outstanding = send
            side.expected -= {*send.names, "*"}
            if send.type_url == CLUSTER:
                self.expect_endpoints(send)

    def expect_endpoints(self, send: Send) -> None:
        for resource in send.resources:
            for side in self.sides.values():
                if side is not self.sides[CLUSTER]:
                    side.expected.add(resource.name)

    def answer(self, side: Side) -> None:
        send, side.outstanding = side.outstanding, None
        assert send is not None
        if any(resource.version in BAD_VERSIONS for resource in send.resources):
            side.expected |= {*send.names, "*"}
            self.hear(self.reply(send, "bad edition"))
        else:
            self.take(side, send)
            self.hear(self.reply(send, ""))

    @rule(editions=contents)
    def publish(self, editions: Editions) -> None:
        for type_url, side in self.sides.items():
            if not self.removes(type_url):  # should it come back, it is new
                side.expected |= {name for name in POOL if (type_url, name) not in editions}
        self.hear(self.talk.publish(*(build(url, name, edition) for (url, name), edition in editions.items())))

    @rule(type_url=types, wanted=subscriptions)
    def subscribe(self, type_url: str, wanted: set[str]) -> None:
        self.sides.setdefault(type_url, Side())
        self.ask(type_url, wanted)

    @precondition(lambda self: any(side.outstanding for side in self.sides.values()))
    @rule(data=st.data())
    def answer_one(self, data: st.DataObject) -> None:
        waiting = sorted(url for url, side in self.sides.items() if side.outstanding)
        self.answer(self.sides[data.draw(st.sampled_from(waiting))])

    @invariant()
    def quiet_unless_something_happens(self) -> None:
        if self.sides:
            assert self.talk.drain() == []

    def settle(self) -> None:
        for _ in range(100):
            waiting = [side for side in self.sides.values() if side.outstanding]
            if not waiting:
                return
            for side in waiting:
                self.answer(side)
        raise AssertionError("the dialogue does not come to rest")

    @rule(editions=contents)
    def come_to_rest(self, editions: Editions) -> None:
        """Publish something good: in the end the client has exactly that, and everything is in sync."""
        self.settle()
        good = {key: edition % BAD for key, edition in editions.items()}
        self.publish(good)
        self.settle()
        for type_url, side in self.sides.items():
            published = self.talk.snapshot.types[type_url].resources
            wanted = {name: r.version for name, r in published.items() if side.covers(name)}
            has = side.has if self.removes(type_url) else {n: v for n, v in side.has.items() if n in published}
            assert has == wanted, type_url
            assert self.talk.in_sync(type_url), type_url

    def removes(self, type_url: str) -> bool:
        """Whether the client is told of removals."""
        return True


class SotwConversation(Conversation):
    def new_talk(self) -> SotwTalk:
        self.explicit: set[str] = set()
        self.known: dict[str, set[str]] = {}
        return SotwTalk()

    def removes(self, type_url: str) -> bool:
        return type_url in FULL_SET

    def ask(self, type_url: str, wanted: set[str]) -> None:
        assert isinstance(self.talk, SotwTalk)
        side, first = self.sides[type_url], type_url not in self.known
        if wanted:
            self.explicit.add(type_url)
        wildcard = "*" in wanted or type_url not in self.explicit
        added = wanted - {"*"} - side.names
        if first or added or (wildcard and not side.wildcard):
            side.expected |= added | {"*"}
        if wildcard and not side.wildcard:
            side.expected |= set(POOL)
        side.names, side.wildcard = wanted - {"*"}, wildcard
        side.has = {name: version for name, version in side.has.items() if side.covers(name)}
        self.known[type_url] = wanted
        if side.outstanding is None:
            self.hear(self.talk.ask(type_url, *wanted))
        else:  # sent before the response was seen: it must not be answered
            assert self.talk.ask(type_url, *wanted, nonce="") == []

    def reply(self, send: Send, error: str) -> list[Send]:
        assert isinstance(self.talk, SotwTalk)
        return self.talk.ask(send.type_url, *self.known[send.type_url], nonce=send.nonce, error=error)

    def check_expected(self, side: Side, send: Send) -> None:
        new = {r.name: r.version for r in send.resources}
        if send.type_url in FULL_SET:
            assert new != side.has or side.expected, "the client has this full set"
        else:
            assert send.resources, "an empty response says nothing"
            assert not [n for n, v in new.items() if side.has.get(n) == v and n not in side.expected]

    def take(self, side: Side, send: Send) -> None:
        new = {r.name: r.version for r in send.resources if side.covers(r.name)}
        side.has = new if send.type_url in FULL_SET else side.has | new


class DeltaConversation(Conversation):
    def new_talk(self) -> DeltaTalk:
        self.started: set[str] = set()
        return DeltaTalk()

    def ask(self, type_url: str, wanted: set[str]) -> None:
        assert isinstance(self.talk, DeltaTalk)
        side = self.sides[type_url]
        if "*" in wanted or (not wanted and type_url not in self.started):
            if not side.wildcard:
                side.expected |= {"*", *POOL}
            side.wildcard = True
        self.started.add(type_url)
        side.names |= wanted - {"*"}
        side.expected |= wanted
        self.hear(self.talk.ask(type_url, *wanted))

    @rule(type_url=types, unwanted=subscriptions)
    def unsubscribe(self, type_url: str, unwanted: set[str]) -> None:
        assert isinstance(self.talk, DeltaTalk)
        side = self.sides.get(type_url)
        if side is None or not unwanted:
            return
        if "*" in unwanted:
            side.wildcard = False
        side.expected |= unwanted & side.names
        side.names -= unwanted
        side.has = {name: version for name, version in side.has.items() if side.covers(name)}
        self.hear(self.talk.ask(type_url, unsubscribe=tuple(sorted(unwanted))))

    def reply(self, send: Send, error: str) -> list[Send]:
        assert isinstance(self.talk, DeltaTalk)
        return self.talk.ask(send.type_url, nonce=send.nonce, error=error)

    def check_expected(self, side: Side, send: Send) -> None:
        for resource in send.resources:
            assert side.has.get(resource.name) != resource.version or resource.name in side.expected
        for name in send.removed:
            assert name in side.has or name in side.expected, "the client does not know what is removed"
        assert send.names or "*" in side.expected, "an empty response"

    def take(self, side: Side, send: Send) -> None:
        side.has |= {r.name: r.version for r in send.resources if side.covers(r.name)}
        for name in send.removed:
            side.has.pop(name, None)


TestSotw = SotwConversation.TestCase
TestDelta = DeltaConversation.TestCase
TestSotw.settings = TestDelta.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
