"""How a change reaches the fleet: in waves of nodes, each watched for a while before the next."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.model.base import Model, written_in
from gateway.scalars import Duration, Name, Percent

NodeText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NodeTexts = Annotated[tuple[NodeText, ...], Field(min_length=1)]


class NodeSelector(Model):
    """Which nodes: those that every written word fits. Of a list one value must fit, of `labels` all.

    `ids`: one of these node ids. `clusters`: one of these node clusters. `labels`: all of these labels. `regions`: one
    of these regions. `zones`: one of these zones.
    """

    ids: NodeTexts | None = None
    clusters: NodeTexts | None = None
    labels: Annotated[dict[NodeText, NodeText], Field(min_length=1)] | None = None
    regions: NodeTexts | None = None
    zones: NodeTexts | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not written_in(self):
            raise ValueError("write at least one of ids, clusters, labels, regions, zones")
        return self


class WaveNodes(NodeSelector):
    """Which nodes a wave takes: those that the words fit, or a share of all.

    `percent`: that share of all nodes, which no node can tell by itself.
    """

    percent: Percent | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.percent is not None and len(written_in(self)) != 1:
            raise ValueError("write percent alone, or without it the words that say which nodes")
        return self


class Wave(Model):
    """`nodes`: all that no earlier wave took, where it is not written. `soak`: how long the wave is watched."""

    name: Name
    nodes: WaveNodes | None = None
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
