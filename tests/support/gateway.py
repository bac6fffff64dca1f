"""A running Tollhouse, started and driven as an operator does: by the `gwctl` command."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

GWCTL = (sys.executable, "-m", "gwctl")


def free_port() -> int:
    """A loopback TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], *, seconds: float = 20.0, every: float = 0.05, what: str = "") -> Any:
    """The first true value of `condition`; an AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(every)


class Gateway:
    """`gwctl up --detach` in a state directory of its own; `down` when closed."""

    def __init__(self, state_dir: Path, *files: Path, options: tuple[str, ...] = ()) -> None:
        self.state_dir = state_dir
        self.port = free_port()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("GWCTL_", "TOLLHOUSE_"))}
        self.environment |= {"GWCTL_STATE_DIR": str(state_dir)}
        up = self.gwctl(
            "up", "--detach", "-o", "json", "--port", str(self.port), *options, *map(str, files), timeout=120
        )
        assert up.returncode == 0, f"gwctl up failed\n{up.stdout}\n{up.stderr}"
        self.up = json.loads(up.stdout)
        self.url = self.up["gateway"]
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def gwctl(self, *arguments: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GWCTL, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            check=False,
        )

    def ask(self, *arguments: str, timeout: float = 60) -> Any:
        """The JSON answer of a gwctl command that must succeed."""
        done = self.gwctl(*arguments, "-o", "json", timeout=timeout)
        assert done.returncode == 0, f"gwctl {arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def key(self, tier: str, name: str, *options: str) -> str:
        return str(self.ask("keys", "create", "--tier", tier, "--name", name, *options)["key"])

    def token(self, provider: str, subject: str, *options: str) -> str:
        return str(self.ask("token", "mint", "--provider", provider, "--subject", subject, *options)["token"])

    def status(self) -> Any:
        return self.ask("status")

    @property
    def pids(self) -> dict[str, int]:
        return dict(json.loads((self.state_dir / "state.json").read_text())["pids"])

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def close(self) -> None:
        self.client.close()
        down = self.gwctl("down")
        assert down.returncode == 0, down.stderr
