"""Random publishing against a client that behaves as Envoy does: no route it holds ever points at a missing cluster.

The client reads responses in their order, warms a cluster until its endpoints come, acknowledges clusters when all are
warm, and asks for the route tables of its listeners. It is cut off at any time and comes back: the delta client with
what it has, the other one empty, since that variant cannot say what it has (`conformance/test_resumption.py`).
"""

from dataclasses import dataclass, field

from envoy.config.route.v3.route_components_pb2 import Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.ads.dialogue import Alone, DeltaTalk, SotwTalk, cluster, endpoints, listener
from xds_server.ads.events import Send
from xds_server.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource

CLUSTERS = ("a", "b", "c", "d")
TABLES = ("r", "s")
SUBSCRIBED = (CLUSTER, ENDPOINTS, LISTENER, ROUTES)
CHILD = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}


def table(name: str, target: str) -> RouteConfiguration:
    message = RouteConfiguration(name=name)
    route = Route(match=RouteMatch(prefix="/"))
    route.route.cluster = target
    message.virtual_hosts.append(VirtualHost(name=name, domains=["*"], routes=[route]))
    return message


def target(resource: Resource) -> str:
    return RouteConfiguration.FromString(resource.data).virtual_hosts[0].routes[0].route.cluster


@st.composite
def documents(draw: st.DrawFn) -> list[Message]:
    """Clusters, and listeners (called as their tables) whose routes point at some of them."""
    editions = draw(st.dictionaries(st.sampled_from(CLUSTERS), st.integers(0, 1), min_size=1))
    tables = draw(st.dictionaries(st.sampled_from(TABLES), st.sampled_from(sorted(editions))))
    messages: list[Message] = []
    for name, edition in editions.items():
        messages += [cluster(name, edition, eds=True), endpoints(name)]
    for name, to in tables.items():
        messages += [listener(name), table(name, to)]
    return messages


@dataclass
class Envoy:
    """What survives a cut: `has` by type and name, the clusters that are not warm yet."""

    has: dict[str, dict[str, Resource]] = field(default_factory=lambda: {url: {} for url in SUBSCRIBED})
    names: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINTS: set(), ROUTES: set()})
    """What it subscribes to by name: the endpoints of its clusters, the tables of its listeners."""
    warming: set[str] = field(default_factory=set)
    inbox: list[Send] = field(default_factory=list)
    nonces: dict[str, str] = field(default_factory=dict)
    unacknowledged: Send | None = None
    """The response of clusters that are still warming."""
    impatient: bool = False
    """The server has waited long enough for a cluster: from here on, until it is warm, all is allowed."""

    def routed(self) -> dict[str, str]:
        """Table to cluster, of the tables that listeners use."""
        return {name: target(r) for name, r in self.has[ROUTES].items() if name in self.has[LISTENER]}


