"""No word of the language is silently ignored: for each field some golden case compiles to other bytes without it.

Each leaf of each case is taken out, or changed where it cannot be; what that does to the compiled bytes is what the
field is worth. A field that never matters anywhere would be a word that operators write in vain.
"""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from gateway.model import Gateway, Model, decode
from gateway.problems import Path
from gateway.words import models_at
from tests.compiler import golden
from xds_server.compiler import compile  # noqa: A004

Field = tuple[str, str]

OF_NO_CONCERN_TO_ENVOY: Final = {
    "version": "the format of the document itself",
    "owner": "who may change the objects",
    "labels": "for people and selectors",
    "description": "for people",
}
ELSEWHERE: Final[dict[Field, str]] = {
    ("ApiKeys", "strip"): "the decision service takes the key off",
    ("BasicAuth", "users_secret"): "the decision service verifies passwords",
    ("ClientCertificates", "scopes"): "the decision service names the caller",
    ("ClientCertificates", "subject_alt_names"): "the decision service names the caller",
    ("ClientCertificates", "tier"): "the decision service names the caller",
    ("Delegation", "hosts"): "a fence for the checks",
    ("Delegation", "listeners"): "a fence for the checks",
    ("Delegation", "path_prefix"): "a fence for the checks",
    ("Gateway", "delegations"): "a fence for the checks",
    ("Module", "path_prefix"): "a fence for the checks",
    ("Jwks", "cache"): "how the control plane fetches the set",
    ("Jwks", "timeout"): "how the control plane fetches the set",
    ("EdsUpstream", "service"): "the endpoints come with it",
    ("KeyFrom", "query"): "the decision service reads it from the path",
    ("LimitedResponse", "body"): "one form of body",
    ("RateLimit", "limit"): "counted by the decision service",
    ("RateLimit", "name"): "named in descriptors of route limits; the service counts",
    ("RateLimit", "cost"): "counted by the decision service",
    ("RateLimit", "burst"): "counted by the decision service",
    ("RateLimit", "algorithm"): "counted by the decision service",
    ("RateLimit", "count_denied"): "counted by the decision service",
    ("RateLimit", "on_error"): "decided by the decision service",
    ("Gateway", "rate_limit_domains"): "for other fleets, by the decision service",
    ("RateLimit", "shadow"): "decided by the decision service",
    ("Tier", "unlimited"): "the absence of limits",
}
OF_ROLLOUTS: Final = {"Rollout", "Wave", "WaveNodes", "HaltOn"}
"""They say when a node gets all this."""
OF_OTHER_FLEETS: Final = {"RateLimitDomain", "LimitDescriptor"}
"""They are configured elsewhere; the decision service answers them."""
REPLACEMENTS: Final = (
    "7s",
    "7%",
    "7/minute",
    "7KiB",
    "7KiB/s",
    7,
    8,
    True,
    False,
    "a7",
    "/a7",
    "seven.example.com",
    [],
)


def test_every_field_matters_in_some_case() -> None:
    mattering = {field for name in golden.NAMES for field in fields_that_matter(name)}
    silent = {field for field in all_fields() if field not in mattering and not excused(field)}
    assert sorted(silent) == []


def excused(field: Field) -> bool:
    model, word = field
    of_others = model in OF_ROLLOUTS | OF_OTHER_FLEETS or word == "rollout"
    return of_others or word in OF_NO_CONCERN_TO_ENVOY or field in ELSEWHERE


def all_fields() -> set[Field]:
    """Every field of every model that a document can reach."""
    found: set[Field] = set()
    waiting: list[Any] = [Gateway]
    seen: set[Any] = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if isinstance(one, type) and issubclass(one, BaseModel):
            fields = one.model_fields.items()
            found |= {(one.__name__, field.alias or name) for name, field in fields if says_something(field.annotation)}
            waiting.extend(field.annotation for field in one.model_fields.values())
        elif get_origin(one) is not None:
            waiting.extend(argument for argument in get_args(one) if not isinstance(argument, str))
    return found


def says_something(annotation: Any) -> bool:
    """Whether a field may hold more than one value."""
    if get_origin(annotation) is Literal:
        return len(get_args(annotation)) > 1
    if get_origin(annotation) not in (Union, UnionType):
        return True
    alternatives = [inner for inner in get_args(annotation) if inner is not type(None)]
    return len(alternatives) > 1 or says_something(alternatives[0])


def fields_that_matter(name: str) -> Iterator[Field]:
    """The fields around every part of the case that its bytes depend on."""
    document = yaml.load((golden.CASES / name / "in.yaml").read_text(), yaml.CSafeLoader)
    whole = compiled(document)
    for path in parts(document):
        around = {field for length in range(1, len(path) + 1) for field in fields_of(path[:length])}
        if any(compiled(other) not in (whole, None) for other in without(document, path)):
            yield from around


def compiled(document: Any) -> tuple[bytes, ...] | None:
    """The bytes of all that it compiles to, and who gets them; None when it is not a document."""
    try:
        found = compile(decode(document), golden.SETTINGS, golden.SECRETS)
    except ValidationError:
        return None
    resources = tuple(message.SerializeToString(deterministic=True) for message in found.messages)
    return (*resources, *(golden.who_gets(share).encode() for share in found.shares))


def parts(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all entries and items."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from parts(inner, (*path, key))


@cache
def fields_of(path: Path) -> tuple[Field, ...]:
    """Of which models the entry at a path is a field."""
    word = str(path[-1])
    return tuple((one.__name__, word) for one in models_at(path[:-1]) if issubclass(one, Model) and has(one, word))


def has(model: type[BaseModel], word: str) -> bool:
    return any(word == (field.alias or name) for name, field in model.model_fields.items())


def without(document: Any, path: Path) -> Iterator[Any]:
    """The document without that part, then with other values in its place."""
    yield changed(document, path, None)
    value = document
    for part in path:
        value = value[part]
    for other in (*others(value), *words_at(path), *REPLACEMENTS):
        if other != value:
            yield changed(document, path, other)


def others(value: Any) -> Iterator[Any]:
    """What is much like the value and not the same."""
    if isinstance(value, str):
        yield from (value + "x", "x" + value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value + 1


@cache
def words_at(path: Path) -> tuple[Any, ...]:
    """The words that a field may hold."""
    found = (one.model_fields for one in models_at(path[:-1]))
    annotations = [f.annotation for fields in found for name, f in fields.items() if path[-1] in (name, f.alias)]
    return tuple(word for annotation in annotations for word in literals(annotation))


def literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for inner in get_args(annotation):
            yield from literals(inner)


def changed(document: Any, path: Path, value: Any) -> Any:
    result = deepcopy(document)
    place = result
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return result
