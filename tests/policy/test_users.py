"""Names and passwords: which are right, how many are verified at once, and what is remembered."""

import asyncio
import base64
import time

import pytest
from argon2 import PasswordHasher

from gateway.passwords import users_of
from gwctl.main import run
from policy.authz import basic, users
from policy.authz.users import Users, matches
from policy.unavailable import Unavailable

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("right")


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "people").write_text(f"alice:{HASH}\r\n\n# bob:{HASH}\n carol:{HASH} \ndave:plain\n:x\n")
    return tmp_path


@pytest.fixture
def known(directory):
    made = Users(directory)
    yield made
    made.close()


async def test_names_and_passwords(known):
    assert await known.verify("people", "alice", "right")
    assert await known.verify("people", "carol", "right")
    for user, password in (("alice", "wrong"), ("alice", ""), ("bob", "right"), ("dave", "plain"), ("", "right")):
        assert not await known.verify("people", user, password)


async def test_files_that_cannot_be_read_decide_nothing(known, directory):
    (directory / "latin").write_bytes(b"\xff")
    for secret in ("missing", "latin"):
        with pytest.raises(Unavailable):
            await known.verify(secret, "alice", "right")
    nowhere = Users(None)
    with pytest.raises(Unavailable):
        await nowhere.verify("people", "alice", "right")
    nowhere.close()


async def test_a_right_password_is_verified_once_for_a_while_and_a_wrong_one_each_time(directory, monkeypatch):
    asked, clock = [], [0.0]
    monkeypatch.setattr(users, "matches", lambda stored, password: asked.append(password) or matches(stored, password))
    known = Users(directory, lambda: clock[0])
    for _ in range(3):
        assert await known.verify("people", "alice", "right")
        assert not await known.verify("people", "alice", "wrong")
    assert asked.count("right") == 1
    assert asked.count("wrong") == 3
    clock[0] = users.REMEMBER + 1
    assert await known.verify("people", "alice", "right")
    assert asked.count("right") == 2
    known.close()


async def test_an_unknown_name_is_verified_too(directory, monkeypatch):
    stored = []
    monkeypatch.setattr(users, "matches", lambda found, password: stored.append(found) or True)
    known = Users(directory)
    assert not await known.verify("people", "nobody", "right"), "whatever the dummy hash says"
    assert stored == [users._NOBODY]
    assert not matches(users._NOBODY, "")
    known.close()


async def test_a_changed_file_counts_at_once_when_it_is_looked_at(directory):
    clock = [0.0]
    known = Users(directory, lambda: clock[0])
    assert await known.verify("people", "alice", "right")
    (directory / "people").write_text("")
    assert await known.verify("people", "alice", "right")
    clock[0] = users.LOOK_AGAIN
    assert not await known.verify("people", "alice", "right")
    known.close()


async def test_only_so_many_wait_and_a_few_run(directory, monkeypatch):
    running, most = [0], [0]

    def slow(stored, password):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1
        return False

    monkeypatch.setattr(users, "matches", slow)
    known = Users(directory)
    await known.verify("people", "alice", "first")
    tries = (known.verify("people", "alice", str(n)) for n in range(users.WAITING + 10))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 10
    assert most[0] <= users.AT_ONCE
    assert not await known.verify("people", "alice", "later")
    known.close()


def test_lines():
    found, wrong = users_of(f"a.b@c+d:{HASH}\nx y:{HASH}\nz:$2b$10$abc\n")
    assert (list(found), wrong) == (["a.b@c+d"], 2)


@pytest.mark.parametrize("value", ["Basic", "Basic ", "Basic *", "Basic YQ==", "Basic OmE=", "Basic " + "A" * 4096])
def test_what_is_no_name_and_password(value):
    assert basic.is_basic(value)
    assert basic.parse(value) is None


def test_a_password_may_hold_colons_and_any_letters():
    parsed = basic.parse("bAsIc " + base64.b64encode("zoë:a:ß".encode()).decode())
    assert (parsed.user, parsed.password) == ("zoë", "a:ß")
    assert "ß" not in repr(parsed)


def test_gwctl_makes_a_line_that_works(tmp_path, capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("secret one\n"))
    assert run(["users", "hash", "ann"]) == 0
    line = capsys.readouterr().out
    assert "secret one" not in line
    (tmp_path / "people").write_text(line)
    known = Users(tmp_path)
    assert asyncio.run(known.verify("people", "ann", "secret one"))
    known.close()


@pytest.mark.parametrize(("name", "text"), [("a b", "x\n"), ("a:b", "x\n"), ("ann", "\n"), ("ann", "x" * 600)])
def test_gwctl_refuses_what_would_not_work(name, text, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run(["users", "hash", name]) != 0
