"""`gwctl help`: a command's help, the exit codes, or the whole tree of commands for programs."""

import json
from typing import Any

import click

from gwctl.exits import Exit, Failure


@click.command(name="help")
@click.argument("topic", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="The tree of all commands and their options.")
@click.pass_context
def help_(ctx: click.Context, topic: tuple[str, ...], as_json: bool) -> None:
    """Explain TOPIC: a command (`keys create`), or `exit-codes`."""
    root = ctx.find_root()
    if as_json:
        click.echo(json.dumps({"schema": "gwctl.help/v1", **_tree(root.command, root)}, indent=2))
    elif topic == ("exit-codes",):
        from gwctl.main import exit_codes

        click.echo(exit_codes(), nl=False)
    else:
        click.echo(_help_of(root, topic))


def _help_of(root: click.Context, topic: tuple[str, ...]) -> str:
    here = root
    for word in topic:
        found = here.command.get_command(here, word) if isinstance(here.command, click.Group) else None
        if found is None:
            raise Failure(Exit.USAGE, f"there is no command {' '.join(topic)!r}", "`gwctl --help` lists them")
        here = click.Context(found, info_name=word, parent=here)
    return here.get_help()


def _tree(command: click.Command, ctx: click.Context) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": command.name,
        "help": command.get_short_help_str(200),
        "options": [
            {"names": [*option.opts, *option.secondary_opts], "env": option.envvar, "help": option.help}
            for option in command.params
            if isinstance(option, click.Option) and not option.hidden
        ],
    }
    if isinstance(command, click.Group):
        below = ((name, command.get_command(ctx, name)) for name in command.list_commands(ctx))
        described["commands"] = [
            _tree(found, click.Context(found, info_name=name, parent=ctx)) for name, found in below if found
        ]
    return described
