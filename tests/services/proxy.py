"""A TCP proxy that fails on purpose, for tests of what a network or a server does at its worst."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: the peer sees a reset, and nothing more is sent


class Proxy:
    """Passes connections to its `port` on loopback on to `host` and `port`, until it is told otherwise.

    `inspect` is called with all that passes, and whether it goes to the server; what it answers False to is swallowed.
    It runs in the connection's own threads and may call the methods here, which any thread may. `delay`: how many
    seconds everything is on its way, in each direction.
    """

    def __init__(self, host: str, port: int, delay: float = 0) -> None:
        self._delay = delay
        self.inspect: Callable[[bytes, bool], bool] = lambda data, to_server: True
        self._target = (host, port)
        self._sockets: set[socket.socket] = set()
        self._flows, self._accepts = threading.Event(), True
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def hang(self) -> None:
        """A black hole: nothing passes in either direction, and nobody is told; new connections hang too."""
        self._flows.clear()

    def release(self) -> None:
        """The end of `hang`: what was sent meanwhile passes."""
        self._flows.set()

    def refuse(self) -> None:
        """New connections are reset at once; those there are go on."""
        self._accepts = False

    def accept(self) -> None:
        """The end of `refuse`."""
        self._accepts = True

    def cut(self) -> None:
        """Reset all connections, on both sides, also while they hang."""
        for each in list(self._sockets):
            self._abort(each)

    def close(self) -> None:
        """The end of everything."""
        self._accepts = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake the thread that accepts
        self._listener.close()
        self.cut()
        self._flows.set()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._accepts:
                    threading.Thread(target=self._connect, args=[client], daemon=True).start()
                else:
                    self._abort(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            self._abort(client)
            return
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small pieces do not wait for one another
        self._sockets |= {client, server}
        threading.Thread(target=self._pump, args=[server, client, False], daemon=True).start()
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool) -> None:
        send = self._delayed(sink) if self._delay else sink.sendall
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                if self.inspect(data, to_server):
                    send(data)
        with suppress(OSError):
            send(b"")
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the other direction's thread
            each.close()
            self._sockets.discard(each)

    def _delayed(self, sink: socket.socket) -> Callable[[bytes], None]:
        """A way to send that keeps each piece for its time, and does not keep the next one waiting."""
        under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

        def deliver() -> None:
            with suppress(OSError):
                while (found := under_way.get())[1]:
                    time.sleep(max(0, found[0] - time.monotonic()))
                    sink.sendall(found[1])

        threading.Thread(target=deliver, daemon=True).start()
        return lambda data: under_way.put((time.monotonic() + self._delay, data))

    def _abort(self, each: socket.socket) -> None:
        with suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.shutdown(socket.SHUT_RD)  # wakes the thread that reads, which would keep the socket open
        each.close()
        self._sockets.discard(each)
