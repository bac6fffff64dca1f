"""Remote key sets (`jwks: {uri: …}`): fetched here once for the whole fleet, and served to Envoys inline.

Envoys never talk to an issuer. The last good set of a URI stays in force, also over a restart, until a newer one could
be fetched; a set that holds anything but public keys is none. Fetching goes to https only (or to this very machine),
never to a link-local or metadata address, follows no redirect and reads at most `LARGEST` bytes; the address that was
judged is the one that is connected to.
"""

import asyncio
import hashlib
import ipaddress
import json
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx
import structlog

from gateway.checks.keysets import fault_of_key, is_secret
from gateway.jwks import is_loopback, keyset_name, uri_fault
from gateway.model import Gateway
from xds_server.compiler.settings import KeySet

log = structlog.get_logger(__name__)

LARGEST: Final = 256 * 1024
"""Bytes of an answer; real key sets have a few thousand."""
MOST_KEYS: Final = 64
PAUSE: Final = 0.25
FIRST_RETRY: Final = 2.0
"""Seconds: between looks at what is due, and before a fetch that failed is tried again (doubling, up to `cache`)."""
KEPT: Final = ("kty", "kid", "alg", "use", "n", "e", "crv", "x", "y")
METADATA: Final = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254")))
"""Where clouds answer with credentials, beside the link-local 169.254.169.254."""


class Unusable(Exception):  # noqa: N818 - a verdict
    """A URI that gave no key set; the text says why, without anything of the answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A URI with how long its set may be used before it is fetched again, and how long a fetch may take (seconds)."""

    uri: str
    cache: float
    timeout: float


@dataclass(slots=True)
class Held:
    """What is known of one URI. `keys`: the last good set, "" for none. `due`: when to fetch next (monotonic)."""

    keys: str = ""
    fault: str = "it was not asked yet"
    failures: int = 0
    due: float = 0.0


class KeySets:
    """`run` keeps what is wanted fresh until cancelled. `directory` holds the last good sets, one file a URI."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._held: dict[str, Held] = {}
        self._wanted: tuple[Wanted, ...] = ()

    def want(self, gateway: Gateway) -> None:
        """From now on these are kept fresh, and others forgotten."""
        self._wanted = wanted_of(gateway)
        names = {wanted.uri for wanted in self._wanted}
        self._held = {uri: held for uri, held in self._held.items() if uri in names}

    async def prepare(self, gateway: Gateway) -> None:
        """Fetches what was never fetched, so that a new provider works with its first snapshot. Never raises."""
        await self._refresh(wanted for wanted in wanted_of(gateway) if not self._of(wanted.uri).keys)

    def read(self) -> Mapping[str, KeySet]:
        """Every set by its reserved secret name; one without keys says why."""
        return {keyset_name(uri): KeySet(held.keys, "" if held.keys else held.fault) for uri, held in self._all()}

    def stamp(self) -> tuple[tuple[str, str], ...]:
        """Differs when a set does, or why there is none."""
        return tuple((uri, held.keys or held.fault) for uri, held in self._all())

    async def run(self) -> None:
        while True:
            await self._refresh(self._wanted)
            await asyncio.sleep(PAUSE)

    def _all(self) -> list[tuple[str, Held]]:
        return sorted(self._held.items())

    def _of(self, uri: str) -> Held:
        held = self._held.get(uri)
        if held is None:
            held = self._held[uri] = Held(keys=self._stored(uri))
        return held

    async def _refresh(self, wanted: Iterable[Wanted]) -> None:
        now = time.monotonic()
        await asyncio.gather(*(self._fetch(one) for one in wanted if self._of(one.uri).due <= now))

    async def _fetch(self, wanted: Wanted) -> None:
        held = self._of(wanted.uri)
        held.due = time.monotonic() + wanted.timeout + FIRST_RETRY  # nobody else fetches it meanwhile
        try:
            keys = await fetched(wanted)
        except Unusable as error:
            held.fault, held.failures = str(error), held.failures + 1
            pause = min(FIRST_RETRY * 2 ** min(held.failures - 1, 10), max(wanted.cache, FIRST_RETRY))
            log.warning("key_set_not_fetched", uri=wanted.uri, reason=held.fault, kept=bool(held.keys))
        else:
            if keys != held.keys:
                log.info("key_set_fetched", uri=wanted.uri)
                await asyncio.to_thread(self._store, wanted.uri, keys)
            held.keys, held.fault, held.failures, pause = keys, "", 0, wanted.cache
        held.due = time.monotonic() + pause * random.uniform(0.9, 1.0)  # noqa: S311 - no secret

    def _file(self, uri: str) -> Path:
        return self.directory / f"{hashlib.sha256(uri.encode()).hexdigest()}.json"

    def _stored(self, uri: str) -> str:
        try:
            return usable(self._file(uri).read_bytes())
        except (OSError, Unusable):
            return ""

    def _store(self, uri: str, keys: str) -> None:
        """Whole or not at all; a directory that cannot be written costs only the memory of it over a restart."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.directory, suffix=".new", delete=False) as file:
                file.write(keys)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._file(uri))
        except OSError as error:
            log.warning("key_set_not_stored", uri=uri, reason=error.strerror)


