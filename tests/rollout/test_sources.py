"""DNS names and Kubernetes services as sources of endpoints: what fails keeps what was good."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.model import ServiceEndpoint
from xds_server.endpoints import dns, kubernetes
from xds_server.endpoints.services import ServiceRegistry, Source


@asynccontextmanager
async def following(source: Source) -> AsyncIterator[ServiceRegistry]:
    services = ServiceRegistry([source])
    task = asyncio.create_task(services.run())
    try:
        await services.complete(15)
        yield services
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(services: ServiceRegistry, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await services.news()


# ---------------------------------------------------------------------------------------------------------------- DNS
async def test_a_name_is_resolved_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [["10.0.0.2", "10.0.0.1"], socket.gaierror(-3, "Temporary failure"), ["10.0.0.3"]]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with following(dns.Dns({"ledger": ("ledger.internal", 80)}, interval=0.05)) as services:
        first = tuple(ServiceEndpoint(address=address, port=80) for address in ("10.0.0.1", "10.0.0.2"))
        assert services.services.endpoints == {"ledger": first}
        await until(services, lambda: "ledger" in services.services.faults)
        assert services.services.endpoints == {"ledger": first}
        await until(services, lambda: not services.services.faults)
        assert services.services.endpoints == {"ledger": (ServiceEndpoint(address="10.0.0.3", port=80),)}


async def test_this_machine_has_a_name() -> None:
    async with following(dns.Dns({"here": ("localhost", 80)})) as services:
        assert ServiceEndpoint(address="127.0.0.1", port=80) in services.services.endpoints["here"]


# --------------------------------------------------------------------------------------------------------- Kubernetes
def member(address: str, zone: str = "eu-1a", **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False} | conditions,
        "nodeName": "worker-1",
        "targetRef": {"kind": "Pod", "namespace": "shop", "name": "ledger-7d9c5b8f6d-x2x4q"},
        "zone": zone,
    }


def piece(name: str, version: int, *members: dict[str, Any], service: str = "ledger") -> dict[str, Any]:
    """As `kubectl get --raw …/endpointslices` shows one."""
    return {
        "metadata": {
            "name": name,
            "generateName": f"{service}-",
            "namespace": "shop",
            "resourceVersion": str(version),
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service,
            },
        },
        "addressType": "IPv4",
        "endpoints": list(members),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


class ApiServer:
    """Lists and watches one namespace, as far as a client sees of it. `asked`: the queries."""

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.version = 1
        self.oldest = 0
        self.asked: list[dict[str, str]] = []
        self.tokens: set[str] = set()
        self.broken = False
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._watchers: set[asyncio.StreamWriter] = set()

    def put(self, one: dict[str, Any]) -> None:
        kind = "MODIFIED" if one["metadata"]["name"] in self.slices else "ADDED"
        self.slices[one["metadata"]["name"]] = one
        self._tell(kind, one)

    def delete(self, name: str) -> None:
        self._tell("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        self._tell(
            "BOOKMARK", {"kind": "EndpointSlice", "metadata": {"resourceVersion": "", "creationTimestamp": None}}
        )

    def cut(self) -> None:
        for writer in self._watchers:
            writer.close()

    def expire(self) -> None:
        """All versions that clients have are too old from now on."""
        self.version += 10
        self.oldest = self.version
        self._events.clear()

    def _tell(self, kind: str, one: dict[str, Any]) -> None:
        self.version += 1
        one = {**one, "metadata": {**one["metadata"], "resourceVersion": str(self.version)}}
        self._events.append((self.version, {"type": kind, "object": one}))
        for writer in self._watchers:
            _chunk(writer, {"type": kind, "object": one})

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                lines = head.splitlines()
                url = urlsplit(lines[0].split()[1])
                assert url.path == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self.asked.append(query)
                self.tokens |= {line.partition(": ")[2] for line in lines if line.lower().startswith("authorization:")}
                await (self._watch if query.get("watch") else self._list)(query, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._watchers.discard(writer)
            writer.close()

    async def _list(self, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if self.broken:
            _whole(writer, 503, {"kind": "Status", "code": 503, "message": "etcdserver: leader changed"})
            return
        names = sorted(self.slices)
        first = int(query.get("continue") or 0)
        page = names[first : first + 2]  # smaller pages than are asked for
        more = str(first + 2) if first + 2 < len(names) else ""
        metadata = {"resourceVersion": str(self.version)} | ({"continue": more} if more else {})
        _whole(
            writer, 200, {"kind": "EndpointSliceList", "metadata": metadata, "items": [self.slices[n] for n in page]}
        )

    async def _watch(self, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        since = int(query["resourceVersion"])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        if since < self.oldest:
            status = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
            _chunk(writer, {"type": "ERROR", "object": {**status, "message": f"too old resource version: {since}"}})
            writer.write(b"0\r\n\r\n")
            return
        for version, event in self._events:
            if version > since:
                _chunk(writer, event)
        self._watchers.add(writer)


def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    data = json.dumps(event).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _whole(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(data)))
    writer.write(data)


@asynccontextmanager
async def api_server() -> AsyncIterator[tuple[ApiServer, str]]:
    made = ApiServer()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    try:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        made.cut()
        server.close()


def addresses(services: ServiceRegistry, service: str = "ledger") -> list[str]:
    return [f"{one.address} {one.state}" for one in services.services.endpoints.get(service, ())]


async def test_slices_are_listed_watched_and_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    async with api_server() as (server, url):
        for number in range(3):
            server.put(piece(f"ledger-{number}", 1, member(f"10.1.0.{number}")))
        source = kubernetes.Kubernetes(kubernetes.Cluster(("shop",), url, tmp_path))
        async with following(source) as services:
            assert addresses(services) == [f"10.1.0.{number} healthy" for number in range(3)], "of two pages"
            assert services.services.endpoints["ledger"][0].zone == "eu-1a"
            server.put(piece("ledger-0", 2, member("10.1.0.0", ready=False, terminating=True)))
            await until(services, lambda: addresses(services)[0] == "10.1.0.0 draining")
            server.put(piece("ledger-0", 3, member("10.1.0.0", ready=False, serving=False, terminating=True)))
            await until(services, lambda: addresses(services)[0] == "10.1.0.0 unhealthy")
            server.delete("ledger-0")
            await until(services, lambda: len(addresses(services)) == 2)
            # the connection ends, and something happens before the next one: it is told from where the last one was
            (tmp_path / "token").write_text("second\n")
            server.bookmark()
            await asyncio.sleep(0.1)
            lists = sum("watch" not in query for query in server.asked)
            server.cut()
            server.put(piece("ledger-9", 4, member("10.1.0.9")))
            await until(services, lambda: "10.1.0.9 healthy" in addresses(services))
            assert sum("watch" not in query for query in server.asked) == lists, "nothing was listed again"
            assert server.tokens == {"Bearer first", "Bearer second"}
            # too late for that: everything is listed again, and until that works the last good endpoints stay
            server.broken = True
            server.expire()
            del server.slices["ledger-9"]
            server.cut()
            asked = len(server.asked)
            for _ in range(1500):
                await asyncio.sleep(0.01)
                if len(server.asked) >= asked + 3:
                    break
            assert len(addresses(services)) == 3
            server.broken = False
            await until(services, lambda: len(addresses(services)) == 2)


def test_no_token_leaves_in_plain_text() -> None:
    with pytest.raises(ValueError, match="not https"):
        kubernetes.Cluster(("shop",), "http://kubernetes.default.svc")


def test_what_a_slice_says() -> None:
    unusual = piece("a", 1, member("10.0.0.1"), {"addresses": ["10.0.0.2"]}, member("10.0.0.3", ready=False))
    nothing = [piece("b", 1, member("10.0.0.9")) | {"ports": None}, piece("c", 1) | {"addressType": "FQDN"}]
    found = kubernetes.of([("shop", one) for one in (unusual, *nothing)], qualified=True)
    states = [(one.address, one.state) for one in found.endpoints["shop_ledger"]]
    assert states == [("10.0.0.1", "healthy"), ("10.0.0.2", "healthy"), ("10.0.0.3", "unhealthy")]
