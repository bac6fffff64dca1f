"""The fast transport against peers that are wrong, slow, or mean harm: what is refused, bounded, and goes on."""

import asyncio

import ngh2
import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue, UInt32Value

from policy.transport import core, fast
from policy.transport.fast import FastServer, Limits
from policy.transport.framing import framed
from tests.policy.rig import until
from tests.policy.transport.methods import Methods
from tests.policy.transport.raw import (
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Raw,
    asked,
    frame,
)

OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 8, 12, 13
REFUSED_STREAM, ENHANCE_YOUR_CALM = 7, 11


class Small:
    """A server with limits of its own. `port`, `methods`, `server`."""

    def __init__(self, **limits: float) -> None:
        self.methods = Methods()
        self.server = FastServer(self.methods.all(), Limits(**limits))
        self.port = 0

    async def __aenter__(self) -> "Small":
        self.port = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop(0)


async def still_serves(server) -> bool:
    async with Raw(server.port) as raw:
        return (await raw.call()).status == OK


# -------------------------------------------------------------------------------------------------------- messages
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, UNIMPLEMENTED),
        (b"", UNIMPLEMENTED),
        (b"\0", INTERNAL),
        (b"\0\0\0\0", INTERNAL),
        (b"\0\0\0\0\5abc", INTERNAL),
        (b"\0\0\0\0\1", INTERNAL),
        (framed(b"") + framed(b""), UNIMPLEMENTED),
        (framed(b"") + b"\0", UNIMPLEMENTED),
        (b"\1\0\0\0\0", UNIMPLEMENTED),
        (b"\7\0\0\0\0", INTERNAL),
        (b"\0\xff\xff\xff\xff", RESOURCE_EXHAUSTED),
    ],
)
async def test_a_request_is_one_whole_message(fast, body, code):
    async with Raw(fast.port) as raw:
        assert (await raw.one(body)).status == code
        assert (await raw.call()).status == OK  # of no consequence for others


async def test_a_message_may_come_in_any_pieces(fast):
    body = framed(BytesValue(value=b"hello").SerializeToString())
    async with Raw(fast.port) as raw:
        stream = raw.send(asked(), body[:1], end=False)
        for byte in body[1:]:
            raw.flush()
            await asyncio.sleep(0)
            raw.h2.send_data(stream, bytes([byte]))
        raw.flush()
        raw.h2.send_trailers(stream, [(b"x-end", b"1")])  # a request may have trailers
        raw.flush()
        [answer] = await raw.over(stream)
    assert (answer.status, bytes(answer.data)) == (OK, body)


async def test_an_endless_message_is_refused_when_it_is_too_long(fast):
    async with Raw(fast.port) as raw:
        stream = raw.send(asked(), framed(b"abc"), end=False)
        while not raw.streams[stream].over:
            raw.h2.send_data(stream, b"x" * 60_000)
            raw.flush()
            await raw.read()
        assert raw.streams[stream].status == UNIMPLEMENTED
        assert (await raw.call()).status == OK


async def test_unfinished_messages_of_a_connection_are_bounded_together(fast):
    piece = core.LARGEST.to_bytes(5, "big") + b"x" * (core.LARGEST - 100)
    async with Raw(fast.port) as raw:
        streams = [raw.send(asked(), piece, end=False) for _ in range(40)]
        raw.flush()
        while not any(raw.streams[number].over for number in streams):
            await raw.read()
        refused = next(raw.streams[number] for number in streams if raw.streams[number].over)
        assert refused.status == RESOURCE_EXHAUSTED
        assert (await raw.call()).status == OK


# --------------------------------------------------------------------------------------------------------- bounds
async def test_calls_at_once_are_bounded_and_the_rest_refused_at_once():
    async with Small(in_flight=3) as small, Raw(small.port) as raw:
        streams = [raw.ask("Sleep", StringValue(value=f"0.3 {number}")) for number in range(5)]
        raw.flush()
        answers = await raw.over(*streams)
        assert [answer.status for answer in answers] == [OK] * 3 + [RESOURCE_EXHAUSTED] * 2
        assert small.server.in_flight == 0
        assert (await raw.call("Sleep", StringValue(value="0"))).status == OK


async def test_streams_of_a_connection_are_bounded(fast):
    """By hand: a client's own state machine keeps the bound."""
    requests = b"".join(frame(HEADERS, 0x4, 2 * n + 1, header_block()) for n in range(core.STREAMS + 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", fast.port)
    writer.write(PREFACE + frame(SETTINGS) + requests)
    async with asyncio.timeout(10):
        await reader.readuntil(frame(RST_STREAM, 0, 2 * core.STREAMS + 1, REFUSED_STREAM.to_bytes(4, "big")))
    writer.close()
    assert await still_serves(fast)


def header_block() -> bytes:
    """HPACK literals without indexing: never changes the state of either side."""
    return b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in asked(authority="a")
    )


async def test_connections_are_bounded():
    async with Small(connections=2) as small, Raw(small.port) as first, Raw(small.port) as second:
        assert (await first.call()).status == (await second.call()).status == OK
        async with Raw(small.port) as third:
            await third.closed()
        assert (await first.call()).status == OK


@pytest.mark.parametrize("size", [core.HEADER_BYTES // 2, core.HEADER_BYTES * 3 // 2])
async def test_header_lists_are_bounded(fast, size):
    async with Raw(fast.port) as raw:
        answer = await raw.call(x_long="a" * size)
        assert answer.status == (OK if size < core.HEADER_BYTES else None)
    assert await still_serves(fast)


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS),
        frame(SETTINGS, 0, 0, b"\0\4\0\1\0\0"),
    ],
    ids=["pings", "settings", "windows"],
)
async def test_floods_end_the_connection(fast, flood):
    async with Raw(fast.port) as raw:
        assert (await raw.call()).status == OK
        raw.write(flood * 20_000)
        await raw.closed()
    assert await still_serves(fast)


