"""HTTP for probes, Prometheus and people: /metrics, /livez, /readyz, /status; and POST /resume.

What changes something asks for more than reading does. It is served on loopback only, needs a header that no page of
another site can send without asking first (nobody answers such a question here), and a Host that is this machine's
own, so that no name from elsewhere made to point here gets through (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.wasyncore import close_all  # type: ignore[import-untyped]

from consumer.errors import ConfigError
from consumer.health import Health

CONTROL_HEADER = "X-Microbatch-Control"
_PLAIN, _JSON = "text/plain; charset=utf-8", "application/json"
Respond = Callable[[str, list[tuple[str, str]]], Any]


class AdminServer:
    """Serves in threads of its own; slow, large or many requests cost the daemon nothing but these threads.

    `status` answers with what JSON can hold, `resume` takes whether to accept. Raises ConfigError when the address
    cannot be had. `port` is the one in use, also where 0 was asked for.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        status: Callable[[], dict[str, Any]],
        resume: Callable[[bool], None],
    ) -> None:
        self._registry, self._health, self._status, self._resume = registry, health, status, resume
        self._local = _is_loopback(f"[{host}]" if ":" in host else host)
        logging.getLogger("waitress").setLevel(logging.ERROR)
        self._channels: dict[int, Any] = {}
        self._server = create_server(
            self._answer,
            map=self._channels,
            sockets=[_listening(host, port)],
            threads=4,
            connection_limit=200,
            channel_timeout=10,
            cleanup_interval=5,
            max_request_header_size=8192,
            max_request_body_size=1024,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection, and end the threads."""
        self._server.pull_trigger()
        close_all(self._channels, ignore_all=True)
        self._thread.join(5)
        self._server.task_dispatcher.shutdown()

    def _serve(self) -> None:
        try:
            self._server.run()
        except OSError:
            # `stop` closes the socket under the loop.
            return

    def _answer(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/resume" and method == "POST":
            return self._control(environ, respond)
        if method not in ("GET", "HEAD"):
            return _text(respond, "405 Method Not Allowed", "only GET and HEAD, but for POST /resume")
        if path == "/status":
            return _body(respond, "200 OK", _JSON, json.dumps(self._status(), indent=2).encode())
        if path == "/metrics":
            encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
            return _body(respond, "200 OK", kind, encode(self._registry))
        if path in ("/livez", "/readyz"):
            health = self._health()
            well = health.alive if path == "/livez" else health.ready
            return _text(respond, "200 OK" if well else "503 Service Unavailable", health.reason)
        return _text(respond, "404 Not Found", "there are /metrics, /livez, /readyz and /status")

    def _control(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if not (self._local and _is_loopback(environ.get("HTTP_HOST", ""))):
            return _text(respond, "403 Forbidden", "only on loopback: set admin.host to 127.0.0.1, and ask from there")
        if environ.get("HTTP_X_MICROBATCH_CONTROL") is None:
            return _text(respond, "403 Forbidden", f"the header {CONTROL_HEADER} is missing")
        query = environ.get("QUERY_STRING", "")
        if query not in ("", "accept"):
            return _text(respond, "400 Bad Request", "only `accept` may follow /resume?")
        self._resume(query == "accept")
        return _text(respond, "202 Accepted", "what is held is tried again now")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"{host} port {port} cannot be listened on ({error.strerror}); choose another, or 0 for any"
        raise ConfigError("admin.port", port, reason) from None


def _is_loopback(authority: str) -> bool:
    """Whether this host, with or without a port, is this machine to itself."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(respond: Respond, status: str, text: str) -> Iterable[bytes]:
    return _body(respond, status, _PLAIN, f"{text}\n".encode())


def _body(respond: Respond, status: str, kind: str, body: bytes) -> Iterable[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")]
    respond(status, headers)
    return [body]
