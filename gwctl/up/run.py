"""One run of a whole gateway: what is decided before, started in order, applied, and told when it serves."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gwctl.client import Client
from gwctl.commands.apply import send, wait_until_live
from gwctl.exits import Exit, Failure
from gwctl.files import File
from gwctl.problems import show
from gwctl.up import plan as plans
from gwctl.up import services
from gwctl.up.plan import Plan
from gwctl.up.ports import Ports, answers
from gwctl.up.postgres import Postgres
from gwctl.up.process import POLL_SECONDS
from gwctl.up.services import LOOPBACK, Addresses, Stores
from gwctl.up.state import StateDir
from gwctl.up.supervisor import Supervisor
from gwctl.up.valkey import Valkey

START_SECONDS: Final = 60.0
SERVE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `files`: nothing means what is stored already."""

    files: Sequence[File]
    port: int | None = None
    envoys: int = 1
    decisions: int = 1
    concurrency: int = 2
    demo: bool = True


class Run:
    """Starts in `start`; `supervisor.run` then keeps it going. `say`: what the operator should know."""

    def __init__(self, directory: StateDir, wish: Wish, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.wish = wish
        self.say = say
        self.supervisor = Supervisor(self._pids_changed)
        self.plan: Plan
        self.state: dict[str, Any] = {}

    def start(self) -> None:
        """Until the gateway serves. Raises Failure for a document that is wrong, ProcessError for a part that fails."""
        ports = Ports()
        self.plan = self._plan(ports)
        self.directory.prepare()
        self._make_secrets()
        binary = services.envoy_binary()
        addresses = Addresses(
            ports.any(),
            ports.any(),
            tuple(ports.any() for _ in range(self.wish.decisions)),
            tuple(ports.any() for _ in range(self.wish.envoys)),
        )
        stores = self._start_stores()
        self._start_services(addresses, stores, binary)
        self._apply(addresses)
        self._wait_until_it_serves()
        self.directory.remember_run(self.plan.to_json())
        self.state = self._describe(addresses, stores)
        self.directory.write_state(self.state)

    def client(self) -> Client:
        return Client(self.state["control_api"], self.directory.token.read_text().strip())

    def _plan(self, ports: Ports) -> Plan:
        if not self.wish.files:
            return self._last_plan(ports)
        from gateway.read import load

        loaded = load(self.wish.files)
        if loaded.gateway is None:
            show(loaded.problems, self.wish.files, self.say)
            raise Failure(Exit.INVALID, "nothing was started")
        try:
            return plans.plan(loaded.gateway, self.wish.port, ports)
        except OSError as error:
            raise Failure(Exit.FAILED, str(error)) from None

    def _last_plan(self, ports: Ports) -> Plan:
        last = plans.from_json(self.directory.last_run())
        if last is None:
            raise Failure(Exit.USAGE, f"nothing was ever applied in {self.directory.root}", "name a FILE")
        try:
            return plans.again(last, self.wish.port, ports)
        except OSError as error:
            raise Failure(Exit.FAILED, str(error)) from None

    def _make_secrets(self) -> None:
        for name in self.plan.secrets:
            if self.directory.add_secret(name):
                self.say(f"made a random secret {name!r} in {self.directory.secrets}")

    def _start_stores(self) -> Stores:
        postgres = Postgres(self.directory.root / "pg", log=self.directory.log("postgres"))
        valkey = Valkey(self.directory.root / "valkey", log=self.directory.log("valkey"), guarded=True)
        self.supervisor.add("valkey", valkey, store=True)
        self.supervisor.add("postgres", postgres, store=True)
        return Stores(postgres.url, valkey.url)

    def _start_services(self, addresses: Addresses, stores: Stores, binary: Path) -> None:
        """Our services wait for the stores by themselves; Envoy would try its control plane with growing pauses."""
        variables = services.environment(self.directory, addresses, stores, self.plan.listeners, binary)
        self.supervisor.add("control-plane", services.control_plane(self.directory, variables))
        self.supervisor.add("decisions", services.decisions(self.directory, variables))
        for name, port in self.plan.busy.items() if self.wish.demo else ():
            self.say(f"port {port} is served already: no stand-in for upstream {name!r}")
        names = ["valkey", "postgres", "control-plane", "decisions"]
        if self.wish.demo and self.plan.demo:
            self.supervisor.add("demo", services.demo(self.directory, self.plan.demo, variables))
            names.append("demo")
        self.supervisor.until_ready([name for name in names if name != "decisions"], START_SECONDS)
        for number in range(1, self.wish.envoys + 1):
            envoy = services.envoy(self.directory, addresses, number, binary, self.wish.concurrency)
            self.supervisor.add(f"envoy-{number}", envoy)

    def _apply(self, addresses: Addresses) -> None:
        if not self.wish.files:
            return
        api = Client(f"http://{LOOPBACK}:{addresses.api}", self._token())
        answer = send(api, self.wish.files, {"message": "gwctl up"}, tell=self.say)
        self.say(f"revision {answer['revision']}: {len(answer['changed'])} objects changed")
        self.supervisor.until_ready(self._envoys(), SERVE_SECONDS)
        wait_until_live(api, int(answer["revision"]), SERVE_SECONDS, self.wish.files, self.say)
        api.close()

    def _token(self) -> str:
        try:
            return self.directory.token.read_text().strip()
        except FileNotFoundError:
            message = f"the control plane made its token in an earlier run, and {self.directory.token} is gone"
            raise Failure(Exit.DENIED, message, f"remove {self.directory.root} to begin anew") from None

    def _wait_until_it_serves(self) -> None:
        self.supervisor.until_ready([*self._envoys(), "decisions"], SERVE_SECONDS)
        deadline = time.monotonic() + SERVE_SECONDS
        while not all(answers(port) for port in self.plan.listeners.values()):
            if time.monotonic() > deadline:
                raise Failure(Exit.TIMEOUT, f"the listeners did not open within {SERVE_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def _envoys(self) -> list[str]:
        return [f"envoy-{number}" for number in range(1, self.wish.envoys + 1)]

    def _describe(self, addresses: Addresses, stores: Stores) -> dict[str, Any]:
        urls = {name: f"{self.plan.schemes[name]}://{LOOPBACK}:{port}" for name, port in self.plan.listeners.items()}
        decisions = ",".join(f"{LOOPBACK}:{port}" for port in addresses.decisions)
        return {
            "schema": "gwctl.up/v1",
            "gateway": next((url for url in urls.values() if url.startswith("http:")), next(iter(urls.values()), None)),
            "listeners": urls,
            "xds": f"{LOOPBACK}:{addresses.xds}",
            "control_api": f"http://{LOOPBACK}:{addresses.api}",
            "ext_authz": decisions,
            "ratelimit": decisions,
            "envoy_admin": f"http://{LOOPBACK}:{addresses.admin[0]}",
            "envoy_admins": {f"envoy-{n}": f"http://{LOOPBACK}:{port}" for n, port in enumerate(addresses.admin, 1)},
            "database_url": stores.database_url,
            "valkey_url": stores.valkey_url,
            "state_dir": str(self.directory.root),
            "pids": self.supervisor.pids | {"supervisor": os.getpid()},
        }

    def _pids_changed(self, pids: dict[str, int]) -> None:
        if self.state:
            self.state["pids"] = pids | {"supervisor": os.getpid()}
            self.directory.write_state(self.state)
