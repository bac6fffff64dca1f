"""docs/control-api.md says what is there: its table is the OpenAPI document's list, and its commands work."""

import asyncio
import os
import re
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.admin.conftest import Api

PAGE = (Path(__file__).parents[2] / "docs" / "control-api.md").read_text()


class Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


async def test_the_table_is_complete(api: Api) -> None:
    schema = (await api.client.get("/openapi.json")).json()
    there = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    written = set(re.findall(r"^\| `([A-Z]+) (/\S*)` \|", PAGE, re.MULTILINE))
    assert written == there


async def test_the_codes_are_the_ones_that_are_answered() -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "admin").rglob("*.py"))
    answered = set(re.findall(r'ApiError\(\s*\d+, "([a-z_]+)"', source))
    answered |= set(re.findall(r'\d+: \("([a-z_]+)"', source))
    rows = re.findall(r"^\| \d{3}.*$", PAGE, re.MULTILINE)
    members = {"head", "request_id", "revision", "since"}
    written = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)} - members
    assert written == answered


async def test_the_commands_work(api: Api, document: str) -> None:
    await api.applied(document)
    await api.published(1)
    assert isinstance(api.client._transport, httpx.ASGITransport)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(api.client._transport.app, log_config=None, lifespan="off", access_log=False)
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    environment = {
        **os.environ,
        "GWCTL_SERVER": f"http://127.0.0.1:{listening.getsockname()[1]}",
        "GWCTL_TOKEN": api.token,
    }
    commands = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        process = await asyncio.create_subprocess_shell(
            command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        said, complained = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, f"{command}: {complained.decode()}"
        assert said.startswith(b"{")
    server.should_exit = True
    await serving
