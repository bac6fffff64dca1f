"""The command `gwctl`: finds the command that is asked for, imports only that, and makes an exit code of the result."""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from gwctl.exits import MEANING, Exit

COMMANDS: Final = {
    "up": ("gwctl.up.command:up", "Run a whole gateway on this machine."),
    "down": ("gwctl.up.command:down", "Stop what `gwctl up` runs."),
    "validate": ("gwctl.commands.validate:validate", "Check files, without a server."),
    "plan": ("gwctl.commands.plan:plan", "Show what applying files would change."),
    "diff": ("gwctl.commands.diff:diff", "Show what is different between revisions, or files."),
    "apply": ("gwctl.commands.apply:apply", "Put files live."),
    "history": ("gwctl.commands.history:history", "List revisions: who, when, why, and what became of them."),
    "get": ("gwctl.commands.get:get", "Show objects of a revision, and what applies to a route."),
    "undo": ("gwctl.commands.undo:undo", "Put an earlier revision's content live again."),
    "fmt": ("gwctl.commands.fmt:fmt", "Bring files into the canonical form."),
    "test": ("gwctl.commands.test:test", "Check that a gateway does what its tests say."),
    "explain": ("gwctl.commands.explain:explain", "Explain what becomes of a request, and why."),
    "init": ("gwctl.commands.init:init", "Write a first routes.yaml."),
    "import": ("gwctl.commands.importing:group", "Convert OpenAPI, Kong, Envoy or Gateway API."),
    "export": ("gwctl.commands.export:export", "Print what is live as one file."),
    "schema": ("gwctl.commands.schema:schema", "Print the JSON Schema of routes.yaml."),
    "docs": ("gwctl.commands.docs:docs", "Explain a field of routes.yaml."),
    "status": ("gwctl.commands.status:status", "Show the current revision and who has it."),
    "rollout": ("gwctl.commands.rollout:rollout", "Watch and steer how a change reaches the fleet."),
    "keys": ("gwctl.commands.keys:keys", "Create, list and revoke API keys."),
    "endpoints": ("gwctl.commands.endpoints:endpoints", "List, register and drain endpoints of services."),
    "access": ("gwctl.commands.access:access", "Create, list and revoke tokens of the control API."),
    "audit": ("gwctl.commands.audit:audit", "Read the audit log, check that it is whole."),
    "users": ("gwctl.commands.users:users", "Make lines for files of users and passwords."),
    "token": ("gwctl.commands.token:token", "Mint tokens for callers."),
    "node": ("gwctl.commands.node:node", "Make certificates of nodes and the control plane."),
    "bootstrap": ("gwctl.commands.bootstrap:bootstrap", "Write what an Envoy is started with."),
    "serve": ("gwctl.commands.serve:group", "Run one service of the gateway."),
    "agent": ("gwctl.commands.agent:agent", "Keep an Envoy's configuration on its machine."),
    "version": ("gwctl.commands.version:version", "Show the versions of the parts."),
    "help": ("gwctl.commands.help:help_", "Explain a command, or `exit-codes`."),
}
"""Where each command is, and its line in the list: read without importing it."""


class LazyGroup(click.Group):
    """Imports a command's module when the command runs, so that `gwctl --help` and completion stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    name="gwctl", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colours: by default if the output is a terminal and NO_COLOR is not set.",
)
def cli(color: str) -> None:
    """The operator's command for a Tollhouse gateway."""
    if color == "always":
        os.environ["FORCE_COLOR"] = "1"
        os.environ.pop("NO_COLOR", None)
    elif color == "never":
        os.environ["NO_COLOR"] = "1"
        os.environ.pop("FORCE_COLOR", None)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Never returns: exits with a code of `gwctl.exits`."""
    # A large document is millions of objects that all live; by default the collector takes half of the time to read it.
    gc.set_threshold(50_000, 20, 20)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code. Click's 2 for wrong usage becomes 64, since 2 says that there are changes."""
    try:
        result = cli.main(args=arguments, prog_name="gwctl", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return result if isinstance(result, int) else Exit.DONE


def exit_codes() -> str:
    return "".join(f"{code:>4}  {MEANING[code]}\n" for code in Exit)
