"""A plan without a server: two sets of files compared as the control plane would, with stand-ins for the secrets."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway import document, plan
from gateway.document import Change, Object
from gateway.problems import Problem
from gateway.read import Loaded, load
from gateway.render import as_json
from gateway.secrets import referenced
from gwctl.exits import Exit, Failure
from gwctl.files import File
from gwctl.problems import show
from gwctl.throwaway import stand_ins
from xds_server import compiler
from xds_server.compiler import shown
from xds_server.compiler.difference import as_json as resources_json
from xds_server.compiler.difference import difference
from xds_server.compiler.memo import Memo
from xds_server.resources import Serialised, Snapshot
from xds_server.validate import validate


def compared(
    base: Sequence[File], files: Sequence[File], *, prune: bool, envoy: Path | None, xds: bool = False
) -> dict[str, Any]:
    """The document `gwctl.plan/v1`, without nodes. Raises Failure 3 for files that are not valid, 4 for owners."""
    old = load(base)
    change = Change()

    def merge(new: tuple[Object, ...]) -> tuple[Object, ...]:
        nonlocal change
        change = document.apply(old.objects, new, prune=prune)
        return change.objects

    _valid(old, base, old.problems)
    new = load(files, merge)
    if change.problems and new.ok:
        show(change.problems, files)
        raise Failure(Exit.CONFLICT, "objects belong to other owners")
    _valid(new, files, new.problems)
    return _document(old, new, change.objects, files, envoy=envoy, xds=xds)


def difference_of(old: Sequence[File], new: Sequence[File], *, xds: bool = False) -> dict[str, Any]:
    """The same document for two whole gateways: what the new files do not write is gone."""
    before, after = load(old), load(new)
    _valid(before, old, before.problems)
    _valid(after, new, after.problems)
    return _document(before, after, after.objects, new, envoy=None, xds=xds)


def _document(
    old: Loaded, new: Loaded, objects: tuple[Object, ...], files: Sequence[File], *, envoy: Path | None, xds: bool
) -> dict[str, Any]:
    if old.gateway is None or new.gateway is None:
        raise TypeError("only valid files are compared")
    names = referenced(old.gateway) | referenced(new.gateway)
    settings = compiler.Settings(decisions=(("127.0.0.1", 9002),))
    secrets, memo, serialised = stand_ins(names), Memo(), Serialised()
    before, after = (compiler.compile(gateway, settings, secrets, memo=memo) for gateway in (old.gateway, new.gateway))
    _valid(new, files, after.problems)
    if envoy is not None:
        _valid(new, files, asyncio.run(validate(after.messages, envoy)))
    sides = [
        plan.Side(found, gateway, (*loaded.problems, *map(loaded.where.placed, compiled.problems)), loaded.where)
        for found, gateway, loaded, compiled in (
            (old.objects, old.gateway, old, before),
            (objects, new.gateway, new, after),
        )
    ]
    first, second = (Snapshot.of(0, compiled.messages, serialised.of) for compiled in (before, after))
    resources = difference(first, second)
    lines = shown.differences(first, second, resources) if xds else ()
    return {
        **plan.as_json(plan.made(*sides)),
        "base": {"revision": None, "version": first.version},
        "version": second.version,
        "envoy": envoy is not None,
        "resources": resources_json(resources),
        "nodes": None,
        "waves": len(new.gateway.rollout.waves),
        "problems": as_json(sides[1].problems, new.where),
        **({"xds": shown.as_json(lines)} if xds else {}),
    }


def _valid(loaded: Loaded, files: Sequence[File], problems: Sequence[Problem]) -> None:
    if any(problem.severity == "error" for problem in problems):
        show(map(loaded.where.placed, problems), files)
        raise Failure(Exit.INVALID, "the files are not valid, so there is no plan")
