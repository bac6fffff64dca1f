"""How long a plan of a large gateway takes, as the control API makes it."""

import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from tests.admin.conftest import Api, control_plane
from tests.bench.compile import document
from tests.support import postgres
from tests.support.postgres import Databases
from xds_server.validate import find_envoy


def run(routes: int = 5_000) -> None:
    with postgres.server() as server:
        took = asyncio.run(measured(Databases(server).fresh(), routes))
    print(f"plan      {routes:>6} routes   without Envoy {took[0]:.2f} s   with {took[1]:.2f} s")


async def measured(url: str, routes: int, rounds: int = 3) -> tuple[float, float]:
    """The best seconds of `POST /v1/plan` for one changed route, without Envoy and with it."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-bench-") as directory:
        store = Path(directory) / "secrets"
        store.mkdir()
        (store / "idp").write_bytes(secrets.token_bytes(32))
        async with control_plane(url, store, find_envoy()) as api:
            await api.applied(document(routes))
            await api.published(1)
            without = [await planned(api, routes, f"a{n}", envoy=False) for n in range(rounds)]
            # another content each time: Envoy's verdict on one that it has seen is remembered
            with_envoy = [await planned(api, routes, f"b{n}", envoy=True) for n in range(rounds)]
            return min(without), min(with_envoy)


async def planned(api: Api, routes: int, name: str, *, envoy: bool) -> float:
    text = document(routes).replace("exact: /v1/m3/r0", f"exact: /v1/m3/{name}", 1)
    body = {"files": [{"name": "routes.yaml", "text": text}], "envoy": envoy}
    started = time.perf_counter()
    answer = await api.client.post("/v1/plan", json=body)
    took = time.perf_counter() - started
    assert answer.json()["summary"] == {"created": 0, "updated": 1, "deleted": 0}, answer.text[:1000]
    return took
