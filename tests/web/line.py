"""A line between browser and server that can break without a goodbye."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

PIECE = 1 << 16


class Line:
    """Hands on every connection to a server until it is cut.

    path: below which the server lies here, as below a reverse proxy's.
    """

    def __init__(self, url: str, path: str = "") -> None:
        parts = urlsplit(url)
        self._path = path.encode()
        self._there = parts.hostname or "", parts.port or 80
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._deaf: set[socket.socket] = set()
        self._dead = False
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self._ends += self._deaf
        self.die()

    def cut(self) -> None:
        """Break every connection that there is; new ones are taken."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def vanish(self) -> None:
        """Swallow what comes over every connection that there is, and tell neither side."""
        self._deaf.update(self._ends)
        self._ends = []

    def die(self) -> None:
        """Break every connection, and every new one until it is mended."""
        self._dead = True
        self.cut()

    def mend(self) -> None:
        """Take new connections again."""
        self._dead = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self._dead:
                    here.close()
                    continue
                there = socket.create_connection(self._there)
                self._ends += [here, there]
                if self._dead:
                    self.cut()
                    continue
                for pair in ((here, there, self._path), (there, here, b"")):
                    threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, giver: socket.socket, taker: socket.socket, path: bytes) -> None:
        with suppress(OSError):
            while data := giver.recv(PIECE):
                if giver in self._deaf:
                    continue
                taker.sendall(data.replace(b" " + path + b"/", b" /", 1) if path else data)
        with suppress(OSError):
            taker.shutdown(socket.SHUT_WR)
