"""An upstream service under a test's control: it says what it saw, and misbehaves when asked to.

GET /any?status=503      answers with that status
GET /any?delay=2.5       waits that many seconds first
"""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: "Upstream"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # Envoy hung up, as it does after a timeout
            self.close_connection = True

    def _answer(self) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(float(query.get("delay", 0)))
        asked = query.get("status", "")
        status = int(asked) if asked.isdigit() else self.server.status
        seen = {"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        self.server.seen.append(seen)
        body = b"" if self.command == "HEAD" else json.dumps(seen).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-powered-by", "test")
        self.send_header("x-port", str(self.server.port))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


class Upstream(ThreadingHTTPServer):
    """Listens on a free loopback port from construction on. `seen`: every request, oldest first."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int = 0, status: int = 200) -> None:
        super().__init__(("127.0.0.1", port), _Echo)
        self.status = status
        self.seen: list[dict[str, Any]] = []
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.append(connection)
        return connection, address

    def close(self) -> None:
        """Like a process that ended: open connections end too."""
        self.shutdown()
        self.server_close()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
