"""The words of the language by place: which fields may stand where, which come later, and which one was meant."""

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel

from gateway.model import Gateway
from gateway.problems import Path

MOST_CANDIDATES: Final = 200

PLANNED: Final = {
    "SecretRef": {"env", "file"},
}
"""Words of the whole language that this version does not have, by the model they will belong to."""

UNSAFE: Final = {
    ("AuthorizationRule", "headers"): (
        "GW332",
        "headers are written by whoever calls: a rule about them would let anybody in who writes the right one",
        "use scopes, claims or tiers, which come from verified credentials, or cidrs, methods and paths",
    )
}
"""Words that this language will never have, by model: the code, the reason and what to write instead."""


def planned(parent: Path, word: str, root: type[BaseModel] = Gateway) -> bool:
    """Whether the word will be a field there."""
    return any(word in PLANNED.get(model.__name__, ()) for model in models_at(parent, root))


def unsafe(parent: Path, word: str, root: type[BaseModel] = Gateway) -> tuple[str, str, str] | None:
    """Why the word will never be a field there: code, reason and help."""
    return next((why for model in models_at(parent, root) if (why := UNSAFE.get((model.__name__, word)))), None)


def fields_at(path: Path, root: type[BaseModel] = Gateway) -> tuple[str, ...]:
    """The fields that may be written at a place of the document; empty where names are free or a scalar stands."""
    return tuple(dict.fromkeys(name for model in models_at(path, root) for name in _fields(model)))


def models_at(path: Path, root: type[BaseModel] = Gateway) -> tuple[type[BaseModel], ...]:
    """The models that a place of the document may hold: several where the language has alternatives.

    `root`: what the whole document is.
    """
    annotations: tuple[Any, ...] = (root,)
    for part in path:
        annotations = tuple(inner for one in annotations for inner in _inside(one, part))
    return tuple(one for one in annotations if _is_model(one))


def owners_of(field: str, path: Path, root: type[BaseModel] = Gateway) -> tuple[str, ...]:
    """The discriminating `type`s at a place that do have the field (`host` belongs to `dns`)."""
    models = [model for model in models_at(path, root) if field in _fields(model) and "type" in model.model_fields]
    return tuple(str(get_args(model.model_fields["type"].annotation)[0]) for model in models)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A help line naming the closest known word, or nothing. `maxAge` finds `max_age`."""
    close = closest(word, known)
    return f"did you mean '{close}'?" if close else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to this one; among very many, only one that is the same but for case and dashes."""
    return _closest(word[:100], tuple(known))


@lru_cache(maxsize=1024)
def _closest(word: str, known: tuple[str, ...]) -> str | None:
    words = [name for name in known if name != word]
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", word).replace("-", "_").lower()
    for candidate in (word, snake):
        if candidate in words:
            return candidate
        found = difflib.get_close_matches(candidate, words, 1, 0.7) if len(words) <= MOST_CANDIDATES else []
        if found:
            return found[0]
    return None


def _fields(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@cache
def _inside(annotation: Any, part: str | int) -> tuple[Any, ...]:
    """The annotations of what is inside one: a field of a model, a value of a mapping, an item of a list."""
    if _is_model(annotation):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        found = fields.get(str(part))
        return tuple(_members(found.annotation)) if found is not None else ()
    arguments = get_args(annotation)
    if get_origin(annotation) in (dict, tuple) and arguments:
        return tuple(_members(arguments[1] if get_origin(annotation) is dict else arguments[0]))
    return ()


def _members(annotation: Any) -> Iterator[Any]:
    """An annotation's alternatives, with `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation
