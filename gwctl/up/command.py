"""`gwctl up` and `gwctl down`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click

from gwctl import logs
from gwctl.client import state_dir_option
from gwctl.exits import Exit, Failure
from gwctl.files import read
from gwctl.output import console, emit, output_option, say
from gwctl.up.process import ProcessError, open_log, tail
from gwctl.up.state import AlreadyRunning, StateDir

HERE: Final = Path(__file__).parent.parent
EXAMPLES: Final = (HERE / "data" / "examples" / "100x-platform", HERE.parent / "examples" / "100x-platform")
STOP_SECONDS: Final = 40.0


@click.command()
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@state_dir_option
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the first HTTP listener.")
@click.option("--envoys", type=click.IntRange(1, 16), default=1, show_default=True, help="How many Envoys to run.")
@click.option("--decisions", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that decide.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker threads of each.")
@click.option("--no-demo", is_flag=True, help="No stand-ins for upstreams on this machine that nobody serves.")
@click.option("--detach", is_flag=True, help="Return when the gateway is ready; `gwctl down` stops it.")
@click.option("--report-fd", type=int, hidden=True)
@output_option
def up(
    paths: tuple[Path, ...],
    state_dir: Path,
    port: int | None,
    envoys: int,
    decisions: int,
    concurrency: int,
    no_demo: bool,
    detach: bool,
    report_fd: int | None,
    output: str,
) -> None:
    """Run a whole gateway on this machine: PostgreSQL, Valkey, the control plane, the decision service and Envoy.

    FILE is a document or a directory of them. Without one, what was applied before is served; the first time the
    example 100x-platform.
    """
    directory = StateDir(state_dir.absolute())
    if detach:
        state = _in_background(directory, sys.argv[1:], stdin=Path("-") in paths)
        emit(output, "up", state, lambda: _urls(state))
        return
    from gwctl.up.run import Run, Wish

    report = _Report(report_fd)
    logs.configure(level="info" if report.quiet else "warning")
    try:
        with directory.lock():
            files = read(paths or _default(directory))
            wish = Wish(files, port, envoys, decisions, concurrency, demo=not no_demo)
            _run(Run(directory, wish, report.say), report, output)
    except AlreadyRunning as running:
        raise report.failure(_already(directory, running)) from None
    except ProcessError as error:
        raise report.failure(Failure(Exit.FAILED, str(error))) from None
    except Failure as error:
        raise report.failure(error) from None


@click.command()
@state_dir_option
@output_option
def down(state_dir: Path, output: str) -> None:
    """Stop what `gwctl up` runs in the state directory. Nothing is done, and that is fine, if nothing runs."""
    directory = StateDir(state_dir.absolute())
    pid = directory.supervisor()
    if pid is not None:
        _stop(directory, pid)
    directory.state.unlink(missing_ok=True)
    stopped = pid is not None
    emit(output, "down", {"stopped": stopped}, lambda: "stopped" if stopped else f"nothing runs in {directory.root}")


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP."""


def _run(run: Any, report: "_Report", output: str) -> None:
    served = False
    try:
        with _interruptible():
            run.start()
            served = True
            report.ready(run.state)
            if report.quiet:
                pass
            elif output == "table":
                _greet(run)
            else:
                emit(output, "up", run.state, str)
                sys.stdout.flush()
            run.supervisor.run()
    except Interrupted:
        report.say("stopping")
    finally:
        with _uninterruptible():
            run.supervisor.stop()
            run.directory.state.unlink(missing_ok=True)
    if not served:
        raise Failure(Exit.INTERRUPTED, "interrupted before the gateway was ready")


def _greet(run: Any) -> None:
    from gwctl.up import greeting

    out = console()
    out.print(greeting.urls(run.state))
    if run.plan.sample is not None:
        api = run.client()
        for what, line in greeting.calls(run.state, run.plan.sample, api):
            out.print(f"\n[bold]{what}[/bold]")
            click.echo(line)
        api.close()
    out.print("\nCtrl-C stops everything.")
    sys.stdout.flush()


def _urls(state: dict[str, Any]) -> Any:
    from gwctl.up import greeting

    return greeting.urls(state)


class _Report:
    """Talk goes to standard error, or as lines of JSON to the process that put us into the background."""

    def __init__(self, descriptor: int | None) -> None:
        self._pipe = os.fdopen(descriptor, "w") if descriptor is not None else None
        self.quiet = descriptor is not None
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    def say(self, text: str) -> None:
        say(text)
        self._send({"say": text})

    def ready(self, state: dict[str, Any]) -> None:
        self._send({"state": state})
        self._close()

    def failure(self, error: Failure) -> Failure:
        self._send({"error": error.message, "help": error.hint, "code": error.exit_code})
        self._close()
        return error

    def _send(self, message: dict[str, Any]) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # whoever started us did not wait
                self._pipe.write(json.dumps(message) + "\n")
                self._pipe.flush()

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _in_background(directory: StateDir, arguments: list[str], *, stdin: bool) -> dict[str, Any]:
    """Starts this very command without `--detach` in a session of its own; its state once it serves. Raises Failure."""
    running = directory.supervisor()
    if running is not None:
        raise _already(directory, AlreadyRunning(running or None))
    reading, writing = os.pipe()
    log = directory.log("supervisor")
    own = [argument for argument in arguments if argument != "--detach"]
    with open_log(log) as descriptor:
        os.ftruncate(descriptor, 0)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "gwctl", *own, "--report-fd", str(writing)],
            stdin=None if stdin else subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=os.environ | {"PYTHONPATH": _python_path()},
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        return _hear(reading, log)
    except BaseException:
        child.terminate()
        child.wait()
        raise


def _hear(reading: int, log: Path) -> dict[str, Any]:
    with os.fdopen(reading) as pipe:
        for line in pipe:
            message = json.loads(line)
            if "say" in message:
                say(message["say"])
            elif "state" in message:
                state: dict[str, Any] = message["state"]
                return state
            else:
                raise Failure(Exit(message["code"]), message["error"], message["help"])
    raise Failure(Exit.FAILED, f"the supervisor ended without a word; {log} ends with:\n{tail(log)}")


def _python_path() -> str:
    return os.pathsep.join([str(HERE.parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])


def _default(directory: StateDir) -> tuple[Path, ...]:
    """Nothing if something was applied here before."""
    return () if directory.last_run() else (next(path for path in EXAMPLES if path.exists()),)


def _already(directory: StateDir, running: AlreadyRunning) -> Failure:
    message = f"a gateway runs in {directory.root} already ({running})"
    return Failure(
        Exit.FAILED, message, "`gwctl down` stops it, `gwctl apply FILE` changes it, --state-dir adds another"
    )


def _stop(directory: StateDir, pid: int) -> None:
    """SIGTERM, then SIGKILL: the children of a killed supervisor are killed by the kernel. Raises Failure."""
    pids = [*directory.read_state().get("pids", {}).values(), pid]
    for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        if _until(lambda: directory.supervisor() is None, seconds):
            _until(lambda: not any(_runs(number) for number in pids if number), 10.0)
            return
    raise Failure(Exit.FAILED, f"process {pid} does not end")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Signals that ask for an end raise Interrupted here; outside they do nothing, so that stopping is not stopped."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        _ignore()
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        _ignore()


@contextlib.contextmanager
def _uninterruptible() -> Iterator[None]:
    _ignore()
    yield


def _ignore() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
