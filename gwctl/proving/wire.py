"""HTTP/1.1 over raw sockets, many at once: what is sent is just what was written, however wrong it is."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.match import Request

WIDTH: Final = 24  # so many connections with one request each: Envoy takes its time over pipelined ones
PATIENCE: Final = 30.0  # seconds for an answer

Answer = tuple[int, dict[bytes, bytes]]
"""Status and headers, names in lower case."""


def wire(request: Request, body: bytes = b"") -> bytes:
    """The request as HTTP/1.1 bytes."""
    lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {request.host}"]
    lines += [f"{name}: {text}" for name, text in request.headers]
    lines += [f"content-length: {len(body)}"] if body else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body


def ask(port: int, requests: Sequence[bytes], tls: str | None = None) -> Iterator[Answer]:
    """The answer to each request, in order. `tls`: the server name to ask for, over TLS that verifies nobody."""
    connections = [Connection(port, tls) for _ in range(min(WIDTH, len(requests)))]
    try:
        for start in range(0, len(requests), WIDTH):
            together = list(zip(connections, requests[start : start + WIDTH], strict=False))
            for connection, request in together:
                connection.send(request)
            for connection, request in together:
                yield connection.answer(head_only=request.startswith(b"HEAD "))
    finally:
        for connection in connections:
            connection.close()


class Connection:
    """A kept-alive connection to this machine; made anew where the other side has ended it."""

    def __init__(self, port: int, tls: str | None = None) -> None:
        self.port, self.tls = port, tls
        self.socket = self.connected()
        self.ended = False

    def connected(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        return plain if self.tls is None else unverified().wrap_socket(plain, server_hostname=self.tls)

    def send(self, request: bytes) -> None:
        if self.ended:
            self.socket.close()
            self.socket, self.ended = self.connected(), False
        self.socket.sendall(request)

    def answer(self, *, head_only: bool) -> Answer:
        """Without the body. Raises ConnectionError."""
        buffer = b""
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            buffer += self.more()
        status, *lines = buffer[:end].split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        self.finish(buffer[end + 4 :], headers, head_only=head_only)
        self.ended = headers.get(b"connection") == b"close"
        return int(status.split(b" ", 2)[1]), headers

    def finish(self, body: bytes, headers: dict[bytes, bytes], *, head_only: bool) -> None:
        """Reads the body to its end, so that the next answer begins where we look for it."""
        if head_only:
            return
        if headers.get(b"transfer-encoding") == b"chunked":
            while not body.endswith(b"0\r\n\r\n"):
                body += self.more()
            return
        length = int(headers.get(b"content-length", b"0"))
        while len(body) < length:
            body += self.more()

    def more(self) -> bytes:
        found = self.socket.recv(65536)
        if not found:
            raise ConnectionError("the connection ended without an answer")
        return found

    def close(self) -> None:
        self.socket.close()


def unverified() -> ssl.SSLContext:
    """For certificates that were made for the occasion, on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
