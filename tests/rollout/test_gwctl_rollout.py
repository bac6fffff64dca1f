"""`gwctl apply --wait` and `gwctl rollout` against a whole control plane: what they say and how they exit."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.admin.test_control_api_page import Server
from tests.rollout.fleet import fleet
from tests.rollout.test_rollouts import Plane, all_have, databases, document, one, sims

__all__ = ["databases", "one"]


@dataclass
class Said:
    code: int
    out: str
    err: str


class Command:
    """`gwctl` in processes of its own."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self._environment = {**os.environ, "GWCTL_SERVER": url, "GWCTL_TOKEN": token}
        self._folder = folder

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gwctl", *arguments, env=self._environment, cwd=self._folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def __call__(self, *arguments: str) -> Said:
        return await self.end(await self.begin(*arguments))

    async def end(self, process: asyncio.subprocess.Process) -> Said:
        out, err = await asyncio.wait_for(process.communicate(), 40)
        return Said(process.returncode or 0, out.decode(), err.decode())

    def write(self, text: str) -> None:
        (self._folder / "routes.yaml").write_text(text)


@asynccontextmanager
async def served(plane: Plane, folder: Path) -> AsyncIterator[Command]:
    assert isinstance(plane.api.client._transport, httpx.ASGITransport)
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(uvicorn.Config(plane.api.client._transport.app, log_config=None, lifespan="off", access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield Command(f"http://127.0.0.1:{listening.getsockname()[1]}", plane.api.token, folder)
    finally:
        server.should_exit = True
        await serving


async def test_apply_follows_the_waves(one: Plane, tmp_path: Path) -> None:
    nodes = sims(4)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes), served(one, tmp_path) as gwctl:
        await all_have(nodes, {"good"})
        gwctl.write(document("good", "good-2", soak="1s"))
        done = await gwctl("apply", "routes.yaml", "--wait")
        assert done.code == 0, done.err
        assert "revision 2 running: wave 1/3 canary 1/1 acked, 0 nacked, 0 pending" in done.err
        assert done.err.splitlines()[-1] == "revision 2 done"
        assert "revision 2, live on 4 Envoys" in done.out

        gwctl.write(document("good", "good-2", "bad"))
        halted = await gwctl("apply", "routes.yaml", "--wait")
        assert halted.code == 5
        assert "error[GW501] edge-00 rejected Cluster: bad: the port is taken" in halted.err
        assert "routes.yaml:" in halted.err
        assert "  bad: {type: static" in halted.err
        assert "edge-00 refused revision 3; revision 2 is live again, as revision 4" in halted.err

        shown = await gwctl("rollout", "status", "--exit-code")
        assert shown.code == 5
        assert "revision 3 rolled back" in shown.out
        history = await gwctl("rollout", "history", "-o", "json")
        assert '"schema": "gwctl.rollout.history/v1"' in history.out


async def test_who_waits_in_vain_is_told_why_and_may_leave(one: Plane, tmp_path: Path) -> None:
    nodes = sims(2)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes), served(one, tmp_path) as gwctl:
        await all_have(nodes, {"good"})
        assert (await gwctl("rollout", "pause")).code == 4
        frozen = await gwctl("rollout", "freeze", "--reason", "holidays")
        assert frozen.out == "rollouts are frozen by bootstrap: holidays\n"
        gwctl.write(document("good", "good-2"))
        waited = await gwctl("apply", "routes.yaml", "--wait", "--timeout", "1s")
        assert waited.code == 6
        assert "revision 2 waits: rollouts are frozen by bootstrap: holidays" in waited.err

        watching = await gwctl.begin("apply", "routes.yaml", "--wait")
        assert watching.stderr is not None
        async with asyncio.timeout(20):  # warnings come before
            while not (await watching.stderr.readline()).startswith(b"revision 2 running (frozen by bootstrap"):
                assert watching.returncode is None
        watching.send_signal(signal.SIGINT)
        left = await gwctl.end(watching)
        assert left.code == 130
        assert "no longer waits" in left.err
        assert (await gwctl("rollout", "unfreeze")).code == 0
        assert (await gwctl("rollout", "watch")).code == 0
        await all_have(nodes, {"good", "good-2"})


async def test_status_compares_nodes_with_what_they_are_given(one: Plane, tmp_path: Path) -> None:
    """While waves are under way a node of a started one is no straggler, and a halt is told."""
    nodes = sims(4)
    await one.api.applied(document("good"))
    await one.api.published(1)
    async with fleet(one.port, nodes), served(one, tmp_path) as gwctl:
        await all_have(nodes, {"good"})
        await one.api.applied(document("good", "good-2", soak="1h"))
        await all_have(nodes[:1], {"good", "good-2"})
        found = await status_when(one, lambda found: {node["state"] for node in found["nodes"]} == {"synced"})
        assert (found["rollout"], found["state"]) == ({"revision": 2, "state": "running", "wave": 1}, "pending")
        shown = await gwctl("status", "--exit-code")
        assert (shown.code, "rollout of revision 2: running, wave 1" in shown.out) == (0, True)

        await one.api.applied(document("good", "bad", on_halt="hold"), supersede=True)
        halted = {"revision": 3, "state": "halted", "wave": 1}
        found = await status_when(one, lambda found: found["rollout"] == halted)
        assert [node["state"] for node in found["nodes"]].count("nacked") == 1
        assert (await gwctl("status", "--exit-code")).code == 5


async def status_when(one: Plane, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await one.api.client.get("/v1/status")).json()
            if fits(found):
                return found
            await asyncio.sleep(0.05)
