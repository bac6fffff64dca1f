"""An issuer on loopback that people log in at: an authorization endpoint that asks nobody, and a token endpoint."""

import base64
import hashlib
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_SECRET = "not-a-real-client-secret"


class OidcServer:
    """`id_token` is what the next logins get, with a `refresh_token` if there is one.

    `refreshed` counts how often that was used.
    """

    def __init__(self, client_id: str) -> None:
        self.client_id, self.id_token, self.refresh_token, self.refreshed = client_id, "", "", 0
        self._codes: dict[str, dict[str, str]] = {}
        outer = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("location", outer.authorize(one_each(urlsplit(self.path).query)))
                self.send_header("content-length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                status, found = outer.exchange(one_each(body))
                answer = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = self._server.server_port

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes: back to the application, with a code."""
        code = secrets.token_urlsafe(8)
        self._codes[code] = asked
        return asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]})

    def exchange(self, given: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Tokens for a code that was given out, once, to who knows the secret and began the login."""
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        if given.get("grant_type") == "refresh_token":
            if not self.refresh_token or given.get("refresh_token") != self.refresh_token:
                return 400, {"error": "invalid_grant"}
            self.refreshed += 1
            return 200, self._tokens()
        asked = self._codes.pop(given.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != given.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        return 200, self._tokens()

    def _tokens(self) -> dict[str, Any]:
        found = {"access_token": "opaque", "id_token": self.id_token, "token_type": "Bearer", "expires_in": 600}
        return {**found, "refresh_token": self.refresh_token} if self.refresh_token else found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def one_each(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
