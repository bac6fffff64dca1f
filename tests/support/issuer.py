"""An issuer of tokens on loopback: its key set over HTTP, answered as a test says."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.tokens import Signer, sign


class Issuer:
    """`body`, `status` and `headers` are what `uri` answers; `asked` counts."""

    def __init__(self) -> None:
        self.keys: dict[str, Signer] = {}
        self.status, self.body, self.headers, self.asked = 200, b"", {}, 0
        self.rotate("first")
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.uri = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def rotate(self, *kids: str) -> None:
        """From now on exactly these keys are published; new ones are made."""
        self.keys = {kid: self.keys.get(kid) or ec.generate_private_key(ec.SECP256R1()) for kid in kids}
        algorithm: Any = jwt.algorithms.get_default_algorithms()["ES256"]
        published = [
            {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "ES256", "use": "sig"}  # type: ignore[union-attr]
            for kid, key in self.keys.items()
        ]
        self.body = json.dumps({"keys": published}).encode()

    def token(self, payload: dict[str, Any], kid: str) -> str:
        return sign(self.keys[kid], "ES256", payload, kid)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
