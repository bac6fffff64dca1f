"""From `POST /v1/apply` of a changed route to Envoy's first answer of the new kind."""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.support import lab as laboratory


def run(rounds: int = 20) -> None:
    with tempfile.TemporaryDirectory(prefix="tollhouse-bench-") as directory:
        for lab in laboratory.start(Path(directory)):
            took = [one(lab, attempt) for attempt in range(rounds)]
            p95 = sorted(took)[int(0.95 * (rounds - 1))]
            print(
                f"apply     to live on one Envoy, {rounds} changes   "
                f"p50 {statistics.median(took) * 1000:.0f} ms   p95 {p95 * 1000:.0f} ms   max {max(took) * 1000:.0f} ms"
            )


def one(lab: laboratory.Lab, attempt: int) -> float:
    token = (lab.gateway.state_dir / "token").read_text().strip()
    changed = lab.file.read_text().replace("body: pong", f"body: pong-{attempt}")
    with httpx.Client(base_url=lab.gateway.up["control_api"], headers={"authorization": f"Bearer {token}"}) as api:
        started = time.perf_counter()
        files = [{"name": "routes.yaml", "text": changed}]
        api.post("/v1/apply", json={"files": files}, timeout=30).raise_for_status()
        while lab.gateway.get("/ping").text != f"pong-{attempt}":
            time.sleep(0.001)
        return time.perf_counter() - started
