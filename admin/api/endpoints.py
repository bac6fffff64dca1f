"""Services and their endpoints: register, heartbeat, drain, deregister."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from admin.api import common
from admin.api.common import Actor, ServiceOf
from admin.endpoints import ServiceView
from admin.schemas import DrainBody, EndpointBody
from db.endpoints import Registration
from db.rows import EndpointRow
from gateway.model import ServiceEndpoint
from gateway.scalars import parse_duration

router = APIRouter(prefix="/v1/services", tags=["endpoints"])

ServiceName = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
Instance = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


@router.get("")
async def services(service: ServiceOf) -> dict[str, Any]:
    """Every service that is known or used, with how many endpoints are in which state."""
    return {"services": [_summary(view) for view in service.endpoints.services()]}


@router.get("/{name}")
async def one_service(name: ServiceName, service: ServiceOf) -> dict[str, Any]:
    """`endpoints`: as Envoys get them, of all sources. `instances`: who registered, with their heartbeats."""
    view = await service.endpoints.service(name)
    found = [_endpoint(endpoint) | {"source": source} for endpoint, source in view.endpoints]
    return _summary(view) | {"endpoints": found, "instances": [_instance(row) for row in view.instances]}


@router.put("/{name}/endpoints/{instance}")
async def put_endpoint(
    name: ServiceName, instance: Instance, body: EndpointBody, service: ServiceOf, actor: Actor
) -> dict[str, Any]:
    """Registers an instance; the same again is its heartbeat. An instance that drains goes on draining."""
    said = Registration(
        name,
        instance,
        body.address,
        body.port,
        actor,
        weight=body.weight,
        zone=body.zone,
        priority=body.priority,
        state=body.state,
        ttl=None if body.ttl == "none" else parse_duration(body.ttl) / 1000,
        labels=body.labels,
    )
    row, changed = await service.endpoints.put(actor, said)
    return _instance(row) | {"changed": changed}


@router.post("/{name}/endpoints/{instance}/drain")
async def drain_endpoint(
    name: ServiceName, instance: Instance, body: DrainBody, service: ServiceOf, actor: Actor
) -> dict[str, Any]:
    """No new requests; those that are on their way go on. It is gone after `for`."""
    row = await service.endpoints.drain(actor, name, instance, parse_duration(body.for_) / 1000)
    return _instance(row)


@router.delete("/{name}/endpoints/{instance}")
async def deregister_endpoint(
    name: ServiceName, instance: Instance, service: ServiceOf, actor: Actor
) -> dict[str, Any]:
    """Gone at once. Doing it again changes nothing."""
    changed = await service.endpoints.deregister(actor, name, instance)
    return {"service": name, "instance": instance, "changed": changed}


def _summary(view: ServiceView) -> dict[str, Any]:
    counts = {state: view.states[state] for state in ("healthy", "unhealthy", "draining")}
    return {"service": view.name, **counts, "upstreams": list(view.upstreams), "fault": view.fault}


def _endpoint(one: ServiceEndpoint | EndpointRow) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("address", "port", "weight", "zone", "priority", "state")}


def _instance(row: EndpointRow) -> dict[str, Any]:
    """`ttl` in seconds."""
    return {
        "service": row.service,
        "instance": row.instance,
        **_endpoint(row),
        "labels": dict(row.labels),
        "owner": row.owner,
        "ttl": row.ttl,
        "registered_at": common.time(row.registered_at),
        "expires_at": common.time(row.expires_at),
    }
