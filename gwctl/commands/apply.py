"""`gwctl apply`: put files live, and wait until every connected Envoy has them, wave by wave."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gwctl import rollouts
from gwctl.client import Client, Refused, Target, client, target_options
from gwctl.exits import Exit, Failure
from gwctl.files import File, chosen, files_argument, read
from gwctl.git import commit_of
from gwctl.output import emit, output_option, say
from gwctl.planning import saved
from gwctl.problems import from_json, show
from gwctl.seconds import Seconds

APPLY_SECONDS: Final = 120.0  # compiling and asking Envoy about a large gateway takes its time
LONGEST_POLL: Final = 25.0
Tell = Callable[[str], None]


@click.command()
@files_argument
@click.option("--message", "-m", default="", help="Why; kept with the revision.")
@click.option("--prune", is_flag=True, help="Delete this owner's objects that the files do not write.")
@click.option("--allow-shrink", is_flag=True, help="Take away over 30 % of the listeners, routes or upstreams.")
@click.option("--supersede", is_flag=True, help="Take the place of a revision that is on its way to the fleet.")
@click.option("--dry-run", is_flag=True, help="Check and compare with what is live; store nothing.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Apply what `gwctl plan --out` saved, or nothing.",
)
@click.option(
    "--commit",
    envvar="GWCTL_COMMIT",
    show_envvar=True,
    help="The git commit that the files are; else that of their repository, if they are in one.",
)
@click.option("--expect-revision", type=int, help="Refuse if the current revision is another one.")
@click.option("--wait", is_flag=True, help="Return when every connected Envoy has it.")
@click.option(
    "--timeout", type=Seconds(), default="30s", show_default=True, help="How long to wait, beside soak times."
)
@target_options
@output_option
def apply(
    paths: tuple[Path, ...],
    more: tuple[Path, ...],
    message: str,
    prune: bool,
    allow_shrink: bool,
    supersede: bool,
    dry_run: bool,
    plan_file: Path | None,
    commit: str | None,
    expect_revision: int | None,
    wait: bool,
    timeout: float,
    target: Target,
    output: str,
) -> None:
    """Put FILE... live: all of it in one revision, or nothing."""
    if plan_file is not None and (paths or more or prune or expect_revision is not None):
        raise click.UsageError("--plan brings its files, --prune and the revision along.")
    plan = saved.read(plan_file) if plan_file is not None else None
    files = list(plan.files) if plan is not None else read(chosen(paths, more))
    server = client(target)
    request = {"message": message, "prune": prune, "dry_run": dry_run, "allow_shrink": allow_shrink}
    request |= {"supersede": True} if supersede else {}
    # What a plan holds need not be what its files are by now.
    request["git_commit"] = (commit_of(chosen(paths, more)) if plan is None else "") if commit is None else commit
    if expect_revision is not None:
        request["expected_revision"] = expect_revision
    if plan is not None:
        request |= saved.verified(server, plan)
    answer = send(server, files, request, output)
    if wait and not dry_run:
        answer["status"] = waited(server, int(answer["revision"]), timeout, files)
    emit(output, "apply", answer, lambda: for_people(answer, dry_run=dry_run))


def send(
    server: Client, files: Sequence[File], request: dict[str, Any], output: str = "table", tell: Tell = say
) -> dict[str, Any]:
    """The answer of the server to an apply of `files`, as `store`."""
    body = {"files": [{"name": file.name, "text": file.text} for file in files], **request}
    return store(server, "apply", body, files, output, tell)


def store(
    server: Client, verb: str, body: dict[str, Any], files: Sequence[File], output: str, tell: Tell = say
) -> dict[str, Any]:
    """The answer of the server to `verb`, apply or undo; problems are shown, or for programs printed.

    Raises Refused; Failure 4 for another head, with what was committed meanwhile.
    """
    try:
        answer: dict[str, Any] = server.post(f"/v1/{verb}", body, timeout=APPLY_SECONDS)
    except Refused as refused:
        if refused.errors and output != "table":
            emit(output, verb, {"error": refused.message, "problems": list(refused.errors)}, str)
        else:
            show(map(from_json, refused.errors), files, tell)
        if refused.since:
            raise _moved(refused) from None
        raise
    show(map(from_json, answer.get("problems") or ()), files, tell)
    return answer


def wait_until_live(
    server: Client, revision: int, timeout: float, files: Sequence[File] = (), tell: Tell = say
) -> dict[str, Any]:
    """The status once every connected Envoy has acknowledged `revision`. Raises Failure 5 or 6."""
    rollouts.follow(server, revision, timeout, files, tell)
    deadline = time.monotonic() + timeout
    while True:
        left = max(0.0, deadline - time.monotonic())
        poll = min(left, LONGEST_POLL)
        status: dict[str, Any] = server.get("/v1/status", poll + 10, revision=revision, wait=round(poll, 3))
        if status["state"] == "synced":
            return status
        if status["state"] in ("nacked", "failed"):
            raise _halted(status, revision, files, tell)
        if left == 0.0:
            behind = [node["id"] for node in status["nodes"] if node["state"] == "stale"]
            message = f"revision {revision} was not acknowledged within {timeout:g} s"
            raise Failure(Exit.TIMEOUT, message + (f" by {', '.join(behind)}" if behind else ""))


def for_people(answer: dict[str, Any], *, dry_run: bool) -> str:
    """`+ modules orders`, a line for each change, and what came of it."""
    signs = {"created": "+", "updated": "~", "deleted": "-"}
    lines = [f"  {signs.get(c['action'], '?')} {c['kind']} {c['name']}" for c in answer["changed"]]
    if dry_run:
        return "\n".join([*lines, f"{len(lines)} changes to revision {answer['revision']}; nothing was stored"])
    if not lines:
        return f"revision {answer['revision']}: nothing to change"
    live = answer.get("status")
    nodes = f", live on {sum(node['connected'] for node in live['nodes'])} Envoys" if live else ""
    return "\n".join([*lines, f"revision {answer['revision']}{nodes}"])


def _halted(status: dict[str, Any], revision: int, files: Sequence[File], tell: Tell) -> Failure:
    failure = status.get("failure")
    if status["state"] == "failed" and failure:
        show(map(from_json, failure["problems"]), files, tell)
        return Failure(Exit.HALTED, f"revision {failure['revision']} was not published: {failure['reason']}")
    for node in status["nodes"]:
        for url, entry in node["types"].items():
            if entry.get("nack"):
                _show_nack(node["id"], url, entry["nack"], files, tell)
    return Failure(Exit.HALTED, f"an Envoy rejected revision {revision}")


def _show_nack(node: str, url: str, nack: dict[str, Any], files: Sequence[File], tell: Tell) -> None:
    what = url.rpartition(".")[2]
    message = f"{node} rejected {what}: {nack['message']}"
    show([from_json(nack | {"code": "GW501", "message": message})], files, tell)


def _moved(refused: Refused) -> Failure:
    lines = [f"  {one['revision']}  {one['author']}  {one['message']}".rstrip() for one in refused.since]
    message = "\n".join([f"{refused.message}; committed since:", *lines])
    return Failure(Exit.CONFLICT, message, f"gwctl diff @{refused.since[-1]['revision'] - 1} HEAD shows what changed")


def waited(server: Client, revision: int, timeout: float, files: Sequence[File]) -> dict[str, Any]:
    """`wait_until_live`; who interrupts it is told that only the waiting ends."""
    try:
        return wait_until_live(server, revision, timeout, files)
    except KeyboardInterrupt:
        say(f"revision {revision} is stored and goes out; this command no longer waits for it")
        raise
