"""How an event reaches its target: over HTTP, signed, or on the standard input of a program."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from consumer import __version__
from consumer.config.rules import signing_key
from consumer.errors import FatalError, UnavailableError
from consumer.notify.courier import Deliver

_HTTP_SECONDS = 5.0  # for each step: to connect, to send, to wait for the answer
_PROGRAM_SECONDS = 10.0
_AGAIN = {408, 425, 429}  # of the 4xx, those that say nothing about the request


def webhook(name: str, address: str, secret: str | None, clock: Callable[[], float] = time.time) -> Deliver:
    """Posts to this address. With a `secret` a receiver can tell that it is from here, and when it was sent.

    The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` are those of https://www.standardwebhooks.com.
    No redirect is followed: what it leads to is not what was configured.
    """
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    key = None if secret is None else signing_key(secret)
    context = ssl.create_default_context() if parts.scheme == "https" else None

    def deliver(number: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"microbatch/{__version__}"}
        headers |= signed(key, number, int(clock()), body)
        connection: http.client.HTTPConnection
        if context is None:
            connection = http.client.HTTPConnection(host, port, timeout=_HTTP_SECONDS)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=_HTTP_SECONDS, context=context)
        with contextlib.closing(connection):
            try:
                connection.request("POST", target, body, headers)
                with contextlib.closing(connection.getresponse()) as answer:
                    status, after = answer.status, answer.headers.get("Retry-After", "")
            except (OSError, http.client.HTTPException) as error:
                told = getattr(error, "strerror", None) or type(error).__name__
                raise UnavailableError(f"the webhook does not answer: {told}") from None
        _judge(name, status, after)

    return deliver


def signed(key: bytes | None, number: str, seconds: int, body: bytes) -> dict[str, str]:
    """The headers of a request: its id, its time (Unix), and with a key the signature of these and of the body."""
    headers = {"webhook-id": number, "webhook-timestamp": str(seconds)}
    if key is not None:
        digest = hmac.new(key, f"{number}.{seconds}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def program(name: str, command: Sequence[str], seconds: float = _PROGRAM_SECONDS) -> Deliver:
    """Starts this program, without a shell, and gives it the event; it has 10 s, and must end with 0."""

    def deliver(_: str, body: bytes) -> None:
        silent = subprocess.DEVNULL
        try:
            # A session of its own: Ctrl-C on the terminal is not for it, and what it starts can be ended with it.
            process = subprocess.Popen(  # noqa: S603 - the user's own program, from the configuration
                command, stdin=subprocess.PIPE, stdout=silent, stderr=silent, start_new_session=True
            )
        except OSError as error:
            hint = f"Correct {name}.command: the path of a program that this user may run."
            raise FatalError(f"the program cannot be started: {error.strerror}", hint) from None
        with process:
            try:
                process.communicate(body, timeout=seconds)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise UnavailableError(f"the program did not end within {seconds:g} s") from None
        if process.returncode:
            raise UnavailableError(f"the program ended with {process.returncode}")

    return deliver


def _judge(name: str, status: int, after: str) -> None:
    if status < http.client.MULTIPLE_CHOICES:
        return
    if status in _AGAIN or status >= http.client.INTERNAL_SERVER_ERROR:
        raise UnavailableError(f"the webhook answers {status}", float(after) if after.isdecimal() else None)
    if status < http.client.BAD_REQUEST:
        raise FatalError(f"the webhook answers {status}", f"No redirect is followed: put its end at {name}.webhook.")
    raise FatalError(f"the webhook answers {status}", f"Correct {name}.webhook, or what it asks for.")
