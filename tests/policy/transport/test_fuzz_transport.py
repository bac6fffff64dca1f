"""Whatever bytes come, the fast transport closes that connection or answers it, loses nothing, and serves the others.

`TOLLHOUSE_MESSAGES`: how many conversations; `make fuzz` has 50,000.
"""

import asyncio
import os
import random

import ngh2
import psutil
from google.protobuf.wrappers_pb2 import BytesValue, StringValue

from policy.transport.core import Cancelled, Core
from policy.transport.framing import framed
from tests.policy.rig import until
from tests.policy.transport.raw import PREFACE, Raw, asked, frame

CONVERSATIONS = int(os.environ.get("TOLLHOUSE_MESSAGES", "3000"))
ON_SOCKETS = max(100, CONVERSATIONS // 20)
GROWTH = 64 * 1024 * 1024


def conversation(chance: random.Random) -> bytes:
    """What a client says, rightly."""
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection({4: chance.choice([0, 10, 65_535])} if chance.random() < 0.3 else {})
    for _ in range(chance.randrange(1, 6)):
        message = BytesValue(value=chance.randbytes(chance.choice([0, 10, 3_000])))
        headers = asked(chance.choice(["Echo", "Sleep", "None"]), grpc_timeout=chance.choice([None, "1S", "0n", "x"]))
        stream = client.send_request(headers)
        client.send_data(stream, framed(message.SerializeToString()), end_stream=chance.random() < 0.9)
        if chance.random() < 0.2:
            client.reset_stream(stream)
        if chance.random() < 0.2:
            client.ping()
    return client.data_to_send()


def broken(chance: random.Random, data: bytes) -> bytes:
    """Changed, cut, doubled, or with frames that nobody asked for in between."""
    text = bytearray(data)
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(PREFACE) if chance.random() < 0.95 else 0, len(text) + 1)
        match chance.randrange(5):
            case 0:
                text[at : at + 1] = chance.randbytes(1)
            case 1:
                del text[at : at + chance.randrange(1, 20)]
            case 2:
                text[at:at] = text[at : at + chance.randrange(1, 60)]
            case 3:
                kind, stream = chance.randrange(12), chance.choice([0, 1, 2, 3, 5, 101])
                text[at:at] = frame(kind, chance.randrange(256), stream, chance.randbytes(chance.randrange(20)))
            case 4:
                text[at:at] = chance.randbytes(chance.randrange(1, 30))
    return bytes(text)


def test_fuzzed_bytes_to_the_core():
    chance = random.Random(1)
    for _ in range(CONVERSATIONS):
        core, owed, data = Core(lambda: 0.0), set(), broken(chance, conversation(chance))
        core.to_send()
        while data and not core.closed:
            size = chance.randrange(1, len(data) + 1)
            for one in core.received(data[:size]):
                if isinstance(one, Cancelled):
                    owed.discard(one.stream)
                else:
                    assert one.stream not in owed
                    owed.add(one.stream)
            data = data[size:]
            for stream in sorted(owed):
                if chance.random() < 0.7:
                    core.answer(stream, b"answer")
                    owed.discard(stream)
            core.to_send()
        assert core._held >= 0
        assert len(core._streams) < 50


async def test_fuzzed_bytes_to_the_server(fast):
    chance = random.Random(2)
    await campaign(fast.port, chance, ON_SOCKETS // 5)  # caches and pools are filled
    memory, tasks = psutil.Process().memory_info().rss, len(asyncio.all_tasks())
    await campaign(fast.port, chance, ON_SOCKETS)
    async with Raw(fast.port) as raw:
        assert (await raw.call()).status == 0
        assert (await raw.call("Sleep", StringValue(value="0"))).status == 0
    [server] = fast.servers._servers
    await until(lambda: not server.server.connections and not server.server.in_flight)
    assert psutil.Process().memory_info().rss - memory < GROWTH
    assert len(asyncio.all_tasks()) <= tasks + 2


async def campaign(port: int, chance: random.Random, count: int) -> None:
    for _ in range(0, count, 20):
        await asyncio.gather(*(once(port, broken(chance, conversation(chance))) for _ in range(20)))


async def once(port: int, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(said)
        writer.write_eof()
        while await asyncio.wait_for(reader.read(2**16), 10):
            pass
    except OSError:
        pass
    writer.close()
