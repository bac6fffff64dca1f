"""The control API as this command sees it: where it is, how to prove who we are, and what its answers mean for us."""

import json
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gwctl.exits import Exit, Failure

TIMEOUT_SECONDS: Final = 30.0
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """What the options say; `client` finds the rest."""

    server: str | None
    token: str | None
    token_file: Path | None
    state_dir: Path


class Refused(Failure):
    """The server's answer was an error of this HTTP `status`.

    `errors`: the problem document's list of single problems, if it has one. `since`: what was committed after the
    revision that the caller took for the head, the newest first.
    """

    def __init__(
        self,
        code: Exit,
        message: str,
        errors: Sequence[dict[str, Any]] = (),
        status: int = 0,
        since: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(code, message)
        self.errors = tuple(errors)
        self.status = status
        self.since = tuple(since)


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/tollhouse`, by default `~/.local/state/tollhouse`."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "tollhouse"


def state_dir_option(command: F) -> F:
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_state_dir,
        show_default="$XDG_STATE_HOME/tollhouse",
        envvar="GWCTL_STATE_DIR",
        show_envvar=True,
        help="Directory of a gateway run by `gwctl up`.",
    )(command)


def target_options(command: F) -> F:
    """`--server --token-file --state-dir` and the token's variables, as the argument `target`."""

    @click.option("--server", envvar="GWCTL_SERVER", show_envvar=True, help="URL of the control API.")
    @click.option("--token", envvar="GWCTL_TOKEN", show_envvar=True, help="Token; better in a variable or a file.")
    @click.option(
        "--token-file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="GWCTL_TOKEN_FILE",
        show_envvar=True,
        help="File that holds the token.",
    )
    @state_dir_option
    def with_target(
        server: str | None, token: str | None, token_file: Path | None, state_dir: Path, **rest: Any
    ) -> Any:
        return command(target=Target(server, token, token_file, state_dir), **rest)

    with_target.__name__ = command.__name__
    with_target.__doc__ = command.__doc__
    with_target.__click_params__ = [  # type: ignore[attr-defined]
        *getattr(command, "__click_params__", []),
        *getattr(with_target, "__click_params__", []),
    ]
    return with_target  # type: ignore[return-value]


class Client:
    """Speaks JSON with the control API. Every method raises Failure with the exit code that the failure means."""

    def __init__(self, base_url: str, token: str) -> None:
        import httpx

        self.base_url = base_url
        self._http = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            timeout=TIMEOUT_SECONDS,
        )

    def get(self, path: str, timeout: float = TIMEOUT_SECONDS, **query: Any) -> Any:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, timeout, params=asked)

    def post(self, path: str, body: Any, timeout: float = TIMEOUT_SECONDS) -> Any:
        return self._call("POST", path, timeout, json=body)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, TIMEOUT_SECONDS, json=body)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, TIMEOUT_SECONDS, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path, TIMEOUT_SECONDS)

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, timeout: float, **content: Any) -> Any:
        import httpx

        try:
            answer = self._http.request(method, path, timeout=timeout, **content)
        except httpx.TimeoutException:
            raise Failure(Exit.UNREACHABLE, f"{self.base_url} did not answer within {timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"the control API at {self.base_url} cannot be reached: {error}"
            raise Failure(Exit.UNREACHABLE, message, "is it running? `gwctl up` starts one here") from None
        if answer.is_success:
            return answer.json() if answer.content else {}
        raise refusal(answer.status_code, answer.text)


def refusal(status: int, text: str) -> Refused:
    """An error answer (RFC 9457 if the server wrote it) as an exit code and a message."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    message = str(problem.get("detail") or problem.get("title") or f"the server answered with status {status}")
    errors, since = (_entries(problem.get(member)) for member in ("errors", "since"))
    return Refused(_EXITS.get(status, Exit.FAILED), message, errors, status, since)


def _entries(found: Any) -> list[dict[str, Any]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


_EXITS: Final = {
    400: Exit.INVALID,
    401: Exit.DENIED,
    403: Exit.DENIED,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    413: Exit.INVALID,
    422: Exit.INVALID,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.TIMEOUT,
}


def client(target: Target) -> Client:
    """A client for what the options name, else for what runs in the state directory. Raises Failure 8 or 7."""
    return Client(server_of(target), token_of(target))


def server_of(target: Target) -> str:
    if target.server:
        return target.server.rstrip("/")
    try:
        return str(json.loads((target.state_dir / "state.json").read_text())["control_api"])
    except FileNotFoundError:
        message = f"no server was named, and no gateway runs in {target.state_dir}"
        hint = "name one with --server or GWCTL_SERVER, or start one with `gwctl up`"
        raise Failure(Exit.UNREACHABLE, message, hint) from None
    except (OSError, ValueError, KeyError) as error:
        raise Failure(Exit.FAILED, f"{target.state_dir / 'state.json'} cannot be used: {error}") from None


def token_of(target: Target) -> str:
    if target.token:
        return target.token
    path = target.token_file or (None if target.server else target.state_dir / "token")
    if path is None:
        raise Failure(Exit.DENIED, "no token was given", "set GWCTL_TOKEN or GWCTL_TOKEN_FILE")
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            click.echo(f"warning: others may read {path}; chmod 600 it", err=True)
        return path.read_text().strip()
    except OSError as error:
        raise Failure(Exit.DENIED, f"the token file {path} cannot be read: {error.strerror}") from None
