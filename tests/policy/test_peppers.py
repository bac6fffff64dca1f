"""Peppers in a file, and how keys move from one to the next."""

import pytest

from policy.authz import keys, peppers
from policy.authz.identity import KeyRecord
from policy.authz.rehashing import LARGEST, Rehashing
from policy.unavailable import Unavailable

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (OLD + b"\n", {1: OLD}),
        (b"1:" + OLD + b"\n2: " + NEW + b"\n", {1: OLD, 2: NEW}),
        (b"\n7:" + NEW + b"\n\n", {7: NEW}),
        (b"\x00" + OLD + b"\n" + NEW, {1: b"\x00" + OLD + b"\n" + NEW}),  # one random pepper that has a line break
    ],
)
def test_a_file_holds_one_pepper_or_several_by_version(content, found):
    assert peppers.parse(content) == found
    assert peppers.newest(found) == max(found.items())


@pytest.mark.parametrize(
    "content", [b"", b"short", b"1:" + OLD + b"\n" + NEW, b"1:" + OLD + b"\n1:" + NEW, b"1:" + OLD + b"\n2:short"]
)
def test_a_file_that_would_void_keys_is_refused_without_being_repeated(content):
    with pytest.raises(ValueError, match=r"version|less than") as raised:
        peppers.parse(content)
    assert "short" not in str(raised.value)
    assert "nnn" not in str(raised.value)


def stored(minted, **changes):
    values = {"id": minted.id, "consumer": "c", "tier": "t", "scopes": (), "digest": minted.digest, "pepper_version": 1}
    return KeyRecord(**values | changes)


async def test_keys_that_are_used_get_a_digest_under_the_newest_pepper_in_one_write():
    written, heard, away = [], [], [True]

    async def write(made):
        if away[0]:
            raise Unavailable("away")
        written.append(list(made))

    rehashing = Rehashing({1: OLD, 2: NEW}, write, lambda ids: heard.extend(ids))
    old, new = keys.mint(OLD), keys.mint(NEW)
    for _ in range(3):
        rehashing.note(stored(old), old.text)
        rehashing.note(stored(new, pepper_version=2), new.text)
    await rehashing.flush()
    assert (written, heard) == ([], []), "the database is away; the next use notes it again"
    away[0] = False
    rehashing.note(stored(old), old.text)
    await rehashing.flush()
    await rehashing.flush()
    ((one,),) = written
    assert (one.key_id, one.old, one.new) == (old.id, old.digest, keys.digest(NEW, old.text))
    assert one.pepper_version == 2
    assert heard == [old.id]


async def test_the_secret_before_a_rotation_does_not_become_the_key_s():
    written = []

    async def write(made):
        written.extend(made)

    rehashing = Rehashing({1: OLD, 2: NEW}, write, lambda ids: None)
    old = keys.mint(OLD)
    rotated = keys.remint(OLD, old.prefix)
    rehashing.note(stored(rotated), old.text)
    await rehashing.flush()
    assert written == []
    for _ in range(LARGEST + 5):
        minted = keys.mint(OLD)
        rehashing.note(stored(minted), minted.text)
    await rehashing.flush()
    assert len(written) == LARGEST
