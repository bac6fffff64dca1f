"""`gwctl undo`, and as kubectl calls it `gwctl rollout undo`: the content of an earlier revision as a new one."""

from typing import Any

import click

from gwctl.client import Target, client, target_options
from gwctl.commands.apply import for_people, store, waited
from gwctl.output import emit, output_option
from gwctl.seconds import Seconds


class Revision(click.ParamType[int]):
    """`217` or, as `gwctl diff` writes it, `@217`."""

    name = "revision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = str(value).removeprefix("@")
        if not (number.isascii() and number.isdecimal() and int(number) > 0):
            self.fail(f"{value!r} is no revision: 217 or @217", param, ctx)
        return int(number)


@click.command()
@click.argument("revision", type=Revision(), required=False)
@click.option("--message", "-m", default="", help="Why; kept with the revision.")
@click.option("--supersede", is_flag=True, help="Take the place of a revision that is on its way to the fleet.")
@click.option("--expect-revision", type=int, help="Refuse if the current revision is another one.")
@click.option("--wait", is_flag=True, help="Return when every connected Envoy has it.")
@click.option(
    "--timeout", type=Seconds(), default="30s", show_default=True, help="How long to wait, beside soak times."
)
@target_options
@output_option
def undo(
    revision: int | None,
    message: str,
    supersede: bool,
    expect_revision: int | None,
    wait: bool,
    timeout: float,
    target: Target,
    output: str,
) -> None:
    """Put the content of REVISION live again, by default of the one before the current. That is a new revision."""
    server = client(target)
    request: dict[str, Any] = {"revision": revision, "message": message, "supersede": supersede}
    request["expected_revision"] = expect_revision
    answer = store(server, "undo", request, (), output)
    if wait:
        answer["status"] = waited(server, int(answer["revision"]), timeout, ())
    emit(output, "undo", answer, lambda: for_people(answer, dry_run=False))
