"""HTTP for probes and Prometheus: /metrics, /livez, /readyz. Nothing here changes anything."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from waitress.server import create_server  # type: ignore[import-untyped]
from waitress.wasyncore import close_all  # type: ignore[import-untyped]

from consumer.errors import ConfigError
from consumer.health import Health

_PLAIN = "text/plain; charset=utf-8"
Respond = Callable[[str, list[tuple[str, str]]], Any]


class AdminServer:
    """Serves in threads of its own; slow, large or many requests cost the daemon nothing but these threads.

    Raises ConfigError when the address cannot be had. `port` is the one in use, also where 0 was asked for.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]) -> None:
        self._registry, self._health = registry, health
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
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(respond, "405 Method Not Allowed", "only GET and HEAD")
        path = environ["PATH_INFO"]
        if path == "/metrics":
            encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
            return _body(respond, "200 OK", kind, encode(self._registry))
        if path in ("/livez", "/readyz"):
            health = self._health()
            well = health.alive if path == "/livez" else health.ready
            return _text(respond, "200 OK" if well else "503 Service Unavailable", health.reason)
        return _text(respond, "404 Not Found", "there are /metrics, /livez and /readyz")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"{host} port {port} cannot be listened on ({error.strerror}); choose another, or 0 for any"
        raise ConfigError("admin.port", port, reason) from None


def _text(respond: Respond, status: str, text: str) -> Iterable[bytes]:
    return _body(respond, status, _PLAIN, f"{text}\n".encode())


def _body(respond: Respond, status: str, kind: str, body: bytes) -> Iterable[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")]
    respond(status, headers)
    return [body]
