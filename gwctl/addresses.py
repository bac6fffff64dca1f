"""`host:port` on the command line, and the rule that nothing leaves this machine in plain text by accident."""

import ipaddress
from typing import Any, NamedTuple

import click

from gwctl.exits import Exit, Failure


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class AddressType(click.ParamType[Address]):
    """`127.0.0.1:9000`, `[::1]:9000`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        host, colon, port = str(value).rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is not host:port", param, ctx)
        return Address(host.removeprefix("[").removesuffix("]"), int(port))


class AddressesType(click.ParamType[tuple[Address, ...]]):
    """`127.0.0.1:9002,127.0.0.1:9003`."""

    name = "host:port,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Address, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(AddressType().convert(part.strip(), param, ctx) for part in str(value).split(","))


def refuse_plaintext(address: Address, what: str, allowed: bool, otherwise: str = "") -> None:
    """Raises Failure for an address that others can reach. `otherwise`: the options that would make it TLS."""
    if not address.loopback and not allowed:
        raise Failure(
            Exit.USAGE,
            f"{what} at {address} could be reached from other machines, and there is no TLS on it",
            f"{otherwise or 'listen on 127.0.0.1'}, or accept that everybody in between reads and changes it: "
            "--insecure-plaintext",
        )


def pairs(value: str, what: str) -> dict[str, int]:
    """`http=8080,https=8443` -> {"http": 8080, "https": 8443}. Raises UsageError."""
    found = {}
    for part in filter(None, value.split(",")):
        name, equals, port = part.partition("=")
        if not equals or not name or not port.isdecimal():
            raise click.UsageError(f"{what}: {part!r} is not name=port")
        found[name] = int(port)
    return found


def places(value: str, what: str) -> dict[str, Address]:
    """`ledger=ledger.internal:8080,…` by name. Raises UsageError."""
    found = {}
    for part in filter(None, value.split(",")):
        name, equals, address = part.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{what}: {part!r} is not name=host:port")
        found[name] = AddressType().convert(address, None, None)
    return found
