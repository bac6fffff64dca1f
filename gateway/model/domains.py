"""Limits for Envoys that this gateway does not configure: a tree of descriptors, as in envoyproxy/ratelimit."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.model.base import Model
from gateway.scalars import Name, RateField

DescriptorText = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class LimitDescriptor(Model):
    """One entry of a descriptor. Without a `value` it stands for every value, each counted by itself.

    `value`: `*` in it stands for any text. `share_threshold`: all values that fit a `*` are counted together.
    `limit`: how many requests in how much time; it holds where a request's descriptor ends here.
    `unlimited`: a descriptor that ends here is not limited. `shadow`: counted and reported, never enforced.
    `algorithm`, `burst`: how it is counted, as in other limits. `on_error`: what happens while it cannot be counted.
    `name`: what it is called, in answers and by `replaces`.
    `replaces`: names of limits that do not count in a request that meets this one.
    `detailed_metric`: metrics have all values of the descriptor. `value_to_metric`: they have this entry's.
    `descriptors`: what may follow this entry.
    """

    key: DescriptorText
    value: DescriptorText | None = None
    limit: RateField | None = None
    algorithm: Literal["sliding", "fixed", "log", "gcra"] | None = None
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    unlimited: bool = False
    shadow: bool = False
    on_error: Literal["allow", "deny"] | None = None
    name: Name | None = None
    replaces: tuple[Name, ...] = ()
    share_threshold: bool = False
    detailed_metric: bool = False
    value_to_metric: bool = False
    descriptors: tuple["LimitDescriptor", ...] = ()


class RateLimitDomain(Model):
    """`domain`: what those Envoys call it, if that is not its name here. `descriptors`: the first entries."""

    domain: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    descriptors: tuple[LimitDescriptor, ...] = Field(min_length=1)
