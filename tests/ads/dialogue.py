"""Talking to the server as a client does: small resources, one speaker per variant, and the line they speak over."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.config.route.v3.scoped_route_pb2 import ScopedRouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from protos.rls_conf import RateLimitConfig
from xds_server.ads.delta import DeltaStream
from xds_server.ads.events import Event, Reject, Send
from xds_server.ads.sotw import SotwStream
from xds_server.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    RATE_LIMITS,
    ROUTES,
    RUNTIME,
    SCOPED_ROUTES,
    SECRET,
    VIRTUAL_HOST,
    Snapshot,
)

NODE = "node-1"

Request = DiscoveryRequest | DeltaDiscoveryRequest


def cluster(name: str, edition: int = 0, *, eds: bool = False, service: str = "") -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS if eds else Cluster.STATIC)
    message.connect_timeout.seconds = edition + 1
    message.eds_cluster_config.service_name = service
    return message


def endpoints(name: str, edition: int = 0) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    message.policy.overprovisioning_factor.value = 100 + edition
    return message


def listener(name: str, edition: int = 0) -> Listener:
    return Listener(name=name, stat_prefix=str(edition))


def routes(name: str, edition: int = 0) -> RouteConfiguration:
    return RouteConfiguration(name=name, virtual_hosts=[VirtualHost(name=str(edition), domains=["*"])])


def scope(name: str, edition: int = 0) -> ScopedRouteConfiguration:
    return ScopedRouteConfiguration(name=name, route_configuration_name=str(edition))


def secret(name: str, edition: int = 0) -> Secret:
    message = Secret(name=name)
    message.generic_secret.secret.inline_string = str(edition)
    return message


def extension(name: str, edition: int = 0) -> TypedExtensionConfig:
    return TypedExtensionConfig(name=name, typed_config=AnyMessage(type_url=f"type.example/{edition}"))


def virtual_host(name: str, edition: int = 0, *domains: str) -> VirtualHost:
    message = VirtualHost(name=name, domains=domains)
    message.retry_policy_typed_config.type_url = f"type.example/{edition}"
    return message


def runtime(name: str, edition: int = 0) -> Runtime:
    message = Runtime(name=name)
    message.layer["key"] = edition
    return message


def rate_limits(name: str, edition: int = 0) -> Message:
    return RateLimitConfig(name=name, domain=str(edition))  # type: ignore[no-any-return]


MAKERS = {
    RUNTIME: runtime,
    CLUSTER: cluster,
    ENDPOINTS: endpoints,
    SECRET: secret,
    EXTENSION: extension,
    LISTENER: listener,
    SCOPED_ROUTES: scope,
    ROUTES: routes,
    VIRTUAL_HOST: virtual_host,
    RATE_LIMITS: rate_limits,
}


def names(send: Send) -> list[str]:
    return [resource.name for resource in send.resources]


class Line(ABC):
    """What a talk goes over: the state machine alone, or a server (`channel.py`).

    `heard` is what the other side made of the requests.
    """

    heard: list[Event]

    @abstractmethod
    def say(self, request: Request) -> None: ...

    @abstractmethod
    def publish(self, snapshot: Snapshot) -> None: ...

    @abstractmethod
    def drain(self) -> list[Send]:
        """All responses that follow from what was said and published so far."""

    @abstractmethod
    def in_sync(self, type_url: str) -> bool: ...

    @abstractmethod
    def end(self) -> Reject:
        """Why the other side has ended the stream, as it must have."""

    @abstractmethod
    def wait(self) -> None:
        """Keep silent for as long as the server waits for a client."""


class Alone(Line):
    """A state machine without sockets, tasks or time."""

    def __init__(self, machine: SotwStream | DeltaStream) -> None:
        self.machine = machine
        self.heard = []
        self.snapshot = Snapshot.of(0, [])

    def say(self, request: Request) -> None:
        self.heard += self.machine.receive(request)  # type: ignore[arg-type]

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def drain(self) -> list[Send]:
        sends = []
        while send := self.machine.next(self.snapshot):
            sends.append(send)
        return sends

    def in_sync(self, type_url: str) -> bool:
        return self.machine.in_sync(self.snapshot)[type_url]

    def end(self) -> Reject:
        *_, last = self.heard
        assert isinstance(last, Reject)
        return last

    def wait(self) -> None:
        assert self.machine.held_back, "nothing waits"
        self.machine.release()


class Talk(ABC):
    """A client's side of one stream. Every method that says something gives the responses that follow from it."""

    request_type: type[Request]

    def __init__(self, *messages: Message, line: Line | None = None) -> None:
        self.line = line or self._alone()
        self.revision = 0
        self.snapshot = Snapshot.of(0, messages)
        self.line.publish(self.snapshot)
        self._introduced = False

    @property
    def heard(self) -> list[Event]:
        return self.line.heard

    def publish(self, *messages: Message) -> list[Send]:
        self.revision += 1
        self.snapshot = Snapshot.of(self.revision, messages)
        self.line.publish(self.snapshot)
        return self.drain()

    def drain(self) -> list[Send]:
        return self.line.drain()

    def end(self) -> Reject:
        return self.line.end()

    def wait(self) -> list[Send]:
        """What comes when the server has waited long enough for this client."""
        self.line.wait()
        return self.drain()

    def in_sync(self, *types: str) -> bool:
        return all(self.line.in_sync(type_url) for type_url in types)

    def take(self, type_url: str, *wanted: str, **more: Any) -> list[Send]:
        """Ask for the first time and accept the answer, which must be one response; gives what follows that."""
        (send,) = self.start(type_url, *wanted, **more)
        return self.ack(send)

    def say(self, request: Request) -> None:
        """A request word by word; what follows stays for `drain`."""
        self.line.say(request)

    def _node(self) -> Node | None:
        self._introduced, first = True, not self._introduced
        return Node(id=NODE) if first else None

    @staticmethod
    @abstractmethod
    def _alone() -> Line: ...

    @abstractmethod
    def start(self, type_url: str, *wanted: str, **more: Any) -> list[Send]:
        """The first request of a type on this stream."""

    @abstractmethod
    def ack(self, send: Send) -> list[Send]: ...

    @abstractmethod
    def nack(self, send: Send, message: str = "no", **more: Any) -> list[Send]: ...


