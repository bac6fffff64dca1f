"""`gwctl validate`: everything that can be known about files without a server, a real Envoy's opinion included."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from gateway.model import Gateway
from gateway.places import sort_key
from gateway.problems import Problem
from gateway.read import Loaded, load
from gateway.render import as_json, text
from gateway.secrets import referenced
from gwctl.commands.unsafe import allow_unsafe_upstreams
from gwctl.commands.version import envoy_version
from gwctl.exits import Exit
from gwctl.files import chosen, files_argument, read
from gwctl.output import FORMATS, emit, output_of
from gwctl.problems import count
from gwctl.reports import REPORTS
from gwctl.throwaway import stand_ins
from xds_server import compiler
from xds_server.validate import find_envoy
from xds_server.validate import validate as ask_envoy


@dataclass
class Verdict:
    """What was found. `envoy`: the version that was asked, None if none was; `seconds`: how long it took."""

    loaded: Loaded
    problems: list[Problem] = field(default_factory=list)
    envoy: str | None = None
    seconds: float = 0.0

    @property
    def valid(self) -> bool:
        return all(problem.severity != "error" for problem in self.problems)


@click.command()
@files_argument
@click.option("--no-envoy", is_flag=True, help="Do not ask a real Envoy whether it would accept the result.")
@allow_unsafe_upstreams
@output_of((*FORMATS, *REPORTS))
@click.pass_context
def validate(
    ctx: click.Context,
    paths: tuple[Path, ...],
    more: tuple[Path, ...],
    no_envoy: bool,
    allow_unsafe_upstreams: bool,
    output: str,
) -> None:
    """Check FILE... as one gateway, without a server. Exits with 3 if there are errors."""
    files = read(chosen(paths, more))
    verdict = judge(load(files), None if no_envoy else find_envoy(), unsafe_upstreams=allow_unsafe_upstreams)
    names = [file.name for file in files]
    if output in REPORTS:
        click.echo(REPORTS[output](verdict.problems, names), nl=False)
    else:
        emit(output, "validate", _document(verdict), lambda: _for_people(verdict, names, no_envoy))
    if not verdict.valid:
        ctx.exit(Exit.INVALID)


def judge(loaded: Loaded, envoy: Path | None, *, unsafe_upstreams: bool = False) -> Verdict:
    """Reads, compiles with stand-ins for secrets, and asks Envoy if there is one; each step needs the one before."""
    verdict = Verdict(loaded, list(loaded.problems))
    if loaded.gateway is not None:
        settings = compiler.Settings(decisions=(("127.0.0.1", 9002),), unsafe_upstreams=unsafe_upstreams)
        compiled = compiler.compile(loaded.gateway, settings, stand_ins(referenced(loaded.gateway)))
        verdict.problems += compiled.problems
        if envoy is not None and verdict.valid:
            started = time.monotonic()
            verdict.problems += asyncio.run(ask_envoy(compiled.messages, envoy))
            verdict.envoy, verdict.seconds = envoy_version(envoy), time.monotonic() - started
    verdict.problems = sorted(map(loaded.where.placed, verdict.problems), key=sort_key)
    return verdict


def summary(gateway: Gateway) -> str:
    routes = sum(len(module.routes) for module in gateway.modules.values())
    counts = {"module": len(gateway.modules), "route": routes, "upstream": len(gateway.upstreams)}
    return ", ".join(f"{number} {noun}{'' if number == 1 else 's'}" for noun, number in counts.items())


def _document(verdict: Verdict) -> dict[str, Any]:
    return {
        "valid": verdict.valid,
        "envoy": verdict.envoy,
        "problems": as_json(verdict.problems, verdict.loaded.where),
    }


def _for_people(verdict: Verdict, names: Sequence[str], no_envoy: bool) -> str:
    found = text(verdict.problems, verdict.loaded.where)
    gateway = verdict.loaded.gateway
    if not verdict.valid or gateway is None:
        return f"{found}{count(verdict.problems)}\n"
    what = names[0] if len(names) == 1 else f"{len(names)} files"
    return f"{found}{what}: {summary(gateway)}, valid ({_envoys_opinion(verdict, no_envoy)})\n"


def _envoys_opinion(verdict: Verdict, no_envoy: bool) -> str:
    if verdict.envoy:
        return f"Envoy {verdict.envoy} accepted it in {verdict.seconds:.1f} s"
    return "Envoy was not asked" if no_envoy else "Envoy was not found, so not asked"
