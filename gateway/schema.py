"""The language as JSON Schema (draft 2020-12), made from the models: for editors, and for `gwctl docs`.

Nothing of the language is repeated here. What a model's validator says of an empty value ("write exactly one of …")
becomes `oneOf`; defaults are shown as they are written (`15s`, not 15000). An explicit `null`, which the language
takes for "not written", is left out, so that editors mark it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from gateway.meanings import meaning
from gateway.model import Gateway, OneOf
from gateway.scalars import Name, Rate

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ID: Final = "urn:tollhouse:schema:v1"
_EXACTLY_ONE: Final = re.compile(r"write (?:exactly one of|either) (.+)$")
_UNITS: Final = {
    "time": (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)),
    "size": (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)),
}

Json = dict[str, Any]


@cache
def schema() -> Json:
    """The schema of a whole document. Do not change what comes back: it is made once."""
    made = Gateway.model_json_schema(by_alias=True, schema_generator=_Generator)
    whole: Json = {"$schema": DIALECT, "$id": ID, **_tidy(made)}
    return whole | {"title": "A Tollhouse gateway: routes.yaml"}


def key_order(model: type[BaseModel]) -> tuple[str, ...]:
    """A model's fields as they are best written: `name` first, its own before inherited ones, named objects last."""
    own = [name for name in model.model_fields if name in model.__annotations__]
    rest = [name for name in model.model_fields if name not in own]
    names = sorted([*own, *rest], key=lambda name: name not in ("name", "type"))
    if model is not Gateway:
        names.sort(key=lambda name: _holds_named_objects(model.model_fields[name]))
    return tuple(model.model_fields[name].alias or name for name in names)


def order_of(models: Sequence[type[BaseModel]]) -> tuple[str, ...]:
    """The order of keys where several models may stand: what only some of them have comes before what all have."""
    orders = [key_order(model) for model in models]
    every = [name for order in orders for name in order]
    shared = {name for name in every if all(name in order for order in orders)} - {"name", "type"}
    return tuple(dict.fromkeys(sorted(every, key=lambda name: (name not in ("name", "type"), name in shared))))


def alternatives(model: type[BaseModel]) -> tuple[tuple[str, ...], ...]:
    """The fields of which exactly one (or one group) must be written; empty for a model without such a rule."""
    if issubclass(model, OneOf):
        chosen = model._alternatives()
        return tuple((field.alias or name,) for name, field in model.model_fields.items() if name in chosen)
    return _said_of_an_empty_one(model)


def written(annotation: Any, value: Any) -> Any:
    """A decoded value as the document says it: 90000 of a Duration is `1m30s`."""
    if isinstance(value, BaseModel):
        return _written_model(value)
    if isinstance(value, tuple):
        return [written(_item(annotation), one) for one in value]
    if isinstance(value, dict):
        return {key: written(_item(annotation), one) for key, one in value.items()}
    for read in _readers(annotation):
        for candidate in _candidates(value):
            if _reads_as(read, candidate, value):
                return candidate
    return value


