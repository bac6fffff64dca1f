"""What callers may rely on, whichever transport answers them: asked by grpcio's client and by hand-made HTTP/2."""

import asyncio
import gzip
import time

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue, StringValue, UInt32Value
from grpc_health.v1 import health_pb2, health_pb2_grpc

from policy.transport.core import LARGEST
from policy.transport.framing import framed
from tests.policy.rig import until
from tests.policy.transport.methods import SERVICE, Running
from tests.policy.transport.raw import Raw, asked

Code = grpc.StatusCode
OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 4, 8, 12, 13
CANCEL = 8


class Client:
    def __init__(self, port: int) -> None:
        receive = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=receive)

    def call(self, method: str, message, answer=BytesValue, **more):
        kind = type(message)
        multi = self.channel.unary_unary(f"/{SERVICE}/{method}", kind.SerializeToString, answer.FromString)
        return multi(message, timeout=more.pop("timeout", 20), **more)


@pytest.fixture
async def client(server):
    made = Client(server.port)
    yield made
    await made.channel.close()


async def status_of(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


# ------------------------------------------------------------------------------------------------------- answers
@pytest.mark.parametrize("size", [0, 1, 16_000, 300_000, LARGEST - 16])
async def test_a_message_comes_back_whole(client, size):
    sent = BytesValue(value=b"a" * size)
    assert await client.call("Echo", sent) == sent


async def test_many_at_once(client):
    sent = [BytesValue(value=b"%d" % number) for number in range(500)]
    assert await asyncio.gather(*(client.call("Echo", message) for message in sent)) == sent


async def test_large_answers_wait_for_the_callers_windows(client):
    answers = await asyncio.gather(*(client.call("Large", UInt32Value(value=3_000_000)) for _ in range(3)))
    assert [len(answer.value) for answer in answers] == [3_000_000] * 3


async def test_a_caller_without_a_window_gets_its_answer_when_it_opens_one(server):
    async with Raw(server.port, settings={4: 0}) as raw:  # SETTINGS_INITIAL_WINDOW_SIZE
        blocked = raw.ask("Large", UInt32Value(value=100_000))
        raw.flush()
        assert (await raw.call("Fail", StringValue(value="no"))).status == RESOURCE_EXHAUSTED  # others are not held up
        assert not raw.streams[blocked].data
        raw.h2.update_settings({4: 65_535})
        raw.flush()
        [answer] = await raw.over(blocked)
    assert answer.status == OK
    assert len(answer.data) > 100_000


async def test_metadata_reaches_the_method(server, client):
    await client.call("Echo", BytesValue(), metadata=(("x-client", "a"), ("trace-bin", b"\x00\xff")))
    seen = dict(server.methods.metadata)
    assert (seen["x-client"], seen["trace-bin"]) == ("a", b"\x00\xff")
    assert not any(name.startswith(":") for name in seen)


async def test_health(server, client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    for status in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING):
        await server.health.set("a", status)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service="a"))).status == status
    code, _ = await status_of(stub.Check(health_pb2.HealthCheckRequest(service="other")))
    assert code is Code.NOT_FOUND


# ------------------------------------------------------------------------------------------------------ failures
@pytest.mark.parametrize("detail", ["plain", "100 % of ä, 日本\r\n\x00\x7f and 'this'", "", "x" * 2000])
async def test_a_failed_call_has_its_code_and_its_text(client, detail):
    assert await status_of(client.call("Fail", StringValue(value=detail))) == (Code.RESOURCE_EXHAUSTED, detail)


async def test_a_mistake_is_unavailable_and_tells_nothing(client):
    code, detail = await status_of(client.call("Break", StringValue(value="of ours")))
    assert code is Code.UNAVAILABLE
    assert "secret" not in detail


@pytest.mark.parametrize("path", [f"/{SERVICE}/Other", "/other.Service/Echo", "/", f"/{SERVICE}/Echo/"])
async def test_unknown_methods(server, path):
    async with Raw(server.port) as raw:
        assert (await raw.call(p_path=path)).status == UNIMPLEMENTED


async def test_what_is_no_message_of_the_method(server):
    async with Raw(server.port) as raw:
        answer = await raw.one(framed(b"\xff\xff\xff"))
    assert answer.status == 3  # INVALID_ARGUMENT


@pytest.mark.parametrize("encoding", ["gzip", "nonsense"])
async def test_messages_in_an_encoding_that_is_not_there(server, encoding):
    packed = gzip.compress(BytesValue(value=b"hello").SerializeToString())
    async with Raw(server.port) as raw:
        answer = await raw.one(b"\1" + framed(packed)[1:], grpc_encoding=encoding)
    if server.transport == "fast":
        assert answer.status == UNIMPLEMENTED
    else:  # grpcio reads gzip; Envoy does not send it, so the fast transport has no use for it
        assert answer.status == (OK if encoding == "gzip" else INTERNAL)


async def test_a_message_that_is_too_large(server, client):
    code, _ = await status_of(client.call("Echo", BytesValue(value=b"a" * (LARGEST + 1))))
    assert code is Code.RESOURCE_EXHAUSTED
    async with Raw(server.port) as raw:  # its length is enough to refuse it
        stream = raw.send(asked(), (LARGEST + 1).to_bytes(5, "big") + b"a" * 10, end=False)
        raw.flush()
        [answer] = await raw.over(stream)
        assert answer.status == RESOURCE_EXHAUSTED
        assert (await raw.call()).status == OK


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None, "application/grpcx"])
async def test_other_content_types(server, content_type):
    async with Raw(server.port) as raw:
        answer = await raw.call(content_type=content_type)
    if server.transport == "fast":  # grpcio answers them as if they were right
        assert answer.headers[b":status"] == b"415"
        assert answer.status is None


