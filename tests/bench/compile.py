"""How long a document of many routes takes from text to the bytes that Envoy gets."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from gateway import read
from xds_server import compiler
from xds_server.resources import Snapshot

T = TypeVar("T")


def document(routes: int, per_module: int = 100) -> str:
    """A gateway of `routes` routes: exact, prefix and template paths, keys and tokens, tiers and limits."""
    return "\n".join([HEAD, *(line for m in range(routes // per_module) for line in module(m, per_module)), ""])


HEAD = """version: 1
listeners: {http: {port: 8080}}
upstreams:
  a: {type: static, endpoints: [{address: 127.0.0.1, port: 9001}]}
  b: {type: static, endpoints: [{address: 127.0.0.1, port: 9002}]}
jwt_providers:
  idp: {issuer: https://id.example, audiences: [api], jwks: {hs256: {secret: idp}}, tier_claim: tier}
api_keys: {keys: {from: {headers: [x-api-key]}}}
tiers:
  free: {rate_limits: [{limit: 100/hour, per: client}]}
  pro: {rate_limits: [{limit: 1000/hour, per: client}]}
modules:"""

PATHS = ("exact: /v1/m{m}/r{r}", "prefix: /v1/m{m}/p{r}", 'template: "/v1/m{m}/t{r}/{{id}}"')


def module(number: int, routes: int) -> Iterator[str]:
    yield f"  m{number}:"
    yield f"    tier: {('free', 'pro')[number % 2]}"
    yield "    listener: http"
    yield f"    hosts: [h{number % 10}.example.com]"
    yield "    authentication: {any_of: [idp, keys]}"
    yield "    routes:"
    for r in range(routes):
        path = PATHS[r % 3].format(m=number, r=r)
        yield f"      r{r}: {{match: {{path: {{{path}}}, methods: [GET]}}, backends: [{{upstream: {'ab'[r % 2]}}}]}}"


def timed(step: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    value = step()
    return time.perf_counter() - started, value


def run(counts: tuple[int, ...] = (1_000, 10_000), rounds: int = 3) -> None:
    """Prints the best of `rounds`: reading includes YAML, types and sense; compiling ends with serialised resources."""
    gc.set_threshold(50_000, 20, 20)  # as the console script does
    settings = compiler.Settings(decisions=(("127.0.0.1", 9000),))
    secrets = {"idp": compiler.HmacKey(b"0" * 32)}
    for count in counts:
        text = document(count)
        reads, compiles, size = [], [], 0
        for _ in range(rounds):
            took, loaded = timed(lambda text=text: read.load([("routes.yaml", text)]))  # type: ignore[misc]
            reads.append(took)
            assert loaded.gateway is not None, loaded.problems[:3]
            model = loaded.gateway
            took, snapshot = timed(
                lambda model=model: Snapshot.of(1, compiler.compile(model, settings, secrets).messages)  # type: ignore[misc]
            )
            compiles.append(took)
            size = sum(len(r.data) for t in snapshot.types.values() for r in t.resources.values())
        print(
            f"compile   {count:>6} routes   read and check {min(reads):.3f} s   "
            f"compile and serialise {min(compiles):.3f} s   {size / 1e6:.1f} MB"
        )
