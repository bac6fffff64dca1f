"""How a change reaches the fleet: in waves of nodes, each watched for a while before the next."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gateway.model.base import Model, written_in
from gateway.scalars import Duration, Name, Percent


class NodeSelector(Model):
    """Which nodes: those with all these labels, or that share of all nodes."""

    labels: dict[str, str] | None = None
    percent: Percent | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(written_in(self)) != 1:
            raise ValueError("write exactly one of labels, percent")
        return self


class Wave(Model):
    """`nodes`: all that no earlier wave took, where it is not written. `soak`: how long the wave is watched."""

    name: Name
    nodes: NodeSelector | None = None
    soak: Duration = 0


class HaltOn(Model):
    """What stops a rollout: so many NACKs, a node that does not answer, a rise of the share of failed requests."""

    nack: Annotated[int, Field(ge=1)] = 1
    ack_timeout: Duration = 30_000
    error_rate_increase: Percent | None = None


class Rollout(Model):
    waves: tuple[Wave, ...] = ()
    halt_on: HaltOn = HaltOn()
    on_halt: Literal["rollback", "hold"] = "rollback"
