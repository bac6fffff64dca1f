"""`gwctl schema`: the JSON Schema of `routes.yaml`, for editors."""

import json
from pathlib import Path

import click

from gwctl.whole import write_whole


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write this file instead of printing.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema (2020-12) of the language.

    An editor that speaks to yaml-language-server uses it with a first line
    `# yaml-language-server: $schema=./.gwctl/schema.v1.json`.
    """
    from gateway.schema import schema as made

    text = json.dumps(made(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)
