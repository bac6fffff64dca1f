"""One site: control planes over one PostgreSQL, and an Envoy with its agent. Each is a process that can be killed."""

import os
import secrets
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from gwctl.bootstrap import Node, write
from gwctl.up.postgres import Postgres
from gwctl.up.process import Process
from tests.ads.real_envoy import BINARY
from tests.support import tokens
from tests.support.gateway import GWCTL, free_port, until
from tests.support.upstream import Upstream

DOCUMENT = string.Template("""\
version: 1
listeners: {http: {port: $PORT, access_log: none}}
upstreams: {echo: {type: static, endpoints: [{address: 127.0.0.1, port: $ECHO}]}}
tiers: {free: {unlimited: true}}
jwt_providers:
  ours: {issuer: "https://hs.example", audiences: [lab], jwks: {hs256: {secret: lab-hs}}}
modules:
  open:
    listener: http
    tier: free
    authentication: none
    routes:
      says: {match: {path: {exact: /says}}, respond: {status: 200, body: "$TEXT"}}
      echo: {match: {path: {exact: /echo}}, backends: [{upstream: echo}]}
  closed:
    listener: http
    tier: free
    authentication: {any_of: [ours]}
    routes: {echo: {match: {path: {exact: /closed}}, backends: [{upstream: echo}]}}
""")


class Site:
    """Everything runs once `start` returns; `says` is what the applied document answers at /says."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self.postgres = Postgres(directory / "pg", fast=True)
        self.echo = stack.enter_context(Upstream())
        self.hs256 = secrets.token_bytes(32)
        self.port, self.agent_port, self.admin = free_port(), free_port(), free_port()
        self.token = directory / "token"
        (directory / "pepper").write_text(secrets.token_hex(16))
        (directory / "secrets").mkdir(mode=0o700)
        (directory / "secrets" / "lab-hs").write_bytes(self.hs256)
        self.planes: dict[str, Process] = {}
        self.addresses: dict[str, tuple[str, int]] = {}
        stack.callback(self.postgres.stop)

    def plane(self, name: str) -> Process:
        """A control plane with a state directory of its own; the same again when asked for again."""
        if name not in self.planes:
            api, xds = f"127.0.0.1:{free_port()}", free_port()
            self.addresses[name] = (api, xds)
            variables = {
                "TOLLHOUSE_DATABASE_URL": self.postgres.url,
                "TOLLHOUSE_PEPPER_FILE": str(self.directory / "pepper"),
                "TOLLHOUSE_SECRETS_DIR": str(self.directory / "secrets"),
                "TOLLHOUSE_TOKEN_FILE": str(self.token),
                "TOLLHOUSE_STATE_DIR": str(self.directory / name),
                "TOLLHOUSE_API_ADDRESS": api,
                "TOLLHOUSE_XDS_ADDRESS": f"127.0.0.1:{xds}",
            }
            self.planes[name] = self._service(name, ("serve", "control-plane"), variables, lambda: ready(api))
        return self.planes[name]

    def agent(self, *planes: str) -> Process:
        variables = {
            "TOLLHOUSE_BOOTSTRAP": str(self.bootstrap(planes[0])),
            "TOLLHOUSE_XDS": " ".join(f"127.0.0.1:{self.addresses[name][1]}" for name in planes),
            "TOLLHOUSE_AGENT_STATE_DIR": str(self.directory / "agent"),
            "TOLLHOUSE_AGENT_ADDRESS": f"127.0.0.1:{self.agent_port}",
        }
        return self._service("agent", ("agent",), variables, lambda: listens(self.agent_port))

    def envoy(self, plane: str) -> Process:
        flags = ["--use-dynamic-base-id", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        return self._process(
            Process(
                name="envoy",
                command=[str(BINARY), "-c", str(self.bootstrap(plane)), *flags],
                log=self.directory / "envoy.log",
                environment=dict(os.environ),
            )
        )

    def bootstrap(self, plane: str) -> Path:
        xds = ("127.0.0.1", self.addresses[plane][1])
        agent = ("127.0.0.1", self.agent_port)
        node = Node(id="envoy-1", admin=("127.0.0.1", self.admin), xds=xds, agent=agent)
        return write(node, self.directory / "bootstrap.yaml")

    def apply(self, plane: str, text: str) -> None:
        file = self.directory / "routes.yaml"
        file.write_text(DOCUMENT.substitute(PORT=self.port, ECHO=self.echo.port, TEXT=text))
        done = self.gwctl(plane, "apply", str(file))
        assert done.returncode == 0, done.stdout + done.stderr

    def gwctl(self, plane: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        variables = {"GWCTL_SERVER": f"http://{self.addresses[plane][0]}", "GWCTL_TOKEN_FILE": str(self.token)}
        command = [*GWCTL, *arguments]
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
        )

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=10, trust_env=False)

    def bearer(self, **claims: Any) -> dict[str, str]:
        token = tokens.sign(self.hs256, "HS256", tokens.claims("https://hs.example", **claims))
        return {"authorization": f"Bearer {token}"}

    def serves(self, text: str, seconds: float = 20.0) -> float:
        """Wait until Envoy answers so; how long that took."""
        began = time.monotonic()

        def answers() -> bool:
            try:
                return self.get("/says").text == text
            except httpx.HTTPError:
                return False

        until(answers, seconds=seconds, every=0.01, what=f"/says answers {text}")
        return time.monotonic() - began

    def stat(self, name: str) -> int:
        found = httpx.get(f"http://127.0.0.1:{self.admin}/stats?format=json&filter=^{name}$", trust_env=False).json()
        return int(found["stats"][0]["value"])

    def _service(
        self, name: str, arguments: tuple[str, ...], variables: dict[str, str], ready: Callable[[], bool]
    ) -> Process:
        return self._process(
            Process(
                name=name,
                command=[sys.executable, "-m", "gwctl", *arguments],
                log=self.directory / f"{name}.log",
                ready=ready,
                environment={**os.environ, **variables},
                directory=Path.cwd(),
            )
        )

    def _process(self, process: Process) -> Process:
        self._stack.callback(process.stop, 20.0)
        return process


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ready(api: str) -> bool:
    try:
        return httpx.get(f"http://{api}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
