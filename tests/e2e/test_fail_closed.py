"""With `on_error: deny` a request whose limits cannot be checked is not let through."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.gateway import until
from tests.support.lab import Lab, start


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield from start(tmp_path_factory.mktemp("strict"))


def test_limits_deny_when_asked_to(strict: Lab) -> None:
    strict.apply("on_error: allow", "on_error: deny")
    assert strict.gateway.get("/open").status_code == 200
    pid = strict.gateway.pids["valkey"]
    os.kill(pid, signal.SIGSTOP)  # not dead but silent: the worst kind
    try:
        until(lambda: strict.gateway.get("/open").status_code == 503)
        assert {strict.gateway.get("/open").status_code for _ in range(20)} == {503}
        assert strict.gateway.get("/ping").status_code == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: strict.gateway.get("/open").status_code == 200)