async def test_who_floods_slowly_is_told_to_calm_down():
    async with Small(tick=60) as small, Raw(small.port) as raw:
        for _ in range(core.FLOOD // 100 + 1):
            raw.write(frame(PING, 0, 0, b"12345678") * 100)
            await asyncio.sleep(0.01)
        await raw.closed()
    assert ENHANCE_YOUR_CALM in {code for _, code in raw.goaways}


async def test_endless_headers_end_the_connection(fast):
    async with Raw(fast.port) as raw:
        raw.write(frame(HEADERS, 0, 1, header_block()) + frame(CONTINUATION, 0, 1, b"\0\1a\1b") * 10_000)
        await raw.closed()
    assert await still_serves(fast)


async def test_a_slow_spell_in_which_every_request_is_reset_leaves_the_connection(fast):
    """Envoy resets what timed out: thousands of resets are no attack."""
    async with Raw(fast.port) as raw:
        for _ in range(10):
            streams = [raw.ask("Sleep", StringValue(value="30")) for _ in range(500)]
            raw.flush()
            for stream in streams:
                raw.h2.reset_stream(stream, 8)
            raw.flush()
            assert (await raw.call()).status == OK
        await until(lambda: len(fast.methods.cancelled) == len(fast.methods.begun))


async def test_endless_resets_end_the_connection(monkeypatch):
    monkeypatch.setattr(core, "CONFIGURATION", ngh2.Configuration(stream_reset_rate_limit=(1_000, 1)))
    async with Small() as small, Raw(small.port) as raw:
        block = header_block()
        for start in range(1, 6_000, 400):
            raw.write(
                b"".join(
                    frame(HEADERS, 0x4, number, block) + frame(RST_STREAM, 0, number, b"\0\0\0\x08")
                    for number in range(start, start + 400, 2)
                )
            )
            await asyncio.sleep(0)
        await raw.closed()
        assert await still_serves(small)


# ---------------------------------------------------------------------------------------------------- what is no HTTP/2
@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
        PREFACE + b"\xff" * 100,
        PREFACE + frame(DATA, 0, 0, b"x"),
        PREFACE + frame(SETTINGS) + frame(DATA, END_STREAM, 1, b"x"),
        PREFACE + frame(SETTINGS) + frame(HEADERS, 0x5, 2, b"\x82"),
        PREFACE + frame(SETTINGS) + frame(HEADERS, 0x5, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        PREFACE + frame(SETTINGS) + frame(PING, 0, 0, b"short"),
        PREFACE + frame(SETTINGS) + b"\xff\xff\xff\0\0\0\0\0\1",
    ],
)
async def test_what_is_not_http_2_is_hung_up_on(fast, said):
    reader, writer = await asyncio.open_connection("127.0.0.1", fast.port)
    writer.write(said)
    try:
        while await asyncio.wait_for(reader.read(2**16), 10):
            pass
    except ConnectionError:
        pass
    writer.close()
    assert await still_serves(fast)


async def test_headers_that_http_2_forbids_end_the_stream_alone(fast):
    async with Raw(fast.port) as raw:
        answer = await raw.call(connection="close")
        assert answer.status is None
        assert (await raw.call()).status == OK


# ---------------------------------------------------------------------------------------------------------- silence
async def test_who_does_not_read_is_not_read_from():
    async with Small() as small, Raw(small.port, settings={4: 2**31 - 1}, limit=1024) as raw:
        raw.h2.set_local_window_size(2**31 - 1)
        raw.flush()
        for _ in range(300):
            raw.ask("Large", UInt32Value(value=1_000_000))
            raw.flush()
            await asyncio.sleep(0.001)
        [connection] = small.server.connections
        await until(lambda: connection._paused)
        begun = connection._transport.get_write_buffer_size()
        await asyncio.sleep(0.2)
        assert connection._transport.get_write_buffer_size() <= begun
        assert not connection._transport.is_reading()


async def test_who_is_silent_is_asked_and_then_left():
    async with Small(keepalive=0.1, patience=0.1, tick=0.05) as small:
        async with Raw(small.port) as alive:
            assert (await alive.call()).status == OK
            while alive.pings < 3:
                await alive.read()
            assert (await alive.call()).status == OK
        reader, writer = await asyncio.open_connection("127.0.0.1", small.port)
        writer.write(PREFACE + frame(SETTINGS))
        while await asyncio.wait_for(reader.read(2**16), 10):
            pass
        writer.close()
        await until(lambda: not small.server.connections)


async def test_an_old_connection_is_drained_and_its_calls_are_answered():
    async with Small(age=0.2, grace=5, tick=0.05, linger=0.05) as small, Raw(small.port) as raw:
        answer = await raw.call("Sleep", StringValue(value="0.6"))
        assert answer.status == OK
        await raw.closed()
        assert [code for _, code in raw.goaways] == [0, 0]


async def test_calls_that_outlive_the_grace_of_an_old_connection_are_lost_with_it():
    async with Small(age=0.1, grace=0.2, tick=0.05) as small, Raw(small.port) as raw:
        await raw.call("Sleep", StringValue(value="30"))
        assert raw.eof
        await until(lambda: small.methods.cancelled == ["30"])


async def test_ages_are_spread():
    async with Small() as small:
        ends = {fast.Connection(small.server)._end_of_age for _ in range(50)}
    assert len(ends) == 50
