"""From the text of a `tests.yaml` to its cases, or to everything that is wrong with it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError

from gateway import source
from gateway.decoding import problems_of
from gateway.model import Gateway
from gateway.places import in_source
from gateway.problems import Path, Place, Problem
from gateway.testing.model import Case, Step, Tests


@dataclass(frozen=True, slots=True)
class Read:
    """A case and where it is written."""

    case: Case
    place: Place


def read(file: str, text: str, gateway: Gateway) -> tuple[tuple[Read, ...], tuple[Problem, ...]]:
    """The cases, none where there is a problem. Names that `gateway` does not have are problems (GW201)."""
    one, problems = source.read(file, text)
    if problems:
        return (), tuple(problems)
    try:
        tests = Tests.model_validate_json(json.dumps(one.values))
    except ValidationError as error:
        return (), tuple(in_source(one, problem) for problem in problems_of(error, one.values, root=Tests))
    found = tuple(in_source(one, problem) for problem in unknown(tests, gateway))
    places = (in_source(one, Problem("", ("tests", at), "")).place for at in range(len(tests.tests)))
    cases = tuple(Read(case, place or Place(file, 1, 1)) for case, place in zip(tests.tests, places, strict=True))
    return (() if found else cases), found


def unknown(tests: Tests, gateway: Gateway) -> Iterator[Problem]:
    routes = {f"{module}/{route}" for module, one in gateway.modules.items() for route in one.routes}
    known: Mapping[str, Iterable[str]] = {
        "route": routes,
        "tier": gateway.tiers,
        "upstream": gateway.upstreams,
        "provider": gateway.jwt_providers,
        "listener": gateway.listeners,
    }
    for at, case in enumerate(tests.tests):
        for index, step in enumerate(case.sequence):
            base: Path = ("tests", at, "steps", index) if case.steps else ("tests", at)
            for kind, name, path in names(step):
                if name not in known[kind]:
                    yield dangling(kind, name, (*base, *path), known[kind])


def names(step: Step) -> Iterator[tuple[str, str, Path]]:
    """Kind, name and place of everything of the gateway that a step names."""
    given, expect = step.given, step.expect
    single: tuple[tuple[str, str | None, Path], ...] = (
        ("listener", given.listener, ("given", "listener")),
        ("provider", given.jwt.provider if given.jwt else None, ("given", "jwt", "provider")),
        ("route", expect.route, ("expect", "route")),
        ("tier", expect.tier, ("expect", "tier")),
    )
    yield from ((kind, name, path) for kind, name, path in single if name is not None)
    upstream = expect.upstream
    if isinstance(upstream, str):
        yield "upstream", upstream, ("expect", "upstream")
    else:
        yield from (("upstream", name, ("expect", "upstream", at)) for at, name in enumerate(upstream or ()))


def dangling(kind: str, name: str, path: Path, known: Iterable[str]) -> Problem:
    close = get_close_matches(name, known, 1)
    return Problem("GW201", path, f"the gateway has no {kind} '{name}'", f"did you mean '{close[0]}'?" if close else "")
