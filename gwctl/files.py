"""The files of a command: as arguments or with `-f`, whole directories, or standard input as `-`."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click

from gwctl.exits import Exit, Failure

STDIN: Final = "<stdin>"
F = TypeVar("F", bound=Callable[..., Any])


class File(NamedTuple):
    """`name` is the path as the operator wrote it, for messages."""

    name: str
    text: str


def files_argument(command: F) -> F:
    """`FILE... [-f FILE]...`, as the arguments `paths` and `more`."""
    path = click.Path(exists=True, allow_dash=True, path_type=Path)
    command = click.option("-f", "--file", "more", type=path, multiple=True, help="The same as FILE.")(command)
    return click.argument("paths", metavar="FILE...", type=path, nargs=-1)(command)


def chosen(paths: Sequence[Path], more: Sequence[Path]) -> list[Path]:
    """Both ways of naming files, which may be mixed. At least one must be there."""
    if not paths and not more:
        raise click.UsageError("Missing argument 'FILE...': name a file, a directory, or - for standard input.")
    return [*paths, *more]


def read(paths: Iterable[Path]) -> list[File]:
    """The texts. A directory stands for every `*.yaml` and `*.yml` below it but tests, in the order of their paths.

    Raises Failure: 1 for what cannot be read, 3 for what is not UTF-8.
    """
    expanded = dict.fromkeys(file for path in paths for file in _expand(path))
    return [_read(path) for path in expanded]


def _expand(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*.y*ml") if _is_gateway(file) and file.is_file())
    if not found:
        raise Failure(Exit.FAILED, f"{path} holds no .yaml file")
    return found


def _is_gateway(path: Path) -> bool:
    """Tests of `gwctl test` lie beside the gateway that they are about."""
    return path.suffix in (".yaml", ".yml") and path.stem != "tests" and not path.stem.endswith(".tests")


def _read(path: Path) -> File:
    name = STDIN if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if name == STDIN else path.read_bytes()
        return File(name, data.decode("utf-8-sig"))
    except OSError as error:
        raise Failure(Exit.FAILED, f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(Exit.INVALID, _not_utf8(name, data)) from None


def _not_utf8(name: str, data: bytes) -> str:
    from gateway.render import text
    from gateway.source import read_bytes

    _, problems = read_bytes(name, data)
    return text(problems)
