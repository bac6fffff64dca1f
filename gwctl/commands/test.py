"""`gwctl test`: does the gateway do what its tests say?"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gwctl.exits import Exit, Failure
from gwctl.files import File, read
from gwctl.output import FORMATS, emit, output_of

if TYPE_CHECKING:
    from gateway.testing import Coverage, Read
    from gwctl.explaining.document import Document

GATEWAY: Final = "routes.yaml"


def percent(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        found = float(value.removesuffix("%"))
    except ValueError:
        found = -1.0
    if not 0 <= found <= 100:
        raise click.BadParameter("write a share such as 90%")
    return found


@click.command()
@click.argument("tests", metavar="TESTS...", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option(
    "-f",
    "--file",
    "paths",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="The gateway's files. By default routes.yaml beside the first tests, else what else is there.",
)
@click.option("--offline", is_flag=True, help="Do not ask a real Envoy.")
@click.option("--coverage", is_flag=True, help="List routes, rules and limits that no test has tried.")
@click.option("--fail-under", metavar="PERCENT", callback=percent, help="Fail if the tests try less, such as 90%.")
@output_of((*FORMATS, "junit"))
@click.pass_context
def test(
    ctx: click.Context,
    tests: tuple[Path, ...],
    paths: tuple[Path, ...],
    offline: bool,
    coverage: bool,
    fail_under: float | None,
    output: str,
) -> None:
    """Send the requests of TESTS and compare what becomes of them with what they expect.

    Each is explained, its limits counted under a clock of its own, and sent to a real Envoy with stubs for upstreams,
    if there is one here. Nothing leaves this machine.
    """
    from gwctl.explaining.document import Document

    document = Document.of(read(paths or beside(tests[0])))
    cases = cases_of(read(tests), document)
    found, covered = tried(document, cases, offline=offline)
    if coverage or fail_under is not None:
        found["coverage"] = coverage_of(covered, document)
    short = fail_under is not None and covered.percent < fail_under
    if output == "junit":
        from gwctl.reports.trials import report

        click.echo(report(found["tests"]), nl=False)
    else:
        emit(output, "test", found, lambda: people(found, listing=coverage))
    if short:
        click.echo(f"error: {covered.percent:.0f}% is tried, {fail_under:g}% is wanted", err=True)
    if found["disagreements"]:
        raise Failure(
            Exit.FAILED, "a real Envoy did otherwise than was explained", "this is a bug of Tollhouse: report it"
        )
    if found["failed"] or short:
        ctx.exit(Exit.INVALID)


def beside(tests: Path) -> list[Path]:
    directory = tests if tests.is_dir() else tests.parent
    file = directory / GATEWAY
    return [file] if file.is_file() else [directory]


def cases_of(files: Sequence[File], document: "Document") -> list["Read"]:
    """Raises Failure 3, having told everything that is wrong."""
    from gateway import testing
    from gwctl.problems import show

    one_by_one = [testing.read(file.name, file.text, document.gateway) for file in files]
    problems = [problem for _, found in one_by_one for problem in found]
    if problems:
        show(problems, files)
        raise Failure(Exit.INVALID, "the tests cannot be run")
    return [case for cases, _ in one_by_one for case in cases]


def tried(document: "Document", cases: Sequence["Read"], *, offline: bool) -> tuple[dict[str, Any], "Coverage"]:
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # or it talks on standard error when Envoy is started
    from gateway.testing import Coverage
    from gwctl import logs
    from gwctl.proving.runner import Unrunnable
    from gwctl.proving.trial import Trial
    from gwctl.up.process import ProcessError
    from xds_server.validate import find_envoy

    logs.configure(level="error")
    real = not offline and find_envoy() is not None
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-"))) if real else None
            trial = stack.enter_context(Trial(document.gateway, directory))
            rows = [row(case, trial.run(case.case)) for case in cases]
            covered = Coverage.of(document.gateway, trial.sent)
    except (Unrunnable, ProcessError) as error:
        raise Failure(Exit.FAILED, str(error), "--offline asks no Envoy") from None
    except (ConnectionError, TimeoutError) as error:
        raise Failure(Exit.FAILED, f"Envoy did not answer: {error}") from None
    failed = sum(not one["passed"] for one in rows)
    disagreements = sum(len(one["disagreements"]) for one in rows)
    found = {"envoy": real, "passed": len(rows) - failed, "failed": failed, "disagreements": disagreements}
    return {**found, "tests": rows}, covered


def row(read: "Read", verdict: Any) -> dict[str, Any]:
    return {
        "name": read.case.name,
        "file": read.place.file,
        "line": read.place.line,
        "passed": not verdict.failures and not verdict.disagreements,
        "failures": verdict.failures,
        "disagreements": verdict.disagreements,
        "note": verdict.note,
    }


def coverage_of(covered: "Coverage", document: "Document") -> dict[str, Any]:
    untested = [
        {"kind": one.kind, "name": one.name, "place": str(document.where.locate(one.path) or "")}
        for one in covered.untested
    ]
    return {"percent": round(covered.percent, 1), "of": len(covered.everything), "untested": untested}


def people(found: dict[str, Any], *, listing: bool) -> str:
    lines = []
    for one in found["tests"]:
        note = f"  ({one['note']})" if one["note"] else ""
        lines.append(f"{'ok  ' if one['passed'] else 'FAIL'}  {one['name']}{note}")
        lines += [] if one["passed"] else [f"      {one['file']}:{one['line']}"]
        lines += [f"      {line}" for line in one["failures"]]
        lines += [f"   !! Envoy disagrees: {line}" for line in one["disagreements"]]
    if listing:
        lines += [f"untested {one['kind']:<6} {one['name']}  {one['place']}" for one in found["coverage"]["untested"]]
    said = f"{found['passed']} passed, {found['failed']} failed, "
    said += "a real Envoy asked" if found["envoy"] else "no Envoy asked"
    if "coverage" in found:
        said += f"; {found['coverage']['percent']:g}% of {found['coverage']['of']} routes, rules and limits tried"
    return "\n".join([*lines, said]) + "\n"