@pytest.mark.parametrize(
    "content_type", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
)
async def test_content_types_of_grpc(server, content_type):
    async with Raw(server.port) as raw:
        assert (await raw.call(content_type=content_type)).status == OK


async def test_other_http_methods(server):
    async with Raw(server.port) as raw:
        answer = await raw.call(p_method="GET")
        assert answer.status != OK
        assert (await raw.call()).status == OK


# ------------------------------------------------------------------------------------------------------ deadlines
async def test_late_work_is_not_begun(server):
    async with Raw(server.port) as raw:
        answer = await raw.call("Sleep", StringValue(value="0"), grpc_timeout="1u")
    assert DEADLINE_EXCEEDED in (answer.status, None)  # grpcio may reset the stream instead
    assert answer.over
    assert server.methods.begun == []


async def test_work_ends_at_its_deadline(server):
    async with Raw(server.port) as raw:
        before = time.monotonic()
        answer = await raw.call("Sleep", StringValue(value="30"), grpc_timeout="100m")
        assert time.monotonic() - before < 10
        assert answer.over
        assert answer.status in (DEADLINE_EXCEEDED, None)
    await until(lambda: server.methods.cancelled == ["30"])
    assert server.methods.ended == []


@pytest.mark.parametrize(
    ("written", "seconds"), [("1H", 3600), ("2M", 120), ("30S", 30), ("99999m", 100), ("9000000u", 9)]
)
async def test_units_of_deadlines(server, written, seconds):
    async with Raw(server.port) as raw:
        assert (await raw.call(grpc_timeout=written)).status == OK
    assert seconds * 0.5 < server.methods.remaining <= seconds


async def test_a_call_without_a_deadline(server):
    async with Raw(server.port) as raw:
        assert (await raw.call()).status == OK
    assert server.methods.remaining is None


@pytest.mark.parametrize("written", ["5", "S", "5x", "123456789S", "-1S", "1.5S"])
async def test_malformed_deadlines(server, written):
    async with Raw(server.port) as raw:
        answer = await raw.call(grpc_timeout=written)
        assert answer.over
    if server.transport == "fast":  # grpcio takes it for none
        assert answer.status == INTERNAL


# -------------------------------------------------------------------------------------------------- cancellations
async def test_a_reset_cancels_the_work_and_nothing_else(server):
    async with Raw(server.port) as raw:
        stays = raw.ask("Sleep", StringValue(value="0.5 stays"))
        goes = raw.ask("Sleep", StringValue(value="30 goes"))
        raw.flush()
        await until(lambda: len(server.methods.begun) == 2)
        raw.h2.reset_stream(goes, CANCEL)
        raw.flush()
        await until(lambda: server.methods.cancelled == ["30 goes"])
        [answer] = await raw.over(stays)
    assert answer.status == OK


async def test_a_caller_that_goes_cancels_its_work(server):
    async with Raw(server.port) as raw:
        raw.ask("Sleep", StringValue(value="30"))
        raw.flush()
        await until(lambda: server.methods.begun)
    await until(lambda: server.methods.cancelled == ["30"])


# -------------------------------------------------------------------------------------------------- the connection
async def test_pings_are_answered(server):
    async with Raw(server.port) as raw:
        for _ in range(3):
            raw.h2.ping()
            raw.flush()
        while raw.pongs < 3:
            await raw.read()


async def test_draining_answers_who_is_being_answered_and_who_did_not_hear_yet(server):
    async with Raw(server.port) as raw:
        before = raw.ask("Sleep", StringValue(value="0.5 before"))
        raw.flush()
        await until(lambda: server.methods.begun)
        stopping = asyncio.create_task(server.servers.stop(10))
        await asyncio.sleep(0)
        crossing = raw.ask("Sleep", StringValue(value="0.1 crossing"))
        raw.flush()
        answers = await raw.over(before, crossing)
        raw.writer.close()
        await asyncio.wait_for(stopping, 10)
    assert answers[0].status == OK
    if server.transport == "fast":  # grpcio fails what crosses its farewell
        assert answers[1].status == OK
    assert raw.goaways
    assert {code for _, code in raw.goaways} == {0}


async def test_clients_under_load_lose_no_call_when_one_of_two_servers_is_drained(fast):
    """grpcio's server fails what crosses its farewell; its client, asked here, goes to the other one."""
    async with Running("fast") as other:
        options = [("grpc.lb_policy_name", "round_robin")]
        target = f"ipv4:127.0.0.1:{fast.port},127.0.0.1:{other.port}"
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            call = channel.unary_unary(f"/{SERVICE}/Sleep", StringValue.SerializeToString, StringValue.FromString)

            async def ask() -> None:
                for _ in range(40):
                    await call(StringValue(value="0.005"), timeout=20, wait_for_ready=True)

            asking = [asyncio.create_task(ask()) for _ in range(20)]
            await until(lambda: len(fast.methods.begun) > 50)
            await fast.servers.stop(10)
            await asyncio.gather(*asking)
            assert len(fast.methods.begun) == len(fast.methods.ended)


async def test_a_slow_reader_gets_everything_in_the_end(server):
    async with Raw(server.port, settings={4: 2**31 - 1}, limit=1024) as raw:
        raw.h2.set_local_window_size(2**31 - 1)
        streams = [raw.ask("Large", UInt32Value(value=500_000)) for _ in range(20)]
        raw.flush()
        await asyncio.sleep(0.3)
        answers = await raw.over(*streams)
    assert {len(answer.data) > 500_000 for answer in answers} == {True}
    assert {answer.status for answer in answers} == {OK}
