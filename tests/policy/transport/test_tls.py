"""TLS on both transports: the server's certificate, clients' certificates, and HTTP/2 by ALPN alone."""

import asyncio
import ssl

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from policy.transport.tls import TlsFiles
from tests.policy.transport.methods import SERVICE, Running
from tests.support.authority import Authority, written


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`server`: for a server that wants certificates of `ours`. `ours`, `theirs`: a client's chain and key."""
    directory = tmp_path_factory.mktemp("tls")
    ours, theirs = Authority("Ours"), Authority("Theirs")
    authority = directory / "ca.crt"
    authority.write_bytes(ours.pem)
    return {
        "authority": ours.pem,
        "server": TlsFiles(*written(directory, "server", ours.issue("localhost", "127.0.0.1")), authority),
        "ours": ours.issue("spiffe://tollhouse/envoy"),
        "theirs": theirs.issue("spiffe://tollhouse/envoy"),
        "directory": directory,
    }


@pytest.fixture(params=["grpcio", "fast"])
async def server(request, files):
    async with Running(request.param, tls=files["server"]) as running:
        yield running


async def echo(port: int, files, client: str | None) -> bytes:
    chain, key = files[client] if client else (None, None)
    credentials = grpc.ssl_channel_credentials(files["authority"], key, chain)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Echo", BytesValue.SerializeToString, BytesValue.FromString)
        return (await call(BytesValue(value=b"a" * 100_000), timeout=10)).value


async def test_with_a_certificate_of_the_right_authority(server, files):
    assert len(await echo(server.port, files, "ours")) == 100_000


@pytest.mark.parametrize("client", [None, "theirs"])
async def test_without_one(server, files, client):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await echo(server.port, files, client)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(await echo(server.port, files, "ours")) == 100_000


async def test_without_tls(server):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/{SERVICE}/Echo")(b"", timeout=5)


@pytest.mark.parametrize("protocols", [["http/1.1"], []])
async def test_other_protocols_are_hung_up_on(files, protocols):
    async with Running("fast", tls=files["server"]) as server:
        context = ssl.create_default_context(cadata=files["authority"].decode())
        context.load_cert_chain(*written(files["directory"], "client", files["ours"]))
        if protocols:
            context.set_alpn_protocols(protocols)
        try:
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
        except (ConnectionError, ssl.SSLError):
            pass