class Traffic(RuleBasedStateMachine):
    talk: SotwTalk | DeltaTalk

    @initialize(document=documents())
    def begin(self, document: list[Message]) -> None:
        self.document = document
        self.envoy = Envoy()
        self.connect([True] * len(SUBSCRIBED))

    @rule(document=documents())
    def publish(self, document: list[Message]) -> None:
        self.document = document
        self.envoy.inbox += self.talk.publish(*document)

    @precondition(lambda self: self.envoy.inbox)
    @rule()
    def read(self) -> None:
        send = self.envoy.inbox.pop(0)
        self.envoy.nonces[send.type_url] = send.nonce
        before = self.envoy.routed()
        added = self.apply(send)
        self.check(before)
        if send.type_url == CLUSTER:
            self.envoy.unacknowledged = send
            self.need(ENDPOINTS, added)
        else:
            self.envoy.inbox += self.talk.ack(send)
        if send.type_url == LISTENER:
            self.need(ROUTES, added)
        self.warm()

    def apply(self, send: Send) -> set[str]:
        """Gives the names whose content is new."""
        has = self.envoy.has[send.type_url]
        names = self.envoy.names.get(send.type_url)
        new = {r.name: r for r in send.resources if names is None or r.name in names}
        gone = self.gone(send, new)
        added = {name for name, r in new.items() if has.get(name) != r}
        has.update(new)
        for name in gone:
            has.pop(name, None)
            if send.type_url in CHILD:
                self.leave(CHILD[send.type_url], name)
        if send.type_url == CLUSTER:
            self.envoy.warming = (self.envoy.warming | added) - gone
        elif send.type_url == ENDPOINTS:
            self.envoy.warming -= new.keys() | gone  # that there are none ends the wait too
        return added

    def need(self, type_url: str, names: set[str]) -> None:
        added = names - self.envoy.names[type_url]
        self.envoy.names[type_url] |= added
        if added:
            self.subscribe(type_url, added)

    def leave(self, type_url: str, name: str) -> None:
        self.envoy.has[type_url].pop(name, None)
        if name in self.envoy.names[type_url]:
            self.envoy.names[type_url].remove(name)
            self.unsubscribe(type_url, name)

    def check(self, before: dict[str, str]) -> None:
        envoy = self.envoy
        if envoy.impatient:
            return
        for name, to in envoy.routed().items():
            assert to in envoy.has[CLUSTER], f"{name} points at {to}, which is not there"
            moved = name in before and before[name] != to
            assert not (moved and to in envoy.warming), f"{name} has moved to {to}, which is not warm"

    def warm(self) -> None:
        envoy, send = self.envoy, self.envoy.unacknowledged
        if send is not None and not envoy.warming:
            envoy.unacknowledged, envoy.impatient = None, False
            envoy.inbox += self.talk.ack(send)

    @precondition(lambda self: isinstance(self.talk.line, Alone) and self.talk.line.machine.held_back)
    @rule()
    def wait(self) -> None:
        """The server does not wait for ever."""
        self.envoy.impatient = self.envoy.impatient or self.waiting_for_clusters()
        self.envoy.inbox += self.talk.wait()

    def waiting_for_clusters(self) -> bool:
        return self.envoy.unacknowledged is not None or any(send.type_url == CLUSTER for send in self.envoy.inbox)

    @rule(document=documents(), quickly=st.lists(st.booleans(), min_size=4, max_size=4), away=st.booleans())
    def come_back(self, document: list[Message], quickly: list[bool], away: bool) -> None:
        """`away`: something was published meanwhile. `quickly`: what is asked for before the server says a word."""
        self.document = document if away else self.document
        self.give_up()  # nobody else can know of these
        self.envoy.inbox, self.envoy.unacknowledged = [], None
        self.connect(quickly)

    def give_up(self) -> None:
        """Envoy waits for the endpoints of a cluster for 15 seconds, and goes on without."""
        self.envoy.warming.clear()
        self.warm()

    @rule()
    def come_to_rest(self) -> None:
        for _ in range(100):
            while self.envoy.inbox:
                self.read()
            assert isinstance(self.talk.line, Alone)
            if self.envoy.unacknowledged:  # endpoints were taken away before they were asked for
                self.give_up()
            elif self.talk.line.machine.held_back:
                self.wait()
            else:
                break
        published = {(r.type_url, r.name): r.version for r in map(Resource.of, self.document)}
        for url in (CLUSTER, LISTENER):
            held = {(url, name): r.version for name, r in self.envoy.has[url].items()}
            assert held == {key: version for key, version in published.items() if key[0] == url}
        for name in self.envoy.has[LISTENER]:
            assert self.envoy.has[ROUTES][name].version == published[ROUTES, name]
        assert not self.envoy.warming

    def connect(self, quickly: list[bool]) -> None:
        raise NotImplementedError

    def subscribe(self, type_url: str, names: set[str]) -> None:
        raise NotImplementedError

    def unsubscribe(self, type_url: str, name: str) -> None:
        raise NotImplementedError

    def gone(self, send: Send, new: dict[str, Resource]) -> set[str]:
        raise NotImplementedError


class SotwTraffic(Traffic):
    def connect(self, quickly: list[bool]) -> None:
        self.envoy = Envoy()
        self.talk = SotwTalk(*self.document)
        self.envoy.inbox += self.talk.ask(CLUSTER) + self.talk.ask(LISTENER)

    def subscribe(self, type_url: str, names: set[str]) -> None:
        self.name(type_url)

    def unsubscribe(self, type_url: str, name: str) -> None:
        self.name(type_url)

    def name(self, type_url: str) -> None:
        """With the nonce of what was read last: the server may have sent more."""
        assert isinstance(self.talk, SotwTalk)
        names = sorted(self.envoy.names[type_url])
        self.envoy.inbox += self.talk.ask(type_url, *names, nonce=self.envoy.nonces.get(type_url, ""))

    def gone(self, send: Send, new: dict[str, Resource]) -> set[str]:
        return self.envoy.has[send.type_url].keys() - new.keys() if send.type_url in CHILD else set()


class DeltaTraffic(Traffic):
    def connect(self, quickly: list[bool]) -> None:
        self.talk = DeltaTalk(*self.document)
        for url, at_once in zip(SUBSCRIBED, quickly, strict=True):
            names = self.envoy.names.get(url)
            if names == set():
                continue
            versions = {name: r.version for name, r in self.envoy.has[url].items()}
            self.talk.say(self.talk.request(url, *sorted(names or ()), versions=versions))
            if not at_once:
                self.envoy.inbox += self.talk.drain()
        self.envoy.inbox += self.talk.drain()

    def subscribe(self, type_url: str, names: set[str]) -> None:
        self.envoy.inbox += self.talk.start(type_url, *sorted(names))

    def unsubscribe(self, type_url: str, name: str) -> None:
        self.envoy.inbox += self.talk.start(type_url, unsubscribe=(name,))

    def gone(self, send: Send, new: dict[str, Resource]) -> set[str]:
        return set(send.removed)


TestSotw = SotwTraffic.TestCase
TestDelta = DeltaTraffic.TestCase
TestSotw.settings = TestDelta.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
