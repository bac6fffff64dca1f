"""Looking a field up in the schema: `routes.retry.backoff`, with or without the names that operators choose."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.schema import resolved, schema

Json = dict[str, Any]

SAMPLES: Final = (
    "example",
    "/example",
    "api.example.com",
    "x-example",
    "GET",
    "200",
    "client",
    "10s",
    "60/minute",
    "5%",
    "64KiB",
    "https://app.example.com",
    "10.0.0.0/8",
    "5m",
)
"""Strings for examples: the first that a field's pattern allows is shown."""

NAMED: Final = {"address": "10.0.1.10", "port": 8080, "issuer": "https://id.example.com/", "version": 1}
"""The same for fields that are known by their name."""


@dataclass(frozen=True, slots=True)
class Field:
    """`path` has `<name>` where operators choose a name. `parts`: the schemas of what the field may hold."""

    path: tuple[str, ...]
    schema: Json
    required: bool

    @property
    def parts(self) -> tuple[Json, ...]:
        return tuple(_alternatives(self.schema))


def top() -> tuple[Field, ...]:
    """The keys of a document."""
    return children(Field((), schema(), required=True))


def children(field: Field) -> tuple[Field, ...]:
    """The fields inside one: those of the objects that it holds, through lists and names."""
    found: dict[str, Field] = {}
    for prefix, one in _objects(field.path, field.schema):
        for name, inner in one.get("properties", {}).items():
            found.setdefault(name, Field((*prefix, name), inner, name in one.get("required", ())))
    return tuple(found.values())


def find(words: tuple[str, ...]) -> Field | None:
    """The field that the words lead to. The first word may be any field's name: the nearest to the top is taken."""
    start = next((one for one in _breadth_first() if words and one.path[-1] == words[0]), None)
    return _walk(start, words[1:]) if start is not None else None


def names() -> tuple[str, ...]:
    """Every path that there is, without `<name>`, for finding the one that was meant."""
    return tuple(".".join(word for word in one.path if word[0] not in "<[") for one in _breadth_first())


def kind(made: Json) -> str:
    """A schema in words: `string like 15s`, `list of GET…`, `one of allow, deny`."""
    return " or ".join(dict.fromkeys(_kind(one) for one in _alternatives(made)))


def allowed(made: Json) -> tuple[str, ...]:
    """The values that may be written, where there are only so many."""
    found = [value for one in _alternatives(made) for value in _values(one)]
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in found)


def example(made: Json) -> Any:
    """A value that the schema accepts: small, with what is required and the first of the alternatives."""
    members = list(_alternatives(made))
    one = next((member for member in members if "properties" in member), members[0])
    values = list(_values(one))
    if made.get("default") is not None:
        return made["default"]
    if values:
        return values[0]
    if one.get("type") == "object":
        return _example_object(one)
    if one.get("type") == "array":
        return [example(one["items"])] * max(1, one.get("minItems", 1)) if "items" in one else []
    return _example_scalar(one)


def _walk(field: Field, words: tuple[str, ...]) -> Field | None:
    if not words:
        return field
    below = children(field)
    for one in below:
        if one.path[-1] == words[0]:
            return _walk(one, words[1:])
    # A name that the operator chose, or a place for one.
    return _walk(field, words[1:]) if len(words) > 1 and _has_names(field) else None


def _has_names(field: Field) -> bool:
    return any("additionalProperties" in one and "properties" not in one for one in field.parts)


def _breadth_first() -> Iterator[Field]:
    waiting, seen = list(top()), set()
    for field in waiting:
        yield field
        for one in children(field):
            if len(one.path) < 20 and one.path not in seen:
                seen.add(one.path)
                waiting.append(one)


def _objects(path: tuple[str, ...], made: Json) -> Iterator[tuple[tuple[str, ...], Json]]:
    for one in _alternatives(made):
        if "properties" in one:
            yield path, one
        elif isinstance(one.get("additionalProperties"), dict):
            yield from _objects((*path, "<name>"), one["additionalProperties"])
        elif isinstance(one.get("items"), dict):
            yield from _objects((*path, "[]"), one["items"])


def _alternatives(made: Json) -> Iterator[Json]:
    one = resolved(made)
    members = one.get("anyOf") or ([] if "properties" in one else one.get("oneOf")) or ()
    if not members:
        yield one
    for member in members:
        yield from _alternatives(member)


def _kind(one: Json) -> str:
    values = list(_values(one))
    if values:
        return f"`{values[0]}`" if len(values) == 1 else "one of the allowed values"
    if one.get("type") == "array":
        return f"list of: {kind(one['items'])}" if "items" in one else "list"
    if isinstance(one.get("additionalProperties"), dict):
        return f"mapping of names to: {kind(one['additionalProperties'])}"
    if one.get("examples"):
        return f"text like {one['examples'][0]}"
    if one.get("type") in ("integer", "number"):
        return str(one["type"]) + _range(one)
    return {"string": "text", "boolean": "true or false", "object": "mapping"}.get(str(one.get("type")), "anything")


def _range(one: Json) -> str:
    low, high = one.get("minimum"), one.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" of {low} or more" if low is not None else f" up to {high}" if high is not None else ""


def _values(one: Json) -> Iterator[Any]:
    if "const" in one:
        yield one["const"]
    yield from one.get("enum", ())


def _example_object(one: Json) -> Json:
    properties = one.get("properties", {})
    if not properties:
        inner = one.get("additionalProperties")
        key = _matching(one.get("propertyNames", {}).get("pattern", ""))
        return {key: example(inner) if isinstance(inner, dict) else SAMPLES[0]} if inner is not False else {}
    chosen = list(one.get("required", ()))
    chosen += one["oneOf"][0]["required"] if "oneOf" in one else []
    if not chosen:
        chosen = [next(iter(properties))]
    return {name: example_of(name, properties[name]) for name in dict.fromkeys(chosen)}


def example_of(name: str, made: Json) -> Any:
    """`example` for a field of that name."""
    if resolved(made).get("type") == "boolean":
        return True
    known = NAMED.get(name)
    return known if isinstance(known, {"string": str, "integer": int}.get(str(made.get("type")), ())) else example(made)


def _example_scalar(one: Json) -> Any:
    if one.get("examples"):
        return one["examples"][0]
    if one.get("type") in ("integer", "number"):
        return max(1, one.get("minimum", 1))
    if one.get("type") == "boolean":
        return True
    return _matching(one.get("pattern", ""))


def _matching(pattern: str) -> str:
    return next((text for text in SAMPLES if re.search(pattern, text)), SAMPLES[0])
