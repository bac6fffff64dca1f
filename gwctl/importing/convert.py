"""From the text of another gateway's configuration to a document of ours and a list of what is not in it."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gwctl.importing.source import COVERING, Loss, Source, leaves

FORMATS: Final = {
    "openapi": "OpenAPI 3.0 or 3.1",
    "kong": "a declarative configuration of Kong (deck)",
    "envoy": "an Envoy bootstrap with static resources",
    "gateway-api": "Gateway API (with Envoy Gateway's policies)",
    "ratelimit": "a configuration of envoyproxy/ratelimit",
}


class NotThatFormat(Exception):  # noqa: N818 - the caller makes a message of it
    pass


@dataclass(frozen=True, slots=True)
class Converted:
    """`document` is ours; `source` theirs as values; `taken` the places of it that are in the document."""

    document: dict[str, Any]
    losses: tuple[Loss, ...]
    source: Any
    taken: frozenset[tuple[str | int, ...]]

    @property
    def forgotten(self) -> list[tuple[str | int, ...]]:
        """Leaves that are neither in the document nor among the losses. It is empty; a test holds us to it."""
        told = self.taken | {loss.path for loss in self.losses if loss.kind in COVERING}
        return [leaf for leaf in leaves(self.source) if not any(leaf[:n] in told for n in range(len(leaf) + 1))]


def convert(kind: str, text: str) -> Converted:
    """Raises NotThatFormat for what is not YAML or JSON, or nothing like the format."""
    documents = _documents(text)
    root = _root(kind, documents)
    module = importlib.import_module(f"gwctl.importing.{kind.replace('-', '_')}")
    run: Callable[[Source], dict[str, Any]] = module.convert
    source = Source.of(root)
    document = run(source)
    losses = tuple(source.ledger.losses())
    return Converted(document, losses, root, frozenset(source.ledger.taken))


def _documents(text: str) -> list[Any]:
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.CSafeLoader)):
            raise NotThatFormat("it has aliases (`*name`): write out what they stand for")
        found = [one for one in yaml.load_all(text, Loader=_Loader) if one is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise NotThatFormat(f"{where}it is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not found or not all(isinstance(one, dict) for one in found):
        raise NotThatFormat("it holds no mapping")
    return found


class _Loader(yaml.CSafeLoader):
    """Dates stay text, as they are in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _root(kind: str, documents: Sequence[Any]) -> Any:
    if kind == "gateway-api":
        return _objects(documents)
    if len(documents) > 1:
        raise NotThatFormat("it holds several documents")
    (root,) = documents
    mark = _MARKS[kind]
    if mark not in root:
        other = next((name for name, key in _MARKS.items() if key in root), None)
        help_ = f"; it looks like {FORMATS[other]}: `gwctl import {other}`" if other else ""
        raise NotThatFormat(f"it has no `{mark}`{help_}")
    return root


_MARKS: Final = {
    "openapi": "openapi",
    "kong": "_format_version",
    "envoy": "static_resources",
    "gateway-api": "kind",
    "ratelimit": "domain",
}


def _objects(documents: Sequence[Any]) -> dict[str, Any]:
    """Kubernetes objects by what they are called: `HTTPRoute/shop/orders`."""
    found: dict[str, Any] = {}
    flat = [item for one in documents for item in (one["items"] if one.get("kind") == "List" else [one])]
    for one in flat:
        if not isinstance(one, dict) or not isinstance(one.get("kind"), str):
            raise NotThatFormat("it holds something that is no Kubernetes object: there is no `kind`")
        metadata = one["metadata"] if isinstance(one.get("metadata"), dict) else {}
        name = f"{one['kind']}/{metadata.get('namespace', 'default')}/{metadata.get('name', '')}"
        if name in found:
            raise NotThatFormat(f"it holds {name} twice")
        found[name] = one
    return found
