"""The text and the bytes of gRPC over HTTP/2."""

from urllib.parse import unquote_to_bytes

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.transport import framing
from policy.transport.framing import Refused


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"99999999m", 99999.999), (b"1u", 1e-6), (b"20n", 2e-8), (b"0S", 0)],
)
def test_timeouts(written, seconds):
    assert framing.timeout(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", [b"", b"1", b"S", b"123456789S", b"1s", b"+1S", b"1.0S", b" 1S", b"1S ", b"\xb2S"])
def test_malformed_timeouts(written):
    assert framing.timeout(written) is None


@given(st.binary(max_size=200))
def test_a_framed_message_is_that_message(text):
    assert framing.message(framing.framed(text), 200) == text


@given(st.binary(max_size=40))
def test_all_else_is_refused(body):
    found = framing.message(body, 20)
    if isinstance(found, Refused):
        assert found.code is not grpc.StatusCode.OK
    else:
        assert framing.framed(found) == body
        assert len(found) <= 20


@given(st.text())
def test_texts_survive_the_way(text):
    encoded = framing.percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote_to_bytes(encoded) == text.encode(errors="replace")
    assert b"%" not in encoded.replace(b"%25", b"") or any(ord(c) > 0x7E or ord(c) < 0x20 for c in text)


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ((b"a", b"b"), ("a", "b")),
        ((b"a-bin", b"AP8"), ("a-bin", b"\x00\xff")),
        ((b"a-bin", b"AP8="), ("a-bin", b"\x00\xff")),
        ((b"a", b"\xe4"), ("a", "ä")),
        ((b"a-bin", b"A"), ("a-bin", "A")),
    ],
)
def test_metadata(header, read):
    assert framing.metadata((header,)) == [read]
