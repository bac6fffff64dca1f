"""With `on_error: deny` a request whose limits cannot be checked is not let through."""

import os
import signal

from tests.support.gateway import until
from tests.support.lab import Lab


def test_limits_deny_when_asked_to(lab: Lab) -> None:
    lab.apply("on_error: allow", "on_error: deny")
    assert lab.gateway.get("/open").status_code == 200
    pid = lab.gateway.pids["valkey"]
    os.kill(pid, signal.SIGSTOP)  # not dead but silent: the worst kind
    try:
        until(lambda: lab.gateway.get("/open").status_code == 503)
        assert {lab.gateway.get("/open").status_code for _ in range(20)} == {503}
        assert lab.gateway.get("/ping").status_code == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: lab.gateway.get("/open").status_code == 200)
