"""HTTP for probes, Prometheus and people: the status page, /metrics, /livez, /readyz, documents, and commands by POST.

Commands ask for more than reading does: a header that no page of another site can send without asking first (nobody
answers such a question here), no Origin but our own, and either the token or, without one, loopback: where the server
listens, and in the Host, so that no name from elsewhere made to point here gets through (DNS rebinding).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from consumer.errors import ConfigError
from consumer.health import Health
from consumer.port import PortServer

CONTROL_HEADER = "X-Microbatch-Control"
_PLAIN, _JSON, _HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"
_PARTS = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
Respond = Callable[[str, list[tuple[str, str]]], Any]
Command = Callable[[Sequence[tuple[str, str]]], str]


class AdminServer:
    """Serves in a thread of its own; slow, large or many requests cost the daemon next to nothing, see consumer.port.

    `documents` answer with what JSON can hold, by path; `commands` are given the pairs of the query, and answer with a
    sentence or raise ConfigError. `token` is what both ask for; empty: there is none. Raises ConfigError when the
    address cannot be had. `port` is the one in use, also where 0 was asked for.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        documents: Mapping[str, Callable[[], Any]],
        commands: Mapping[str, Command],
        token: str = "",
    ) -> None:
        self._registry, self._health, self._documents, self._commands = registry, health, documents, commands
        self._token = token.encode()
        self._local = _is_loopback(f"[{host}]" if ":" in host else host)
        self._page, self._policy = _page()
        logging.getLogger("waitress").setLevel(logging.ERROR)
        self._rendered: dict[str, bytes] = {}
        self._server = PortServer(self._answer, _listening(host, port), self._rendered.clear)
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(target=self._server.run, name="admin", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection, and end the thread."""
        self._server.stop()
        self._thread.join(5)
        self._server.disconnect()

    def _answer(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path in self._commands and method == "POST":
            return self._command(path, environ, respond)
        if method not in ("GET", "HEAD"):
            return _text(respond, "405 Method Not Allowed", f"only GET, but for POST {', '.join(self._commands)}")
        if path == "/":
            return _body(respond, "200 OK", _HTML, self._page, ("Content-Security-Policy", self._policy))
        if path in self._documents:
            return self._document(path, environ, respond)
        if path == "/metrics":
            encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
            return _body(respond, "200 OK", kind, self._once(f"{path} {kind}", lambda: encode(self._registry)))
        if path in ("/livez", "/readyz"):
            health = self._health()
            well = health.alive if path == "/livez" else health.ready
            return _text(respond, "200 OK" if well else "503 Service Unavailable", health.reason)
        there = ", ".join(["/", *self._documents, "/metrics", "/livez", "/readyz"])
        return _text(respond, "404 Not Found", f"there are {there}")

    def _document(self, path: str, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if self._token and not self._authorized(environ):
            return _unauthorized(respond)
        if self._local and not self._token and not _is_loopback(environ.get("HTTP_HOST", "")):
            return _text(respond, "403 Forbidden", "only by the name of this machine itself, such as localhost")
        document = self._once(path, lambda: json.dumps(self._documents[path]()).encode())
        return _body(respond, "200 OK", _JSON, document)

    def _once(self, name: str, render: Callable[[], bytes]) -> bytes:
        """The same for all who ask in one turn of the server: made after each of them came, and after each command."""
        if name not in self._rendered:
            self._rendered[name] = render()
        return self._rendered[name]

    def _command(self, path: str, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        if environ.get("HTTP_X_MICROBATCH_CONTROL") is None:
            return _text(respond, "403 Forbidden", f"the header {CONTROL_HEADER} is missing")
        if origin is not None and urlsplit(origin).netloc != host:
            return _text(respond, "403 Forbidden", "not from pages of another site")
        if self._token and not self._authorized(environ):
            return _unauthorized(respond)
        if not self._token and not (self._local and _is_loopback(host)):
            return _text(
                respond, "403 Forbidden", "only on loopback: set admin.token, or admin.host to 127.0.0.1 and ask there"
            )
        try:
            self._rendered.clear()
            answer = self._commands[path](_pairs(environ.get("QUERY_STRING", "")))
        except ConfigError as error:
            return _text(respond, "400 Bad Request", str(error))
        return _text(respond, "202 Accepted", answer)

    def _authorized(self, environ: dict[str, Any]) -> bool:
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


def _page() -> tuple[bytes, str]:
    """The status page, and the policy that lets it do what it needs and nothing else."""
    page = resources.files("consumer").joinpath("page.html").read_text(encoding="utf-8")
    allowed = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in _PARTS.findall(page)
    }
    policy = (
        f"default-src 'none'; script-src 'sha256-{allowed['script']}'; style-src 'sha256-{allowed['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page.encode(), policy


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise ConfigError("query", None, "has more than 100 parts") from None


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


def _unauthorized(respond: Respond) -> Iterable[bytes]:
    text = b"admin.token is asked for, as `Authorization: Bearer ...`\n"
    return _body(respond, "401 Unauthorized", _PLAIN, text, ("WWW-Authenticate", "Bearer"))


def _text(respond: Respond, status: str, text: str) -> Iterable[bytes]:
    return _body(respond, status, _PLAIN, f"{text}\n".encode())


def _body(respond: Respond, status: str, kind: str, body: bytes, *more: tuple[str, str]) -> Iterable[bytes]:
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
    ]
    respond(status, [*headers, *more])
    return [body]
