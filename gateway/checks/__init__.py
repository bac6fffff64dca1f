"""One file per concern. Each has `problems(scope)`: an iterator over what is wrong in its concern, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Final

from gateway.checks import (
    advice,
    authn,
    caching,
    delegations,
    domains,
    durations,
    floors,
    forwarding,
    headers,
    keysets,
    listeners,
    logins,
    modes,
    overrides,
    patterns,
    quotas,
    references,
    rollouts,
    routes,
    scopes,
    shadowing,
    traffic,
    upstreams,
)
from gateway.checks.scope import Scope
from gateway.problems import Problem

CHECKS: Final[tuple[Callable[[Scope], Iterator[Problem]], ...]] = (
    references.problems,
    listeners.problems,
    upstreams.problems,
    durations.problems,
    routes.problems,
    scopes.problems,
    shadowing.problems,
    patterns.problems,
    forwarding.problems,
    delegations.problems,
    authn.problems,
    advice.problems,
    floors.problems,
    keysets.problems,
    logins.problems,
    headers.problems,
    quotas.problems,
    modes.problems,
    domains.problems,
    traffic.problems,
    caching.problems,
    overrides.problems,
    rollouts.problems,
)
