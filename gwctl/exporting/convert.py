"""From a document of ours to another language, with a list of what is not in the result, as an import has one."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gwctl.exporting import gateway_api, openapi
from gwctl.importing.source import COVERING, Loss, Source, leaves

_CONVERTERS: Final[dict[str, Callable[[Source], list[dict[str, Any]]]]] = {
    "openapi": openapi.convert,
    "gateway-api": gateway_api.convert,
}


@dataclass(frozen=True, slots=True)
class Exported:
    text: str
    losses: tuple[Loss, ...]
    forgotten: tuple[tuple[str | int, ...], ...]


def convert(kind: str, document: dict[str, Any]) -> Exported:
    """`document` is valid. `forgotten` is empty; a test holds us to it."""
    run: Callable[[Source], list[dict[str, Any]]] = {"openapi": openapi.convert, "gateway-api": gateway_api.convert}[
        kind
    ]
    source = Source.of(json.loads(json.dumps(document)))
    made = run(source)
    losses = tuple(source.ledger.losses())
    told = source.ledger.taken | {loss.path for loss in losses if loss.kind in COVERING}
    forgotten = tuple(p for p in leaves(source.value) if not any(p[:n] in told for n in range(len(p) + 1)))
    text = yaml.dump_all(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return Exported(text, losses, forgotten)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
