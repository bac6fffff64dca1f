"""The rollout block: waves that take nodes, each under a name of its own."""

from collections.abc import Iterator

from gateway.checks.scope import Scope
from gateway.problems import Problem


def problems(scope: Scope) -> Iterator[Problem]:
    rollout = scope.gateway.rollout
    if rollout.halt_on.error_rate_increase is not None:
        message = "nothing halts by this yet: Envoys do not tell what their requests came to"
        yield Problem("GW263", ("rollout", "halt_on", "error_rate_increase"), message, severity="warning")
    names: set[str] = set()
    for index, wave in enumerate(rollout.waves):
        path = ("rollout", "waves", index)
        if wave.name in names:
            yield Problem("GW264", (*path, "name"), f"another wave is called '{wave.name}' already")
        names.add(wave.name)
        if wave.nodes is None and index + 1 < len(rollout.waves):
            message = f"the wave '{wave.name}' takes every node that is left: nothing remains for the waves after it"
            yield Problem("GW265", (*path, "name"), message, "say which `nodes` it takes, or make it the last")
    if rollout.waves and rollout.waves[-1].nodes is not None:
        last = ("rollout", "waves", len(rollout.waves) - 1, "nodes")
        message = "the last wave does not take every node that is left: some would never get a change"
        yield Problem("GW265", last, message, "leave out its `nodes`")
