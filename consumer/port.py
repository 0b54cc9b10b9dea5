"""Connections to the admin port, at little cost to the rest of the process, however many come and whatever they do.

One thread does it all, in turns: it takes what has come, answers it, and rests. So nobody wakes it more than 50 times a
second, and whoever works beside it seldom waits for the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.wasyncore import close_all, poll2, read  # type: ignore[import-untyped]

_GUESTS, _CHANNELS = 200, 50
_AT_ONCE = 64  # connections taken in one turn
_HEAD_BYTES = 8192
_BUFFER_BYTES = 16384  # of the system, for what a connection has said and nobody has read; else it is megabytes
_PATIENCE_SECONDS = 10
_REST_SECONDS = 0.02
_SHARE, _SAVED_SECONDS = 0.02, 0.1
_HEAD_ENDS = b"\r\n\r\n"
_REFUSAL = "HTTP/1.1 {}\r\n{}Connection: close\r\nContent-Length: 0\r\n\r\n"
_CROWDED = _REFUSAL.format("503 Service Unavailable", "Retry-After: 1\r\n").encode()
_LATE = _REFUSAL.format("408 Request Timeout", "").encode()
Answer = Callable[[dict[str, Any], Callable[[str, list[tuple[str, str]]], Any]], Iterable[bytes]]


@dataclass
class _Guest:
    """A connection that has not asked for anything yet; `heard`: what is there of its request."""

    connection: socket.socket
    address: Any
    since: float  # by the monotonic clock
    heard: bytearray = field(default_factory=bytearray)


class _Hall:
    """Where connections wait until their request's head is there: most of an attack ends here, and costs little.

    Beyond _GUESTS the one that has waited longest goes. `admit` takes those that have asked. Waited for as one of
    waitress' own connections is, whose methods it has.
    """

    accepting = False

    def __init__(self, admit: Callable[[_Guest], None]) -> None:
        self._admit = admit
        self._selector = selectors.DefaultSelector()
        self._guests: dict[int, _Guest] = {}  # the one that came first is first

    def __len__(self) -> int:
        return len(self._guests)

    def fileno(self) -> int:
        """Ready when a guest has said something."""
        return self._selector.fileno()  # epoll and kqueue have one

    def enter(self, guest: _Guest) -> None:
        """One more."""
        if len(self._guests) >= _GUESTS:
            self._dismiss(next(iter(self._guests.values())), _CROWDED)
        self._guests[guest.connection.fileno()] = guest
        self._selector.register(guest.connection, selectors.EVENT_READ, guest)

    def dismiss_before(self, since: float) -> None:
        """Those who came before then have had their time."""
        for guest in [guest for guest in self._guests.values() if guest.since < since]:
            self._dismiss(guest, _LATE)

    def readable(self) -> bool:
        """See wasyncore.dispatcher."""
        return True

    def writable(self) -> bool:
        """See wasyncore.dispatcher."""
        return False

    def handle_read_event(self) -> None:
        """See wasyncore.dispatcher."""
        for key, _ in self._selector.select(0):
            self._listen(key.data)

    def close(self) -> None:
        """Everybody goes."""
        for guest in list(self._guests.values()):
            self._dismiss(guest)
        self._selector.close()

    def _listen(self, guest: _Guest) -> None:
        try:
            said = guest.connection.recv(_HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._dismiss(guest)
            return
        guest.heard += said
        if _HEAD_ENDS in guest.heard or len(guest.heard) >= _HEAD_BYTES:
            self._forget(guest)
            self._admit(guest)

    def _dismiss(self, guest: _Guest, reason: bytes = b"") -> None:
        self._forget(guest)
        with contextlib.suppress(OSError):
            guest.connection.send(reason)
        guest.connection.close()

    def _forget(self, guest: _Guest) -> None:
        self._selector.unregister(guest.connection)
        del self._guests[guest.connection.fileno()]


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that has asked; what was `heard` before is read first."""

    heard = b""

    def recv(self, size: int) -> bytes:
        """See wasyncore.dispatcher."""
        heard, self.heard = self.heard, b""
        return heard or super().recv(size)


