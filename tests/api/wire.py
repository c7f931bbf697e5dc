"""A client that decides about every byte: pace, order, framing, and when to vanish."""

import json
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

BOUNDARY = "----menura-test"
PLAIN = "pass_through"
"""Model id of conversions that leave the voice as it is, where `plain_model` is used."""
Part = tuple[str, str | bytes]

VOICE = "JBFqnCBsd6RMkjVDRZzb"
STREAM = f"/v1/speech-to-speech/{VOICE}/stream"
CONVERT = f"/v1/speech-to-speech/{VOICE}"


def form(*parts: Part) -> bytes:
    """Return a multipart body; bytes are files, text is text."""
    pieces = []
    for name, value in parts:
        pieces.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"')
        if isinstance(value, bytes):
            pieces.append('; filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n')
        else:
            pieces.append("\r\n\r\n")
        pieces += [value, "\r\n"]
    pieces.append(f"--{BOUNDARY}--\r\n")
    return b"".join(p if isinstance(p, bytes) else p.encode() for p in pieces)


@dataclass
class Reply:
    """What came back. `complete`: whether the transfer ended as it must."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, url: str, api_key: str, timeout: float = 60) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout)
        self._key = api_key
        self._received = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self, path: str, *headers: str, length: int | None = None) -> None:
        """Send a request's head; chunked when no length is given."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: test",
            f"xi-api-key: {self._key}",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}",
            *headers,
        ]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body; an empty one ends it."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def chunks(self, pieces: Iterable[bytes]) -> None:
        """Send a whole chunked body."""
        for piece in pieces:
            if piece:
                self.chunk(piece)
        self.chunk(b"")

    def line(self) -> bytes:
        """Return one line of the answer, without its end."""
        return self._until(b"\r\n")

    def reply_head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of the answer."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        return int(head[0].split()[1]), headers

    def body_piece(self) -> bytes:
        """Return one chunk of a chunked answer, b"" at its end."""
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size)
        self._exactly(2)
        return data

    def rest(self) -> bytes:
        """Return the remaining chunks. Raises EOFError where the answer breaks off."""
        pieces = []
        while piece := self.body_piece():
            pieces.append(piece)
        return b"".join(pieces)

    def reply(self) -> Reply:
        """Return the rest of the answer, whole or not."""
        status, headers = self.reply_head()
        pieces = []
        try:
            if "content-length" in headers:
                pieces.append(self._exactly(int(headers["content-length"])))
            else:
                while piece := self.body_piece():
                    pieces.append(piece)
        except (EOFError, ConnectionResetError, ValueError):
            return Reply(status, headers, b"".join(pieces), False)
        return Reply(status, headers, b"".join(pieces), True)

    def closed_by_server(self) -> bool:
        """Wait for the end of the connection; whether it came without another byte."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def answered_within(self, seconds: float) -> bool:
        """Wait so long at most for the answer; whether anything of it is here."""
        return bool(self._received or select.select([self._socket], [], [], seconds)[0])

    def close(self) -> None:
        """Vanish."""
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._more()
        found, _, self._received = self._received.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        pieces = [self._received[:size]]
        self._received = self._received[size:]
        missing = size - len(pieces[0])
        while missing:
            data = self._socket.recv(min(missing, 1 << 20))
            if not data:
                raise EOFError
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def _more(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise EOFError
        self._received += data
