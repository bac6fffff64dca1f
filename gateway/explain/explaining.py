"""`explain`: what would become of a request, step by step, from the document alone."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from gateway.explain.asked import Asked
from gateway.explain.authentication import authentication
from gateway.explain.authorization import authorization
from gateway.explain.entering import connection, cors, csrf, listener_of, routing
from gateway.explain.explanation import Answer, Explanation, Step
from gateway.explain.leaving import answer, faults, limits, treatment
from gateway.explain.walk import Walk
from gateway.match import Index, index, route_for
from gateway.model import Gateway

STAGES: Final = (
    connection,
    routing,
    cors,
    csrf,
    authentication,
    authorization,
    limits,
    faults,
    treatment,
    answer,
)
"""In Envoy's order: the first that answers ends the request."""

NO_ANSWER: Final = Answer(404, "route_not_found")


def explain(gateway: Gateway, asked: Asked, known: Index | None = None) -> Explanation:
    """`known`: the gateway's index, if the caller has it already. Raises Unexplained where no listener is meant."""
    found = index(gateway) if known is None else known
    name = listener_of(gateway, asked)
    decision = route_for(found, replace(asked.request, listener=name))
    walk = Walk(gateway, found, asked, name, decision)
    return told(walk, list(steps(walk)))


def steps(walk: Walk) -> Iterator[Step]:
    return chain.from_iterable(stage(walk) for stage in STAGES)


def told(walk: Walk, found: list[Step]) -> Explanation:
    """The steps up to the answer; of those after it, the ones that have a name are what was not reached."""
    end = next((place for place, step in enumerate(found) if step.answer is not None), len(found) - 1)
    reached = through(found, end)
    final = found[end].answer or NO_ANSWER
    went = walk.route if final.by == "upstream" else None
    backends = (went.route.backends or ()) if went is not None else ()
    return Explanation(
        answer=final,
        steps=tuple(reached),
        not_reached=tuple({step.brief: step for step in found[end + 1 :] if step.brief}.values()),
        possible=tuple(dict.fromkeys(chain.from_iterable(step.possible for step in reached))),
        unproven=tuple(dict.fromkeys(walk.unproven)),
        kind=walk.decision.kind,
        listener=walk.listener_name,
        host=walk.decision.host,
        route=walk.decision.route.full_name if walk.decision.route is not None else None,
        path=walk.decision.path,
        upstreams=tuple(backend.upstream for backend in backends if backend.weight),
        upstream_path=walk.upstream_path if went is not None else None,
        upstream_host=walk.upstream_host if went is not None else None,
        location=walk.location if final.status is not None and 300 <= final.status < 400 else None,
        tier=walk.caller.tier if walk.caller is not None else None,
    )


def through(found: list[Step], end: int) -> list[Step]:
    """Up to the answer, with what belongs to it: the routes that lost are told after the 404."""
    more = end + 1
    while more < len(found) and not found[more].part:
        more += 1
    return found[:more]
