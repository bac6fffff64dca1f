"""Which part of the listeners' hosts and paths is whose."""

from pydantic import Field

from gateway.model.base import Model, PathText
from gateway.scalars import Host, Name


class Delegation(Model):
    """The modules of `owner` keep to what is delegated to it, and nobody else's module claims anything in there.

    `listeners`: empty for all. `path_prefix` takes whole segments, as prefixes of routes do.
    """

    owner: Name
    listeners: tuple[Name, ...] = ()
    hosts: tuple[Host, ...] = Field(min_length=1)
    path_prefix: PathText = "/"
