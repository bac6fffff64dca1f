"""What the model's classes have in common: frozen, strict, no unknown keys."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

PathText = Annotated[str, StringConstraints(pattern=r"^/[^?#\s\x00-\x1f\x7f]*$", max_length=1024)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Status = Annotated[int, Field(ge=200, le=599)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


def written_in(model: Model) -> set[str]:
    """The fields that have a value of their own: an explicit null is none."""
    return {name for name in model.model_fields_set if getattr(model, name) is not None}


class OneOf(Model):
    """A mapping of which exactly one key must be written (`path: {exact: /a}`)."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        written = self._alternatives() & written_in(self)
        if len(written) != 1:
            names = ", ".join(sorted(self._alternatives()))
            raise ValueError(f"write exactly one of {names}" + (f", not {len(written)}" if written else ""))
        return self

    @classmethod
    def _alternatives(cls) -> frozenset[str]:
        return frozenset(cls.model_fields)


class PathMatch(OneOf):
    """`prefix` takes whole segments; `template` is Envoy's uri_template (`{id}` one segment, `{rest=**}` the rest)."""

    exact: PathText | None = None
    prefix: PathText | None = None
    template: PathText | None = None
    regex: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
