"""Endpoints of Kubernetes services: EndpointSlices (discovery.k8s.io/v1), listed once and then watched.

The protocol is the API server's "Efficient detection of changes": a list has a `resourceVersion` from which a watch
goes on; a watch that ends is taken up where it was; 410 Gone, as a status or within the watch, means to list again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from pydantic import ValidationError

from gateway.model import ServiceEndpoint
from xds_server.endpoints.services import Services

log = structlog.get_logger(__name__)

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE: Final = "kubernetes.io/service-name"
PAGE: Final = 500
WATCH_SECONDS: Final = 300  # then the server ends the watch, and it is taken up again
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0
BREATH: Final = 0.05  # between two watches, whatever the server does

Slice = Mapping[str, Any]


class Gone(Exception):  # noqa: N818 - the API's word
    """The server no longer knows the version from which a watch should go on."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`namespaces` are watched. `account`: a directory with `token`, read anew for each request, and `ca.crt`."""

    namespaces: tuple[str, ...]
    server: str = "https://kubernetes.default.svc"
    account: Path = ACCOUNT

    def __post_init__(self) -> None:
        """Raises ValueError: a token is not sent in plain text."""
        url = httpx.URL(self.server)
        if url.scheme != "https" and url.host not in LOOPBACK:
            raise ValueError(f"the Kubernetes API at {self.server} is not https")

    def client(self) -> httpx.AsyncClient:
        import ssl

        authority = self.account / "ca.crt"
        verify = ssl.create_default_context(cafile=str(authority)) if authority.exists() else True
        timeout = httpx.Timeout(10, read=WATCH_SECONDS + 30)
        return httpx.AsyncClient(base_url=self.server, verify=verify, trust_env=False, timeout=timeout)

    def headers(self) -> dict[str, str]:
        """Tokens are short-lived and replaced in their file."""
        file = self.account / "token"
        return {"authorization": f"Bearer {file.read_text().strip()}"} if file.exists() else {}


class Kubernetes:
    """A service is called by its name, or `NAMESPACE_NAME` where several namespaces are watched."""

    name = "kubernetes"

    def __init__(self, cluster: Cluster) -> None:
        self.services: Services | None = None
        self._cluster = cluster
        self._slices: dict[str, dict[str, Slice]] = {}  # by namespace, then by name; only of those that were listed

    async def run(self, changed: Callable[[], None]) -> None:
        async with self._cluster.client() as client, asyncio.TaskGroup() as tasks:
            for namespace in self._cluster.namespaces:
                tasks.create_task(self._follow(client, namespace, changed))

    async def _follow(self, client: httpx.AsyncClient, namespace: str, changed: Callable[[], None]) -> None:
        version, pause = "", FIRST_PAUSE
        while True:
            try:
                if not version:
                    self._slices[namespace], version = await self._list(client, namespace)
                    self._tell(changed)
                async for kind, one in self._watch(client, namespace, version):
                    version, pause = one["metadata"]["resourceVersion"], FIRST_PAUSE
                    if self._take(namespace, kind, one):
                        self._tell(changed)
            except Gone:
                version = ""
            except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError) as error:
                version = ""
                pause = await _after(namespace, error, pause)
            except (httpx.HTTPError, OSError) as error:
                pause = await _after(namespace, error, pause)
            await asyncio.sleep(BREATH)

    def _tell(self, changed: Callable[[], None]) -> None:
        """Nothing is told before every namespace was listed: half of a service is worse than none."""
        if self._slices.keys() == set(self._cluster.namespaces):
            whole = [(space, one) for space, slices in self._slices.items() for one in slices.values()]
            self.services = of(whole, qualified=len(self._cluster.namespaces) > 1)
            changed()

    def _take(self, namespace: str, kind: str, one: Slice) -> bool:
        """Whether the event changes a slice; a bookmark only moves the version."""
        name = one["metadata"].get("name", "")
        if kind == "DELETED":
            return self._slices[namespace].pop(name, None) is not None
        if kind in ("ADDED", "MODIFIED"):
            self._slices[namespace][name] = one
            return True
        return False

    async def _list(self, client: httpx.AsyncClient, namespace: str) -> tuple[dict[str, Slice], str]:
        found: dict[str, Slice] = {}
        more = ""
        while True:
            query = {"limit": str(PAGE), "continue": more}
            answer = await client.get(_path(namespace), params=query, headers=self._cluster.headers())
            if answer.status_code == httpx.codes.GONE:  # the list changed between two pages
                raise Gone
            page = answer.raise_for_status().json()
            found |= {one["metadata"]["name"]: one for one in page["items"]}
            more = page["metadata"].get("continue", "")
            if not more:
                return found, page["metadata"]["resourceVersion"]

    async def _watch(self, client: httpx.AsyncClient, namespace: str, version: str) -> AsyncIterator[tuple[str, Slice]]:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with client.stream("GET", _path(namespace), params=query, headers=self._cluster.headers()) as answer:
            if answer.status_code == httpx.codes.GONE:
                raise Gone
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"].get("code") == httpx.codes.GONE:
                        raise Gone
                    raise ValueError(event["object"].get("message", "the watch failed"))
                yield event["type"], event["object"]


async def _after(namespace: str, error: Exception, pause: float) -> float:
    """Waits after an error; the next pause."""
    reason = str(error) or type(error).__name__
    log.warning("kubernetes_lost", namespace=namespace, reason=reason, effect="the last good endpoints stay")
    await asyncio.sleep(pause)
    return min(pause * 2, LONGEST_PAUSE)


def of(slices: Iterable[tuple[str, Slice]], *, qualified: bool = False) -> Services:
    """The endpoints of each service, its slices in the order of their names."""
    found: dict[str, list[ServiceEndpoint]] = {}
    for namespace, one in sorted(slices, key=lambda item: (item[0], item[1]["metadata"]["name"])):
        service = one["metadata"].get("labels", {}).get(SERVICE)
        if service:
            name = f"{namespace}_{service}" if qualified else service
            found.setdefault(name, []).extend(endpoints(one))
    return Services({name: tuple(members) for name, members in found.items()})


def endpoints(one: Slice) -> Iterator[ServiceEndpoint]:
    """Of one slice. Each address is an endpoint at the first port of the slice; FQDN slices have no addresses."""
    ports = [port["port"] for port in one.get("ports") or () if port.get("port") and port.get("protocol") != "UDP"]
    if not ports or one.get("addressType") == "FQDN":
        return
    for member in one.get("endpoints") or ():
        state = state_of(member.get("conditions") or {})
        for address in member["addresses"][:1]:  # "consumers should use the first" (EndpointSlice v1, `addresses`)
            try:
                yield ServiceEndpoint(address=address, port=ports[0], zone=member.get("zone") or None, state=state)
            except ValidationError as error:
                log.warning("kubernetes_unusable", slice=one["metadata"]["name"], reason=str(error.errors()[0]["msg"]))


def state_of(conditions: Mapping[str, bool | None]) -> Any:
    """`ready` unset counts as ready. One that terminates and still serves gets no new requests."""
    if conditions.get("terminating"):
        return "draining" if conditions.get("serving", conditions.get("ready")) else "unhealthy"
    return "unhealthy" if conditions.get("ready") is False else "healthy"


def _path(namespace: str) -> str:
    return f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
