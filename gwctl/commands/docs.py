"""`gwctl docs`: what a field of `routes.yaml` means, from the same source as the schema."""

from typing import Any

import click

from gwctl.exits import Exit, Failure
from gwctl.output import emit, output_option, table


@click.command()
@click.argument("field", required=False)
@output_option
def docs(field: str | None, output: str) -> None:
    """Explain FIELD (`routes.retry.backoff`), or list the keys of a document.

    Names that you choose may be left out: `upstreams.load_balancing` is `upstreams.<name>.load_balancing`.
    """
    from gateway import lookup

    if field is None:
        found = [_row(one) for one in lookup.top()]
        emit(output, "docs", {"fields": found}, lambda: table(("field", "meaning"), [_line(one) for one in found]))
        return
    words = tuple(field.replace("[]", "").strip(".").split("."))
    one = lookup.find(tuple(word for word in words if word and not word.startswith("<")))
    if one is None:
        raise Failure(Exit.USAGE, f"there is no field {field!r}", _meant(field, lookup.names()))
    described = _described(one)
    emit(output, "docs", described, lambda: _for_people(described))


def _row(one: Any) -> dict[str, Any]:
    return {"field": one.path[-1], "required": one.required, "meaning": one.schema.get("description", "")}


def _line(row: dict[str, Any]) -> tuple[object, ...]:
    return row["field"], row["meaning"]


def _described(one: Any) -> dict[str, Any]:
    from gateway import lookup

    return {
        "field": ".".join(one.path).replace(".[]", "[]"),
        "meaning": one.schema.get("description", ""),
        "type": lookup.kind(one.schema),
        "required": one.required,
        "default": one.schema.get("default"),
        "allowed": list(lookup.allowed(one.schema)),
        "more": _more(one),
        "example": {one.path[-1]: lookup.example_of(one.path[-1], one.schema)},
        "fields": [_row(inner) for inner in lookup.children(one)],
    }


def _more(one: Any) -> list[str]:
    """What the models that the field may hold say of themselves."""
    said = dict.fromkeys(part.get("description", "") for part in one.parts)
    return [text for text in said if text and text != one.schema.get("description")]


def _for_people(described: dict[str, Any]) -> str:
    lines = [described["field"], f"  {described['meaning']}"]
    lines += [f"  {' '.join(text.split())}" for text in described["more"]]
    lines += ["", f"  type      {described['type']}" + (", required" if described["required"] else "")]
    if described["default"] is not None:
        lines.append(f"  default   {_flow(described['default'])}")
    if described["allowed"]:
        lines.append(f"  allowed   {', '.join(described['allowed'])}")
    lines += [f"  example   {name}: {_flow(value)}" for name, value in described["example"].items()]
    if described["fields"]:
        width = max(len(row["field"]) for row in described["fields"])
        lines += ["", "  fields"]
        lines += [f"    {row['field']:<{width}}  {row['meaning']}".rstrip() for row in described["fields"]]
    return "\n".join(lines)


def _flow(value: Any) -> str:
    import yaml

    return (
        str(yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=1000)).removesuffix("...\n").strip()
    )


def _meant(field: str, names: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(field, names, 3, 0.5)
    ends = [name for name in names if name.rpartition(".")[2] == field.rpartition(".")[2]]
    found = list(dict.fromkeys([*close, *ends]))[:3]
    return f"did you mean {' or '.join(found)}?" if found else "`gwctl docs` lists the keys of a document"
