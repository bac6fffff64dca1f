"""Children of ours: PostgreSQL and Valkey start, survive `kill -9`, stop, and die with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import valkey

from gwctl.up.postgres import Postgres
from gwctl.up.process import SOCKET_PATH_BYTES, Process, ProcessError, socket_directory, tail
from gwctl.up.valkey import Valkey


def gone(pid: int, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "pg")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def test_postgres_keeps_what_was_committed_over_kill_9_and_stop(postgres: Postgres) -> None:
    url = postgres.url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    postgres.kill9()
    assert postgres.pid is None
    assert not postgres.ready()
    postgres.start()
    postgres.stop()
    postgres.start()
    assert postgres.url == url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_postgres_restarts_while_sessions_of_its_dead_self_are_open(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url):
        postgres.kill9()
        postgres.start()
        assert postgres.ready()


def test_postgres_starts_over_the_pid_file_of_a_process_that_is_somebody_else(postgres: Postgres) -> None:
    postgres.kill9()
    lines = (postgres.data / "postmaster.pid").read_text().splitlines()
    (postgres.data / "postmaster.pid").write_text("\n".join(["999999999", *lines[1:]]) + "\n")
    postgres.start()
    assert postgres.ready()


def test_postgres_listens_on_a_private_unix_socket_only(postgres: Postgres) -> None:
    assert postgres.pid is not None
    assert psutil.Process(postgres.pid).net_connections(kind="inet") == []
    assert (postgres.directory / "socket").stat().st_mode & 0o077 == 0


def test_postgres_says_why_it_does_not_start(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "pg", fast=True)
    server.start()
    server.stop()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ProcessError, match="no_such_setting"):
        server.start()


def test_valkey_refuses_writes_rather_than_forgetting_counters(store: Valkey) -> None:
    with valkey.Valkey.from_url(store.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("port") == {"port": "0"}
    assert store.socket.stat().st_mode & 0o777 == 0o700


def test_valkey_comes_back_empty_at_the_same_url(store: Valkey) -> None:
    with valkey.Valkey.from_url(store.url) as client:
        client.set("a", 1)
    store.kill9()
    store.start()
    with valkey.Valkey.from_url(store.url) as client:
        assert client.get("a") is None


def test_long_paths_get_a_short_socket_directory_that_stays_the_same(tmp_path: Path) -> None:
    wanted = tmp_path / ("d" * 90) / "socket"
    found = socket_directory(wanted, "valkey.sock")
    assert len(os.fsencode(found / "valkey.sock")) <= SOCKET_PATH_BYTES
    assert socket_directory(wanted, "valkey.sock") == found
    found.chmod(0o755)
    with pytest.raises(ProcessError, match="only its owner"):
        socket_directory(wanted, "valkey.sock")
    found.rmdir()


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(600)"
    log = tmp_path / "stubborn.log"
    child = Process("stubborn", [sys.executable, "-c", script], log, ready=lambda: tail(log) == "up")
    child.start()
    child.stop(timeout=0.1)
    assert child.pid is None
    assert child.exit_status == -signal.SIGKILL
    child.stop()  # a second time does nothing


def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Process("mayfly", [sys.executable, "-c", "exit('no air')"], tmp_path / "log", ready=lambda: False)
    with pytest.raises(ProcessError, match=r"mayfly ended with status 1; .*log ends with:\nno air"):
        child.start()


def test_a_child_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = Process("sloth", sleep, tmp_path / "log", ready=lambda: False)
    with pytest.raises(ProcessError, match=r"sloth was not ready within 0\.3 s"):
        child.start(0.3)
    assert child.pid is None


PARENT = """
import sys, time
from pathlib import Path
from gwctl.up.postgres import Postgres
from gwctl.up.valkey import Valkey

servers = Postgres(Path(sys.argv[1]) / "pg", fast=True), Valkey(Path(sys.argv[1]) / "valkey")
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
time.sleep(600)
"""


def test_children_die_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
