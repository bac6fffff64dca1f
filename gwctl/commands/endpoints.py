"""`gwctl endpoints`: services and the instances that answer for them."""

from typing import Any

import click

from gwctl.addresses import Address, AddressType
from gwctl.client import Target, client, target_options
from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, table

SERVICES = ("service", "healthy", "unhealthy", "draining", "upstreams", "fault")
INSTANCES = ("address", "state", "weight", "zone", "priority", "source", "instance", "expires")


@click.group()
def endpoints() -> None:
    """List, register, drain and remove the endpoints of services (`type: eds`)."""


@endpoints.command(name="list")
@click.argument("service", required=False)
@target_options
@output_option
def list_(service: str | None, target: Target, output: str) -> None:
    """List all services, or the endpoints of SERVICE."""
    if service is None:
        found = client(target).get("/v1/services")
        emit(output, "endpoints.list", found, lambda: table(SERVICES, _services(found)))
    else:
        one = client(target).get(f"/v1/services/{_word(service)}")
        emit(output, "endpoints.service", one, lambda: table(INSTANCES, _endpoints(one)))


@endpoints.command()
@click.argument("service")
@click.argument("instance")
@click.argument("address", type=AddressType())
@click.option("--weight", type=click.IntRange(1, 128), default=1, show_default=True, help="Share of the requests.")
@click.option("--zone", help="Where it stands.")
@click.option("--priority", type=click.IntRange(0, 127), default=0, show_default=True, help="0 is asked first.")
@click.option("--ttl", default="30s", show_default=True, help="Forgotten without a heartbeat for so long; or none.")
@click.option("--unhealthy", is_flag=True, help="It is there and wants no requests.")
@target_options
@output_option
def register(
    service: str,
    instance: str,
    address: Address,
    weight: int,
    zone: str | None,
    priority: int,
    ttl: str,
    unhealthy: bool,
    target: Target,
    output: str,
) -> None:
    """Register INSTANCE of SERVICE at ADDRESS (ip:port). The same again is its heartbeat."""
    body = {
        "address": address.host,
        "port": address.port,
        "weight": weight,
        "zone": zone,
        "priority": priority,
        "ttl": ttl,
        "state": "unhealthy" if unhealthy else "healthy",
    }
    made = client(target).put(_path(service, instance), body)
    emit(output, "endpoints.register", made, lambda: _told(made))


@endpoints.command()
@click.argument("service")
@click.argument("instance")
@click.option("--for", "seconds", default="60s", show_default=True, help="Time for the requests on their way.")
@target_options
@output_option
def drain(service: str, instance: str, seconds: str, target: Target, output: str) -> None:
    """Send INSTANCE of SERVICE no new requests, and remove it a while later."""
    made = client(target).post(f"{_path(service, instance)}/drain", {"for": seconds})
    emit(output, "endpoints.drain", made, lambda: f"{service}/{instance} drains until {made['expires_at']}")


@endpoints.command()
@click.argument("service")
@click.argument("instance")
@target_options
@output_option
def deregister(service: str, instance: str, target: Target, output: str) -> None:
    """Remove INSTANCE of SERVICE at once. Doing it again changes nothing."""
    made = client(target).delete(_path(service, instance))
    said = "removed" if made["changed"] else "was not there"
    emit(output, "endpoints.deregister", made, lambda: f"{service}/{instance} {said}")


def _path(service: str, instance: str) -> str:
    return f"/v1/services/{_word(service)}/endpoints/{_word(instance)}"


def _word(name: str) -> str:
    """A name that becomes part of a path. Raises Failure."""
    if not name or not all(character.isalnum() or character in "._:-" for character in name) or name[0] == ".":
        raise Failure(Exit.INVALID, f"{name!r} is not the name of a service or an instance")
    return name


def _told(made: dict[str, Any]) -> str:
    what = "registered" if made["changed"] else "heartbeat"
    until = f" until {made['expires_at']}" if made["expires_at"] else ""
    return f"{what}: {made['service']}/{made['instance']} is {made['state']}{until}"


def _services(found: dict[str, Any]) -> list[tuple[object, ...]]:
    counted = SERVICES[:4]
    return [
        (*(one[name] for name in counted), " ".join(one["upstreams"]) or None, one["fault"])
        for one in found["services"]
    ]


def _endpoints(one: dict[str, Any]) -> list[tuple[object, ...]]:
    """What is served, each with the instance that registered it, if one did."""
    who = {(instance["address"], instance["port"]): instance for instance in reversed(one["instances"])}
    rows = []
    for found in one["endpoints"]:
        instance = who.get((found["address"], found["port"]), {}) if found["source"] == "registry" else {}
        place = Address(found["address"], found["port"])
        said = (found[name] for name in ("state", "weight", "zone", "priority", "source"))
        rows.append((place, *said, instance.get("instance"), instance.get("expires_at")))
    return rows
