"""With `on_error: deny` a request whose limits cannot be checked is not let through."""

import os
import signal

from tests.support.gateway import until
from tests.support.lab import Lab


def status(lab: Lab, path: str) -> int:
    """On a connection of its own: how limits fail is the listener's, so the old one and its connections are drained."""
    return lab.gateway.get(path, connection="close").status_code


def test_limits_deny_when_asked_to(lab: Lab) -> None:
    lab.apply("on_error: allow", "on_error: deny")
    assert status(lab, "/open") == 200
    pid = lab.gateway.pids["valkey"]
    os.kill(pid, signal.SIGSTOP)  # not dead but silent: the worst kind
    try:
        until(lambda: status(lab, "/open") == 503)
        assert {status(lab, "/open") for _ in range(20)} == {503}
        assert status(lab, "/ping") == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: status(lab, "/open") == 200)
