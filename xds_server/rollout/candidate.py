"""From a gateway to a snapshot that real Envoy accepts: an apply asks before storing, the publisher before sending."""

import asyncio
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.model import Gateway
from gateway.problems import Problem
from xds_server import compiler
from xds_server.compiler import Compiled, Settings
from xds_server.compiler.certificates import Dated, dated, misnamed
from xds_server.compiler.memo import Memo
from xds_server.compiler.services import Assigned, Assigner
from xds_server.endpoints.services import ServiceRegistry
from xds_server.jwks import KeySets
from xds_server.resources import Serialised, Snapshot
from xds_server.secrets import SecretStore, Stamp
from xds_server.validate import validate

Inputs = tuple[Stamp, tuple[tuple[str, str], ...]]
"""What is compiled beside the gateway, to see whether it changed: secrets and remote key sets."""

REMEMBERED: Final = 64  # verdicts of the gate, by snapshot version


@dataclass(frozen=True)
class Candidate:
    """A compiled gateway. `problems` are the compiler's: what they name fails closed alone, the rest is whole.

    `snapshot` has no endpoints of services yet: the document's digest and Envoy's verdict do not depend on them.

    `dated`: the certificates in use; what is to be said of them depends on the day.
    """

    snapshot: Snapshot
    problems: tuple[Problem, ...]
    refused: tuple[Problem, ...] = ()
    dated: tuple[Dated, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether real Envoy took it (or there is none to ask)."""
        return not any(problem.severity == "error" for problem in self.refused)


class Builder:
    """Compiles off the event loop, then asks `envoy --mode validate`, once per content that it accepts.

    `envoy`: the binary; None leaves the gate out. The publisher's question after an apply is the one that the apply has
    just asked.
    """

    def __init__(
        self, settings: Settings, secrets: SecretStore, envoy: Path | None, services: ServiceRegistry | None = None
    ) -> None:
        self.settings = settings
        self.secrets = secrets
        self.services = services or ServiceRegistry()
        self.key_sets = KeySets(secrets.directory / ".jwks")
        self.envoy = envoy
        self.last_compile_seconds = 0.0
        self._verdicts: OrderedDict[str, tuple[Problem, ...]] = OrderedDict()
        self._assigner = Assigner(settings)
        self._memo, self._serialised = Memo(), Serialised()  # of the last gateway: most of the next one is the same
        self._one_at_a_time = threading.Lock()  # an apply and the publisher may build at one time, each in a thread

    def stamp(self) -> Inputs:
        """Equal as long as the same gateway compiles to the same. Raises OSError for secrets that cannot be read."""
        return self.secrets.stamp(), self.key_sets.stamp()

    def assign(self, gateway: Gateway, compiled: Snapshot, *, from_disk: bool = False) -> Assigned:
        """`compiled` with the endpoints of services that are known now; takes milliseconds, and asks no Envoy.

        `from_disk`: `compiled` was kept with endpoints; those that nobody tells anew stay.
        """
        services = self.services.services
        complete = services.complete or from_disk
        assigned = self._assigner.assign(gateway, compiled, services.endpoints, complete=complete)
        return replace(assigned, problems=(*assigned.problems, *services.problems(gateway)))

    async def build(self, gateway: Gateway, revision: int) -> Candidate:
        """Raises OSError when the secrets cannot be read, ValueError when the compiler contradicts itself."""
        await self.key_sets.prepare(gateway)
        compiled, snapshot, dates = await asyncio.to_thread(self._compile, gateway, revision)
        refused = self._verdicts.get(snapshot.version)
        if refused is None:
            refused = await validate(compiled.messages, self.envoy) if self.envoy is not None else ()
        candidate = Candidate(snapshot, compiled.problems, refused, dates)
        if candidate.accepted:  # a refusal may be the gate's own trouble (a time-out): it is asked again
            self._remember(snapshot.version, refused)
        return candidate

    async def compile(self, gateway: Gateway, revision: int) -> Candidate:
        """`build` without Envoy's opinion: to compare with, never to publish."""
        await self.key_sets.prepare(gateway)
        compiled, snapshot, dates = await asyncio.to_thread(self._compile, gateway, revision)
        return Candidate(snapshot, compiled.problems, (), dates)

    def _compile(self, gateway: Gateway, revision: int) -> tuple[Compiled, Snapshot, tuple[Dated, ...]]:
        secrets = {**self.secrets.read(), **self.key_sets.read()}
        began = time.perf_counter()
        with self._one_at_a_time:
            compiled = compiler.compile(gateway, self.settings, secrets, memo=self._memo)
            snapshot = Snapshot.of(revision, compiled.messages, self._serialised.of, compiled.shares)
            self._serialised.end()
        self.last_compile_seconds = time.perf_counter() - began
        problems = (*compiled.problems, *misnamed(gateway, secrets))
        return replace(compiled, problems=problems), snapshot, dated(gateway, secrets)

    def _remember(self, version: str, refused: tuple[Problem, ...]) -> None:
        self._verdicts[version] = refused
        while len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)