def wanted_of(gateway: Gateway) -> tuple[Wanted, ...]:
    """Each URI of the gateway once; of several providers' times the shortest."""
    found: dict[str, Wanted] = {}
    for provider in gateway.jwt_providers.values():
        jwks = provider.jwks
        if jwks.uri is not None:
            other = found.get(jwks.uri)
            cache = min(jwks.cache / 1000, other.cache) if other else jwks.cache / 1000
            found[jwks.uri] = Wanted(jwks.uri, cache, jwks.timeout / 1000)
    return tuple(found[uri] for uri in sorted(found))


async def fetched(wanted: Wanted) -> str:
    """The key set at the URI, as `usable` gives it. Raises Unusable."""
    try:
        async with asyncio.timeout(wanted.timeout):
            return usable(await _answer(wanted.uri))
    except TimeoutError:
        raise Unusable(f"it did not answer within {wanted.timeout:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unusable(f"it cannot be reached ({type(error).__name__})") from error


async def _answer(uri: str) -> bytes:
    if fault := uri_fault(uri):
        raise Unusable(fault)
    parts = urlsplit(uri)
    host = parts.hostname or ""
    address = await _address(host, parts)
    target = httpx.URL(uri).copy_with(host=address)
    headers = {"host": parts.netloc, "accept": "application/json", "accept-encoding": "identity"}
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=60) as client,
        client.stream("GET", target, headers=headers, extensions={"sni_hostname": host}) as response,
    ):
        if response.status_code != 200:
            raise Unusable(f"it answered with the status {response.status_code}")
        return await _at_most(LARGEST, response)


async def _at_most(size: int, response: httpx.Response) -> bytes:
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > size:
            raise Unusable(f"its answer is larger than {size} bytes")
    return body


async def _address(host: str, parts: SplitResult) -> str:
    """The address to connect to. All that the name resolves to must be allowed: none is a way around the others."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    for address in addresses:
        if not allowed(address, loopback=is_loopback(host)):
            raise Unusable("its name stands for an address that is not fetched from")
    return addresses[0]


def allowed(address: str, *, loopback: bool) -> bool:
    """Whether keys may be fetched from an IP address: none that only this machine or its cloud answers at."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return loopback
    return not (ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved or ip in METADATA)


def usable(text: bytes) -> str:
    """The keys of a set that Envoy can verify with, in one form. Raises Unusable where there are none, or a secret."""
    found: Any = None
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise Unusable("its answer is not a key set")
    keys = [key for key in keys if isinstance(key, dict)]
    if any(is_secret(key) for key in keys):
        raise Unusable("its answer holds a secret key, so anybody could sign with it")
    public = [{name: key[name] for name in KEPT if name in key} for key in keys if key.get("use", "sig") == "sig"]
    verifying = [key for key in public if fault_of_key(key) is None]
    if not verifying:
        raise Unusable("its answer holds no public RSA, EC or OKP key to verify with")
    return json.dumps({"keys": verifying}, sort_keys=True)
