"""`gwctl version`."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import click

from gwctl.output import emit, output_option, table


@click.command()
@output_option
def version(output: str) -> None:
    """Show the versions of this command and of the Envoy that it finds."""
    from xds_server.validate import find_envoy

    envoy = find_envoy()
    found = {
        "gwctl": _installed("tollhouse"),
        "python": platform.python_version(),
        "xds_protos": _installed("xds-protos"),
        "envoy": envoy_version(envoy) if envoy else None,
        "envoy_path": str(envoy) if envoy else None,
    }
    emit(output, "version", found, lambda: table(("part", "version"), list(found.items())))


def envoy_version(binary: Path) -> str:
    """`1.40.0`, out of `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`."""
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False, timeout=10)
    parts = done.stdout.split("version:")[-1].strip().split("/")
    return parts[1] if len(parts) > 1 else "unknown"


def _installed(distribution: str) -> str:
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "source tree"
