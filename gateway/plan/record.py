"""A plan as JSON: the one form that the API answers with, that is saved, and that every rendering is made from."""

from collections.abc import Mapping
from typing import Any, Final

from gateway import render
from gateway.plan.edits import Edit, Item
from gateway.plan.made import Plan
from gateway.plan.routes import RouteChange
from gateway.plan.taken import Moved
from gateway.plan.weakening import Weakening
from gateway.problems import Place, dotted

SCHEMA: Final = "gwctl.plan/v1"


def as_json(plan: Plan) -> dict[str, Any]:
    """`changes findings routes moved weakened shrinks hosts tiers summary`; places are `file line column`, or null."""
    return {
        "schema": SCHEMA,
        "summary": {
            action: sum(item.action == action for item in plan.items) for action in ("created", "updated", "deleted")
        },
        "changes": [_item(item) for item in plan.items],
        "findings": _findings(plan),
        "routes": {"total": plan.total, "changed": [_route(one, plan) for one in plan.routes]},
        "moved": [_moved(one, plan) for one in plan.moved],
        "weakened": [_weakening(one, plan) for one in plan.weakened],
        "shrinks": [{"what": one.what, "before": one.before, "after": one.after} for one in plan.shrunk],
        "hosts": list(plan.hosts),
        "tiers": list(plan.tiers),
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "name": item.name,
        "action": item.action,
        "owner": item.owner,
        "path": dotted(item.path),
        **_place(item.place),
        "edits": [_edit(edit, len(item.path)) for edit in item.edits],
    }


def _edit(edit: Edit, start: int) -> dict[str, Any]:
    """`path`: within the object or route."""
    return {
        "path": dotted(edit.path[start:]),
        "action": edit.action,
        "old": edit.old,
        "new": edit.new,
        **_place(edit.place),
    }


def _findings(plan: Plan) -> dict[str, Any]:
    found = plan.findings
    return {
        "introduced": render.as_json(found.introduced, plan.places.after),
        "fixed": render.as_json(found.fixed, plan.places.before),
        "unchanged": len(found.unchanged),
    }


def _route(change: RouteChange, plan: Plan) -> dict[str, Any]:
    route = change.route
    return {
        "name": route.full_name,
        "action": change.action,
        "reasons": list(change.reasons),
        "listener": route.listener,
        "hosts": list(route.hosts),
        "tier": route.tier,
        **_place(plan.places.of(route.path, change.action)),
    }


def _moved(one: Moved, plan: Plan) -> dict[str, Any]:
    return {
        "listener": one.listener,
        "method": one.method,
        "host": one.host,
        "target": one.target,
        "headers": list(one.headers),
        "before": one.before,
        "after": one.after,
        **_place(plan.places.after.locate(one.path, at_key=True)),
    }


def _weakening(one: Weakening, plan: Plan) -> dict[str, Any]:
    place = plan.places.after.locate(one.path)
    return {"rule": one.rule, "path": dotted(one.path), "message": one.message, **_place(place)}


def _place(place: Place | None) -> Mapping[str, Any]:
    return {
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
