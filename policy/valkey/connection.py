"""One way to talk to a Valkey, whether it is one server, one behind Sentinels, or a cluster.

A connection sends many commands in one round trip, one for each server that is concerned. Every wait is bounded and
nothing is tried twice, since a command may have been executed: whoever asks decides what a failure means.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from valkey.asyncio import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection, Valkey
from valkey.asyncio.cluster import ClusterNode, PipelineCommand, ValkeyCluster
from valkey.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from valkey.crc import key_slot
from valkey.credentials import CredentialProvider
from valkey.exceptions import AskError, AuthenticationError, MovedError, ResponseError, TryAgainError

from policy.valkey.address import Address, Login, Tls, parse

CONNECTING: Final = 4
"""How many times as long as a round trip a new connection may take: TLS and a login are round trips too."""
ELSEWHERE: Final = (MovedError, AskError, TryAgainError)
SENTINEL: Final[Any] = Sentinel  # neither has types
FOUND: Final[Any] = SentinelConnectionPool


class Command(NamedTuple):
    """`key`: whose server it is for, the first of the keys that it names."""

    key: str | bytes
    words: Sequence[str | bytes | int]


class Server(Protocol):
    """`slotted`: commands may only name keys of one `slot`."""

    slotted: bool

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order; what a server refused is an exception in its place. Raises whatever else fails."""

    async def everywhere(self, *words: str | bytes | int) -> list[Any]:
        """One command to every server that keeps keys: their replies or refusals."""

    async def close(self) -> None: ...


class Limits(NamedTuple):
    """`timeout`: seconds that a round trip may take. `connections`: to each server, at most."""

    timeout: float
    connections: int
    name: str


def connect(url: str, *, timeout: float, connections: int, name: str) -> Server:
    """A connection that is opened when it is first used. Raises ValueError for a URL that is none."""
    address, limits = parse(url), Limits(timeout, connections, name)
    return Cluster(address, limits) if address.topology == "cluster" else Single(address, limits)


def slot(key: str | bytes) -> int:
    """What of a cluster a key is in: by its part in braces if it has one, else by all of it."""
    return key_slot(key.encode() if isinstance(key, str) else key)


class Single:
    slotted = False

    def __init__(self, address: Address, limits: Limits) -> None:
        self._sentinels: Any = None
        self._client: Any = Valkey.from_pool(self._pool(address, limits))  # its commands have no types

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await self._sent(commands)
        except BaseException:
            # Whatever befell this connection has befallen the idle ones too; they would fail one after the other.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    async def everywhere(self, *words: str | bytes | int) -> list[Any]:
        return await self.send([Command("", words)])

    async def close(self) -> None:
        await self._client.aclose()
        for sentinel in self._sentinels.sentinels if self._sentinels else ():
            await sentinel.aclose()

    async def _sent(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0].words)]
            except ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command.words)
            return list(await pipeline.execute(raise_on_error=False))

    def _pool(self, address: Address, limits: Limits) -> Any:
        options = _options(address, limits) | {"db": address.database}
        if address.topology == "sentinel":
            return self._found_by_sentinels(address, limits, options)
        if address.socket is not None:
            place: dict[str, Any] = {"connection_class": UnixDomainSocketConnection, "path": str(address.socket)}
        else:
            host, port = address.hosts[0]
            kind = SSLConnection if address.tls else Connection
            place = {"connection_class": kind, "host": host, "port": port, "socket_keepalive": True}
        place |= {"max_connections": limits.connections, "timeout": limits.timeout}
        return BlockingConnectionPool(**options, **place)

    def _found_by_sentinels(self, address: Address, limits: Limits, options: dict[str, Any]) -> Any:
        """Each new connection asks the Sentinels who is the primary; one that was demoted closes its connections."""
        of_sentinels = _options(address, limits) | _login(address.sentinel_login)
        if not address.sentinel_login:
            of_sentinels.pop("credential_provider", None)
        kind = SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
        self._sentinels = SENTINEL(address.hosts, sentinel_kwargs=of_sentinels | {"ssl": address.tls is not None})
        most = limits.connections
        return FOUND(address.service, self._sentinels, connection_class=kind, max_connections=most, **options)