class _Queue:
    """Stands for waitress' threads: who asked is answered in the loop's own thread, once what it got before is read."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()

    def add_task(self, channel: Any) -> None:
        """See waitress.task.ThreadedTaskDispatcher."""
        self._waiting.append(channel)

    def serve(self) -> None:
        """Answer a request of each."""
        for _ in range(len(self._waiting)):
            channel = self._waiting.popleft()
            if channel.total_outbufs_len:
                self._waiting.append(channel)
            else:
                channel.service()


class _Allowance:
    """Processor time of this thread: _SHARE of what passes, and at most _SAVED_SECONDS of it kept for later."""

    def __init__(self) -> None:
        self._left, self._at, self._used = _SAVED_SECONDS, time.monotonic(), time.thread_time()

    def rest(self) -> float:
        """How long to rest, in seconds, so that no more is used than allowed."""
        at, used = time.monotonic(), time.thread_time()
        earned = min(_SAVED_SECONDS, self._left + (at - self._at) * _SHARE)
        self._left, self._at, self._used = earned - (used - self._used), at, used
        return max(_REST_SECONDS, -self._left / _SHARE)


class PortServer(TcpWSGIServer):  # type: ignore[misc]
    """Answers requests at a listening socket, one after the other: `run` does, in whatever thread calls it.

    `turn` is called before the requests of each turn are answered. At most _GUESTS connections wait for their request
    to come and _CHANNELS for more; when there are too many, those that did nothing for longest go.
    """

    channel_class = _Channel

    def __init__(self, answer: Answer, listening: socket.socket, turn: Callable[[], None]) -> None:
        self._hall, self._queue, self._turn, self._ended = _Hall(self._admit), _Queue(), turn, threading.Event()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        super().__init__(
            answer,
            {},
            _sock=listening,
            dispatcher=self._queue,
            bind_socket=False,
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            cleanup_interval=1,
            max_request_header_size=_HEAD_BYTES,
            max_request_body_size=1024,
            # This thread must not wait for somebody to read.
            outbuf_high_watermark=1 << 40,
            ident=None,
            clear_untrusted_proxy_headers=True,
        )
        self._map[self._hall.fileno()] = self._hall

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._hall) + len(self.active_channels)

    def run(self) -> None:
        """Serve until `stop`."""
        allowance = _Allowance()
        while not self._ended.wait(allowance.rest()):
            poll2(1.0, self._map)
            self._turn()
            self._queue.serve()

    def stop(self) -> None:
        """May be called from any thread."""
        self._ended.set()
        self.pull_trigger()

    def disconnect(self) -> None:
        """Close every connection; after `run`."""
        close_all(self._map, ignore_all=True)

    def handle_accept(self) -> None:
        """See wasyncore.dispatcher."""
        with contextlib.suppress(OSError):
            for _ in range(_AT_ONCE):
                if (accepted := self.accept()) is None:
                    break
                connection, address = accepted
                connection.setblocking(False)
                self._hall.enter(_Guest(connection, address, time.monotonic()))
        # Most have asked by now, and need not wait for the next turn.
        self._hall.handle_read_event()

    def maintenance(self, now: float) -> None:
        """See BaseWSGIServer: also of those that do not read what they asked for."""
        self._hall.dismiss_before(time.monotonic() - _PATIENCE_SECONDS)
        for channel in list(self.active_channels.values()):
            if channel.last_activity < now - _PATIENCE_SECONDS:
                channel.handle_close()

    def _admit(self, guest: _Guest) -> None:
        if len(self.active_channels) >= _CHANNELS:
            min(self.active_channels.values(), key=lambda channel: channel.last_activity).handle_close()
        try:
            self.set_socket_options(guest.connection)
        except OSError:
            guest.connection.close()
            return
        channel = self.channel_class(self, guest.connection, guest.address, self.adj, map=self._map)
        channel.heard = bytes(guest.heard)
        read(channel)
