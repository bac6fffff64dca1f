"""The user that decision services are in Valkey: enough for all that they do, and for nothing else."""

import contextlib
import re

import pytest
from valkey import Valkey as Client
from valkey.exceptions import NoPermissionError, ValkeyError

from gwctl.up import acl
from gwctl.up.valkey import Valkey
from policy.cache import valkey as cache
from policy.ratelimit import script
from policy.ratelimit.store import Unavailable
from policy.ratelimit.valkey import ValkeyStore

from .test_algorithms import of
from .test_counters import counter, until


@pytest.fixture(scope="module")
def guarded(directory):
    server = Valkey(directory / "guarded", guarded=True)
    server.start()
    yield server
    server.stop()


def as_service(server: Valkey) -> Client:
    password = server.users.password_file.read_text()
    return Client(unix_socket_path=str(server.socket), username=acl.SERVICE, password=password, lib_name=None)


async def test_the_service_does_all_that_it_does(guarded):
    store, responses = ValkeyStore(guarded.url, timeout=5), cache.ValkeyStore(guarded.url, timeout=5)
    try:
        assert (await store.take([counter(), *(of(a, 5, key=f"rl:{a}") for a in range(4))], 5)).admitted
        await responses.put(b"cache:a", b"answer", 10)
        assert await responses.get(b"cache:a") == b"answer"
        await responses.drop(b"cache:a")
        assert await responses.get(b"cache:a") is None
        assert responses._rests_until == 0
        guarded.kill9()
        guarded.start()
        with contextlib.suppress(Unavailable):  # the connections of before
            await store.take([counter()], 5)
        await until(lambda: store.available)
    finally:
        await store.close()
        await responses.close()


def test_every_command_of_the_scripts_is_allowed():
    """Whatever algorithm comes to use another command must say so here and in the documents."""
    used = {
        name.lower()
        for text in (script.TEXT, cache.WRITE)
        for name in re.findall(r"(?:redis|server)\.call\('(\w+)'", text)
    }
    assert used <= {word.removeprefix("+") for word in acl.ALLOWED}


@pytest.mark.parametrize(
    "words",
    [
        ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/"), ("SHUTDOWN",), ("FLUSHALL",), ("KEYS", "*"),
        ("SCAN", "0"), ("ACL", "LIST"), ("ACL", "SETUSER", "x"), ("SCRIPT", "FLUSH"), ("SAVE",), ("BGSAVE",),
        ("REPLICAOF", "h", "1"), ("CLIENT", "LIST"), ("PUBLISH", "a", "b"), ("MODULE", "LIST"),
        ("GET", "other"), ("SET", "other", "1"), ("SET", "session:1", "x"), ("UNLINK", "other"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "other"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("EVAL", "return redis.call('GET', 'other')", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_and_nothing_else(guarded, words):
    with as_service(guarded) as client, pytest.raises(ValkeyError) as told:
        client.execute_command(*words)
    assert isinstance(told.value, NoPermissionError) or "ACL" in str(told.value) or "permission" in str(told.value)


def test_nobody_comes_in_without_a_password(guarded):
    with Client(unix_socket_path=str(guarded.socket)) as client, pytest.raises(ValkeyError, match=r"[Aa]uthentication"):
        client.get("rl:x")


def test_passwords_are_files_of_their_owner_and_in_no_url_and_no_command(guarded):
    for file in (guarded.users.password_file, guarded.users.admin_password_file, guarded.users.file):
        assert file.stat().st_mode & 0o777 == 0o600
    password = guarded.users.password_file.read_text()
    assert len(password) == 64
    assert all(password not in text for text in (guarded.url, repr(guarded._process), guarded.users.file.read_text()))