class _Trip(NamedTuple):
    node: ClusterNode
    commands: list[PipelineCommand]


class Cluster:
    """Slots and nodes as the library keeps them. After a failure both are asked for again, from the given hosts."""

    slotted = True

    def __init__(self, address: Address, limits: Limits) -> None:
        self._address = address
        self._limits = limits
        self._client = self._made()

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        client = await self._ready()
        sent = [PipelineCommand(place, *command.words) for place, command in enumerate(commands)]
        trips: dict[str, _Trip] = {}
        for command, travelling in zip(commands, sent, strict=True):
            node: Any = client.get_node_from_key(command.key)  # type: ignore[arg-type]  # bytes too; never None here
            trips.setdefault(node.name, _Trip(node, [])).commands.append(travelling)
        await self._travel(client, list(trips.values()))
        return [await self._followed(client, command) for command in sent]

    async def everywhere(self, *words: str | bytes | int) -> list[Any]:
        client = await self._ready()
        trips = [_Trip(node, [PipelineCommand(0, *words)]) for node in client.get_primaries()]
        await self._travel(client, trips)
        return [command.result for trip in trips for command in trip.commands]

    async def close(self) -> None:
        await self._client.aclose()

    def _made(self) -> ValkeyCluster:
        return ValkeyCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self._address.hosts],
            max_connections=self._limits.connections,
            connection_error_retry_attempts=0,
            ssl=self._address.tls is not None,
            **_options(self._address, self._limits),
        )

    async def _ready(self) -> ValkeyCluster:
        client = self._client
        try:
            return await client.initialize()
        except BaseException:
            await self._forget(client)
            raise

    async def _travel(self, client: ValkeyCluster, trips: "list[_Trip]") -> None:
        """To all nodes at once. Raises the first failure that is no server's refusal, when all have come back."""
        ended = await asyncio.gather(
            *(trip.node.execute_pipeline(trip.commands) for trip in trips), return_exceptions=True
        )
        results = [command.result for trip in trips for command in trip.commands]
        for result in (*ended, *results):
            if isinstance(result, BaseException) and not isinstance(result, ResponseError):
                await self._forget(client)
                raise result

    async def _followed(self, client: ValkeyCluster, command: PipelineCommand) -> Any:
        """A slot that moves: the node that was asked did nothing, so asking another is not asking twice."""
        if not isinstance(command.result, ELSEWHERE):
            return command.result
        try:
            return await client.execute_command(*command.args)
        except ResponseError as error:
            return error

    async def _forget(self, client: ValkeyCluster) -> None:
        if client is self._client:
            self._client = self._made()
            await client.aclose()


class _Credentials(CredentialProvider):
    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._login.password or ""
        if self._login.file is not None:
            try:
                password = self._login.file.read_text().strip()
            except OSError as error:
                raise AuthenticationError(f"cannot read the password: {error}") from error
        return (self._login.username, password) if self._login.username else (password,)


def _options(address: Address, limits: Limits) -> dict[str, Any]:
    return {
        "socket_timeout": limits.timeout,
        "socket_connect_timeout": limits.timeout * CONNECTING,
        "client_name": limits.name,
        "lib_name": None,  # two commands less that the user must be allowed
        "lib_version": None,
        **_login(address.login),
        **(_tls(address.tls) if address.tls else {}),
    }


def _login(login: Login) -> dict[str, Any]:
    return {"credential_provider": _Credentials(login)} if login else {}


def _tls(tls: Tls) -> dict[str, Any]:
    """The server must have a certificate of the name that we asked for; the library's own default takes any name."""
    files = {"ssl_ca_certs": tls.authorities, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    given = {name: str(file) for name, file in files.items() if file is not None}
    return given | {"ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
