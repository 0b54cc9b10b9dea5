"""A broker behind a proxy, whose metadata can be made to name none, as they do for a moment while brokers start."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

_LENGTH = struct.Struct(">i")


class Nameless:
    """Passes connections to `bootstrap` on to the broker there, the only one of its cluster and of node id 1.

    Clients find it at this address ever after: what the broker says of itself is rewritten. While `hides`, metadata
    name no broker; `hidden` counts those answers.
    """

    def __init__(self, bootstrap: str) -> None:
        self.hides, self.hidden = False, 0
        host, port = bootstrap.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        own = self._listener.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{own}"
        self._real, self._own = _LENGTH.pack(int(port)), _LENGTH.pack(own)
        # As in Metadata from version 9 on: an array of one, id, host, port, no rack, no tagged fields.
        name = b"127.0.0.1"
        self._named = b"\2" + _LENGTH.pack(1) + bytes([len(name) + 1]) + name + self._own + b"\0\0"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """No new connections; those there are end with their client's or the broker's end."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._target) as server:
            answering = threading.Thread(target=self._answer, args=[server, client], daemon=True)
            answering.start()
            with suppress(OSError):
                while data := client.recv(1 << 16):
                    server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            answering.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError), server.makefile("rb") as answers:
            while head := answers.read(_LENGTH.size):
                answer = self._told(answers.read(*_LENGTH.unpack(head)))
                client.sendall(_LENGTH.pack(len(answer)) + answer)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _told(self, answer: bytes) -> bytes:
        answer = answer.replace(self._real, self._own)
        if self.hides and self._named in answer:
            self.hidden += 1
            return answer.replace(self._named, b"\1")
        return answer
