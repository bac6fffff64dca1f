"""What keeps a gateway running: parts are started again, with patience, and stopped in order; nothing stays."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gwctl.up import ports
from gwctl.up.ports import Ports, is_free
from gwctl.up.process import Process, ProcessError
from gwctl.up.state import AlreadyRunning, StateDir
from gwctl.up.supervisor import Child, Supervisor

SLEEP = "import time; time.sleep(600)"


class Enough(Exception):  # noqa: N818 - it ends a loop
    pass


def part(tmp_path: Path, name: str, script: str = SLEEP) -> Process:
    return Process(name, [sys.executable, "-c", script], tmp_path / f"{name}.log")


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor(lambda _: None)
    yield made
    made.stop()


def look_until(child: Child, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not child.look(time.monotonic()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_part_has_a_new_process_and_the_others_keep_theirs(tmp_path: Path) -> None:
    told: list[dict[str, int]] = []

    def changed(pids: dict[str, int]) -> None:
        told.append(pids)
        raise Enough

    supervisor = Supervisor(changed)
    supervisor.add("one", part(tmp_path, "one"))
    supervisor.add("two", part(tmp_path, "two"))
    before = supervisor.pids
    os.kill(before["two"], signal.SIGKILL)
    with pytest.raises(Enough):
        supervisor.run()
    assert told == [supervisor.pids]
    assert supervisor.pids["one"] == before["one"]
    assert supervisor.pids["two"] != before["two"]
    after = supervisor.pids
    supervisor.stop()
    assert supervisor.pids == {}
    assert not any(psutil.pid_exists(pid) for pid in after.values())


def test_a_part_that_keeps_dying_is_started_ever_more_rarely(tmp_path: Path) -> None:
    child = Child("mayfly", part(tmp_path, "mayfly", "raise SystemExit(3)"))
    child.start()
    delays = []
    for _ in range(4):
        while child.server.pid is not None:
            time.sleep(0.005)
        now = time.monotonic()
        assert child.look(now) is False, "never at once"
        assert child.retry_at is not None
        delays.append(round(child.retry_at - now, 3))
        assert child.look(child.retry_at) is True
    assert delays == [0.1, 0.2, 0.4, 0.8]
    child.server.stop()


def test_a_part_that_lived_long_enough_starts_again_without_delay(tmp_path: Path) -> None:
    child = Child("sturdy", part(tmp_path, "sturdy"))
    child.start()
    child.deaths = 5
    assert child.look(child.started_at + 11) is False
    assert child.deaths == 0
    child.server.stop()


def test_a_part_that_does_not_start_is_reported_with_its_log(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.add("good", part(tmp_path, "good"))
    bad = part(tmp_path, "bad", "raise SystemExit('the reason')")
    bad.ready = lambda: False
    supervisor.add("bad", bad)
    with pytest.raises(ProcessError, match=r"bad does not start; .*bad\.log ends with:\n(.*\n)*the reason"):
        supervisor.until_ready(["good", "bad"], 30)


def test_a_part_that_is_never_ready_is_reported(tmp_path: Path, supervisor: Supervisor) -> None:
    slow = part(tmp_path, "slow")
    slow.ready = lambda: False
    supervisor.add("slow", slow)
    with pytest.raises(ProcessError, match=r"slow was not ready within 0\.2 s"):
        supervisor.until_ready(["slow"], 0.2)


def test_stores_stop_after_those_who_write_to_them(tmp_path: Path) -> None:
    """The store notes whether the writer's last words were there when it was asked to stop."""
    log = tmp_path / "writer.log"
    wait = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); print('up', flush=True)\n"
    writer = wait + "try: time.sleep(600)\nfinally: time.sleep(0.3); print('last words', flush=True)"
    store = wait + f"try: time.sleep(600)\nfinally: print('last words' in open({str(log)!r}).read(), flush=True)"
    supervisor = Supervisor(lambda _: None)
    for name, script in {"store": store, "writer": writer}.items():
        made = part(tmp_path, name, script)
        made.ready = lambda file=made.log: "up" in file.read_text()  # type: ignore[misc]
        supervisor.add(name, made, store=name == "store")
    supervisor.until_ready(["store", "writer"], 10)
    supervisor.stop()
    assert (tmp_path / "store.log").read_text().split() == ["up", "True"]


# --------------------------------------------------------------------------------------------------- state directory
def test_one_supervisor_a_directory(tmp_path: Path) -> None:
    directory = StateDir(tmp_path / "state")
    assert directory.supervisor() is None
    with directory.lock():
        assert directory.supervisor() == os.getpid()
        with pytest.raises(AlreadyRunning) as running, StateDir(tmp_path / "state").lock():
            pass
        assert running.value.pid == os.getpid()
    assert directory.supervisor() is None


def test_somebody_who_looks_does_not_keep_anybody_from_starting(tmp_path: Path) -> None:
    directory = StateDir(tmp_path / "state")
    with directory.lock():
        pass
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            directory.supervisor()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(20):
            with directory.lock():
                pass
    finally:
        done.set()
        looker.join()


def test_only_the_owner_reads_what_is_secret(tmp_path: Path) -> None:
    directory = StateDir(tmp_path / "state")
    with directory.lock():
        directory.prepare()
        assert directory.add_secret("signing")
        first = (directory.secrets / "signing").read_bytes()
        assert not directory.add_secret("signing")
        assert (directory.secrets / "signing").read_bytes() == first
        assert len(first) == 32
        directory.write_state({"pids": {}})
        pepper = directory.pepper.read_bytes()
        directory.log("envoy-1").write_text("old")
        directory.prepare()
        assert directory.pepper.read_bytes() == pepper
        assert directory.read_state() == {}, "what ran before is not what runs now"
        assert (directory.root / "logs" / "envoy-1.log.1").read_text() == "old"
    for path in (directory.pepper, directory.secrets / "signing"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert directory.secrets.stat().st_mode & 0o777 == 0o700
    assert directory.root.stat().st_mode & 0o066 == 0, "nobody else may list the state directory"


# ------------------------------------------------------------------------------------------------------------- ports
def test_ports_are_handed_out_once_and_never_while_somebody_listens() -> None:
    given = Ports()
    first = given.any()
    assert given.any(first) != first
    assert given.take(first) is None
    assert first in ports.RANGE
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert not is_free(number)
        assert not is_free(number, shared=True)
        assert given.take(number) is None
        assert ports.answers(number)
    assert is_free(number)
    assert not ports.answers(number)
