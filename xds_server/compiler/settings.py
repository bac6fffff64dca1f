"""What the compiler is told besides the document: where to listen, where decisions are made, what the secrets are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.model import Listener


@dataclass(frozen=True, slots=True)
class Settings:
    """The node's side. `listener_ports` overrides the document's, by listener; `decisions` are (host, port).

    `streams`: (host, port) where decision services answer what is a stream (the response cache, quotas), if elsewhere.

    `forbidden`: (host, port) of the plane's own parts, which no upstream may be. `unsafe_upstreams`: whether upstreams
    may be there, and at link-local and metadata addresses, after all.
    """

    listener_address: str = "127.0.0.1"
    listener_ports: Mapping[str, int] = field(default_factory=dict)
    decisions: tuple[tuple[str, int], ...] = ()
    streams: tuple[tuple[str, int], ...] = ()
    forbidden: tuple[tuple[str, int], ...] = ()
    unsafe_upstreams: bool = False

    def address_of(self, listener: Listener) -> str:
        return listener.address or self.listener_address

    def port_of(self, name: str, listener: Listener) -> int:
        return self.listener_ports.get(name, listener.port)


@dataclass(frozen=True, slots=True)
class HmacKey:
    """A shared key for HS256, raw bytes."""

    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, both PEM."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CaBundle:
    """The certificates of the authorities that an upstream or a client is verified against, PEM."""

    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Certificates that an authority no longer vouches for: one CRL for each authority, PEM."""

    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """A JSON Web Key Set that was fetched, public keys only. Without `keys` (""), `fault` says why there are none."""

    keys: str
    fault: str = ""


Secret = KeySet | HmacKey | Certificate | CaBundle | RevocationList
