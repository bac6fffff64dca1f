import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policy.authz import keys

PEPPER = b"p" * 32


def test_a_minted_key_has_the_documented_shape_and_parses_back():
    minted = keys.mint(PEPPER)
    assert re.fullmatch(r"gw_live_[0-9A-Za-z]{10}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}", minted.text)
    parsed = keys.parse(minted.text)
    assert parsed is not None
    assert (parsed.id, parsed.environment) == (minted.id, "live")
    assert minted.prefix == f"gw_live_{minted.id}"
    assert keys.same(minted.digest, keys.digest(PEPPER, minted.text))


def test_keys_do_not_repeat():
    minted = [keys.mint(PEPPER) for _ in range(500)]
    assert len({key.id for key in minted}) == len({key.digest for key in minted}) == 500


def test_no_repr_shows_the_text_or_the_digest():
    minted = keys.mint(PEPPER)
    shown = repr(minted) + repr(keys.parse(minted.text))
    assert minted.text not in shown
    assert minted.text.split("_")[3] not in shown
    assert repr(minted.digest) not in shown


def test_the_digest_depends_on_the_pepper_and_a_short_one_is_refused():
    text = keys.mint(PEPPER).text
    assert keys.digest(PEPPER, text) != keys.digest(b"q" * 32, text)
    with pytest.raises(ValueError, match="at least 16 bytes"):
        keys.digest(b"short", text)


def test_the_checksum_is_the_one_that_documents_promise():
    # CRC-32("123456789") is 0xCBF43926, the check value every CRC catalogue gives.
    assert keys.checksum("123456789") == "3jZRME"


MINTED = keys.mint(PEPPER).text


@given(st.integers(0, len(MINTED) - 1), st.sampled_from(keys.ALPHABET))
def test_changing_any_one_character_is_noticed_without_a_look_up(place, other):
    text = MINTED
    assume(other != text[place])
    assert keys.parse(text[:place] + other + text[place + 1 :]) is None


@given(st.text(max_size=300))
def test_junk_is_refused_and_never_raises(text):
    assert keys.parse(text) is None
    assert keys.parse("gw_live_" + text) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t + "\n", lambda t: " " + t, lambda t: t + "," + t, lambda t: t[:-1]]
)
def test_near_misses_are_refused(change):
    assert keys.parse(change(keys.mint(PEPPER).text)) is None


def test_a_bad_environment_is_refused():
    with pytest.raises(ValueError, match="environment"):
        keys.mint(PEPPER, "Live_1")