class _Generator(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> Json:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        fields = {field.alias or name: (name, field) for name, field in model.model_fields.items()}
        if "properties" not in made:
            return made
        made["properties"] = {
            alias: self._with_field(model, *fields[alias], made["properties"][alias])
            for alias in key_order(model)
            if alias in made["properties"]
        }
        chosen = alternatives(model)
        if chosen:
            made["oneOf"] = [_only(one, chosen) for one in chosen]
        return made

    def _with_field(self, model: type[BaseModel], name: str, field: FieldInfo, made: Json) -> Json:
        made = {key: value for key, value in made.items() if key not in ("default", "title")}
        made["description"] = meaning(model, name)
        if not field.is_required():
            default = written(_annotated(field), field.get_default(call_default_factory=True, validated_data={}))
            if default not in (None, {}, []):
                made["default"] = default
        return made


def _tidy(made: Any) -> Any:
    """The same schema without what editors do not know or show badly: OpenAPI's words, nulls, generated titles."""
    if isinstance(made, list):
        return [_tidy(one) for one in made]
    if not isinstance(made, dict):
        return made
    made = _without_null(made)
    if len(made.get("patternProperties", {})) == 1:
        made = _closed_names(made)
    return {
        key: _tidy(value)
        for key, value in made.items()
        if key != "discriminator" and not (key == "title" and isinstance(value, str))
    }


def _without_null(made: Json) -> Json:
    members = [one for one in made.get("anyOf", ()) if one != {"type": "null"}]
    if "anyOf" not in made or not isinstance(made["anyOf"], list):
        return made
    rest = {key: value for key, value in made.items() if key != "anyOf"}
    return members[0] | rest if len(members) == 1 else {"anyOf": members, **rest}


def _closed_names(made: Json) -> Json:
    """Free names with a pattern: pydantic would let other names pass unseen."""
    ((pattern, value),) = made["patternProperties"].items()
    rest = {key: one for key, one in made.items() if key != "patternProperties"}
    names = {"pattern": pattern} | made.get("propertyNames", {})
    return rest | {"propertyNames": names, "additionalProperties": value}


def _only(one: tuple[str, ...], groups: tuple[tuple[str, ...], ...]) -> Json:
    """That one of the groups is written; where groups have several fields, that no part of another one is."""
    if all(len(group) == 1 for group in groups):
        return {"required": list(one)}
    others = [name for group in groups if group != one for name in group]
    return {"required": list(one), "not": {"anyOf": [{"required": [name]} for name in others]}}


def _said_of_an_empty_one(model: type[BaseModel]) -> tuple[tuple[str, ...], ...]:
    empty = model.model_construct(_fields_set=set())
    for decorator in model.__pydantic_decorators__.model_validators.values():
        try:
            getattr(empty, decorator.cls_var_name)()
        except ValueError as error:
            said = _EXACTLY_ONE.search(str(error))
            known = [field.alias or name for name, field in model.model_fields.items()]
            groups = [re.findall(r"[a-z_0-9]+", one) for one in re.split(r",| or ", said[1])] if said else ()
            found = (tuple(name for name in known if name in group) for group in groups)
            return tuple(dict.fromkeys(group for group in found if group))
        except (AttributeError, TypeError):  # it looks at a required field, so it is about something else
            continue
    return ()


def _written_model(value: BaseModel) -> Json:
    fields = type(value).model_fields
    said = {name: getattr(value, name) for name in fields if name in value.model_fields_set}
    return {
        fields[name].alias or name: written(_annotated(fields[name]), one)
        for name, one in said.items()
        if one is not None
    }


def _annotated(field: FieldInfo) -> Any:
    made: Any = field.annotation
    for one in field.metadata:
        made = Annotated[made, one]
    return made


def _members(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The alternatives of an annotation, each with the metadata that `Annotated` gives it."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for base, more in _members(inner):
            yield base, (*more, *metadata)
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation, ()


def _readers(annotation: Any) -> Iterator[Callable[[Any], Any]]:
    for _, metadata in _members(annotation):
        yield from (one.func for one in metadata if isinstance(one, BeforeValidator))  # type: ignore[misc]


def _item(annotation: Any) -> Any:
    for base, _ in _members(annotation):
        if get_origin(base) in (tuple, dict):
            arguments = get_args(base)
            return arguments[1] if get_origin(base) is dict else arguments[0]
    return Any


def _candidates(value: Any) -> Iterator[str]:
    if isinstance(value, Rate):
        yield str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield f"{value:g}%"
        for units in _UNITS.values():
            for unit, one in units:
                if value and value % one == 0:
                    yield f"{int(value) // one}{unit}"
                    yield f"{int(value) // one}{unit}/s"
        yield from ("0s", "0B", "0B/s")


def _reads_as(read: Callable[[Any], Any], candidate: str, value: Any) -> bool:
    try:
        return bool(read(candidate) == value)
    except ValueError:
        return False


def _holds_named_objects(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict and get_args(field.annotation)[0] == Name


def resolved(made: Mapping[str, Any]) -> Json:
    """A part of the schema with its `$ref` followed; words beside the reference win."""
    found = dict(made)
    while "$ref" in found:
        target = schema()["$defs"][found.pop("$ref").rpartition("/")[2]]
        found = {**target, **found}
    return found