class SotwTalk(Talk):
    """Remembers per type what it asked for, as a client must, since every request repeats it."""

    request_type = DiscoveryRequest

    def __init__(self, *messages: Message, line: Line | None = None) -> None:
        super().__init__(*messages, line=line)
        self.asked: dict[str, tuple[str, ...]] = {}
        self.nonces: dict[str, str] = {}

    @staticmethod
    def _alone() -> Line:
        return Alone(SotwStream("s-"))

    def ask(
        self, type_url: str, *wanted: str, nonce: str | None = None, version: str = "", error: str = ""
    ) -> list[Send]:
        """A request with these names; its nonce is that of the newest response unless another one is given."""
        self.asked[type_url] = wanted
        request = DiscoveryRequest(
            node=self._node(),
            type_url=type_url,
            resource_names=wanted,
            version_info=version,
            response_nonce=self.nonces.get(type_url, "") if nonce is None else nonce,
            error_detail=Status(message=error) if error else None,
        )
        self.say(request)
        return self.drain()

    def start(self, type_url: str, *wanted: str, **more: Any) -> list[Send]:
        return self.ask(type_url, *wanted, **more)

    def drain(self) -> list[Send]:
        sends = super().drain()
        self.nonces.update((send.type_url, send.nonce) for send in sends)
        return sends

    def ack(self, send: Send) -> list[Send]:
        return self.ask(send.type_url, *self.asked[send.type_url], nonce=send.nonce, version=send.version)

    def nack(self, send: Send, message: str = "no", **more: Any) -> list[Send]:
        wanted = more.get("wanted", self.asked[send.type_url])
        return self.ask(send.type_url, *wanted, nonce=send.nonce, error=message)


class DeltaTalk(Talk):
    request_type = DeltaDiscoveryRequest

    @staticmethod
    def _alone() -> Line:
        return Alone(DeltaStream("d-"))

    def ask(self, type_url: str, *subscribe: str, **more: Any) -> list[Send]:
        self.say(self.request(type_url, *subscribe, **more))
        return self.drain()

    def request(
        self,
        type_url: str,
        *subscribe: str,
        unsubscribe: tuple[str, ...] = (),
        versions: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str = "",
    ) -> DeltaDiscoveryRequest:
        return DeltaDiscoveryRequest(
            node=self._node(),
            type_url=type_url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=versions or {},
            response_nonce=nonce,
            error_detail=Status(message=error) if error else None,
        )

    def start(self, type_url: str, *wanted: str, **more: Any) -> list[Send]:
        return self.ask(type_url, *wanted, **more)

    def ack(self, send: Send) -> list[Send]:
        return self.ask(send.type_url, nonce=send.nonce)

    def nack(self, send: Send, message: str = "no", **more: Any) -> list[Send]:
        return self.ask(send.type_url, *more.get("added", ()), nonce=send.nonce, error=message)
