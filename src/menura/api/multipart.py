"""`multipart/form-data` parsed while it arrives, from raw ASGI messages.

Nothing waits for the whole body: a field is known as soon as its part ends, and the bytes of a file
are handed on as they come in. Every dimension has a limit, and an upload that stalls is given up.
"""

import asyncio
import codecs
import time
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from email.message import Message
from typing import Any

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from menura.errors import (
    BadRequest,
    InvalidContentType,
    RequestTooLarge,
    SchemaViolation,
    shown,
)
from menura.settings import Settings

_NOT_CHARSETS = frozenset(
    {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}
)
_OVERHEAD = 1_048_576
_HEADER_CHARSET = "latin-1"
_HEADERS = 8
_HEADER_BYTES = 4224


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What one form may hold.

    file_bytes: all files together; 0 lifts the limit. parts: fields and files. text_bytes: one
    text field. idle_timeout: seconds without a byte. min_rate: bytes per second on average after
    rate_grace seconds.
    """

    file_bytes: int
    parts: int = 128
    text_bytes: int = 65_536
    idle_timeout: float = 30.0
    min_rate: int = 0
    rate_grace: float = 60.0

    @classmethod
    def of(cls, settings: Settings, file_bytes: int | None = None) -> "FormLimits":
        """Return the limits the settings give; `file_bytes` replaces `max_upload_bytes`."""
        return cls(
            file_bytes=settings.max_upload_bytes if file_bytes is None else file_bytes,
            idle_timeout=settings.upload_idle_timeout,
            min_rate=settings.upload_min_rate,
            rate_grace=settings.upload_rate_grace,
        )


def form_document(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a route that takes a form of these parts."""
    schema = {"type": "object", "required": required, "properties": properties}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


@dataclass(frozen=True, slots=True)
class Field:
    """A whole text field."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins. `filename` is what the client claims, or None."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class FileData:
    """Some bytes of the file that began last, at least one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file that began last is complete."""


Event = Field | FileStart | FileData | FileEnd


async def read_form(
    scope: Scope,
    receive: Receive,
    limits: FormLimits,
    files: Collection[str],
    texts: Collection[str],
) -> AsyncGenerator[Event, None]:
    """Yield the parts of a form as they arrive.

    files, texts: names of the parts that are wanted, with or without a filename: clients add one to
    texts, too, and leave it away from files. Others are skipped, but count. An empty body is an
    empty form. Each name may be repeated; the caller decides what that means.

    Raises InvalidContentType, BadRequest (broken or stalled), RequestTooLarge, SchemaViolation (a
    text that does not decode), and ClientDisconnect.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    length = _content_length(headers.get(b"content-length"))
    if limits.file_bytes and length > limits.file_bytes + _OVERHEAD:
        raise _too_large(length, limits)
    content_type = headers.get(b"content-type")
    body = _Body(receive, limits)
    if not content_type:
        if await body.read():
            raise InvalidContentType("The request has no Content-Type; send multipart/form-data.")
        return
    parser = _parser(content_type, limits)
    parts = _Parts(files, texts, limits)
    try:
        while chunk := await body.read():
            for piece in parser.parse(chunk):
                event = parts.take(piece)
                if event is not None:
                    yield event
        if body.count:
            _finish(parser)
    except ParserLimitReached as error:
        raise BadRequest(
            f"The form exceeds a limit ({error}): it may have {limits.parts} parts, and each of "
            f"them {_HEADERS} headers of {_HEADER_BYTES} bytes."
        ) from None
    except MultipartError as error:
        raise BadRequest(f"The multipart body is broken: {error.args[0]}.") from None


class _Parts:
    """The parts of one form, put together from what the parser finds, within the form's limits."""

    def __init__(self, files: Collection[str], texts: Collection[str], limits: FormLimits) -> None:
        self._files = files
        self._texts = texts
        self._limits = limits
        self._name = ""
        self._charset: str | None = None
        self._text = bytearray()
        self._bytes = 0
        """All that is no wanted text: of files, and of what is skipped."""

    def take(self, piece: MultipartSegment | bytearray | None) -> Event | None:
        """Return what a header, some bytes, or the end (None) of a part comes to, if anything.

        Raises RequestTooLarge and SchemaViolation.
        """
        if piece is None:
            return self._end()
        if isinstance(piece, MultipartSegment):
            return self._begin(piece)
        if self._is_text:
            self._add_text(piece)
            return None
        return self._add_bytes(piece)

    @property
    def _is_file(self) -> bool:
        return self._name in self._files

    @property
    def _is_text(self) -> bool:
        return self._name in self._texts and not self._is_file

    def _begin(self, header: MultipartSegment) -> Event | None:
        self._name = _said(header.name or "")
        self._charset = header.charset
        self._text.clear()
        if self._is_file:
            return FileStart(self._name, _file_name(header))
        return None

    def _add_text(self, data: bytearray) -> None:
        self._text += data
        if len(self._text) > self._limits.text_bytes:
            name = self._name[:64]
            raise RequestTooLarge(
                f"Field {name} is longer than {self._limits.text_bytes} bytes.", param=name
            )

    def _add_bytes(self, data: bytearray) -> Event | None:
        self._bytes += len(data)
        if self._limits.file_bytes and self._bytes > self._limits.file_bytes:
            raise _too_large(self._bytes, self._limits)
        return FileData(bytes(data)) if self._is_file else None

    def _end(self) -> Event | None:
        if self._is_file:
            return FileEnd()
        if self._is_text:
            return Field(self._name, _decode(self._name, bytes(self._text), self._charset))
        return None


class _Body:
    """The body of one request, watched for stalls."""

    def __init__(self, receive: Receive, limits: FormLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._began = time.monotonic()
        self.count = 0
        """Bytes that have been read."""
        self._more = True

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises ClientDisconnect and BadRequest."""
        while self._more:
            try:
                async with asyncio.timeout(self._limits.idle_timeout):
                    message = await self._receive()
            except TimeoutError:
                raise BadRequest(
                    f"The upload stopped: no byte for {self._limits.idle_timeout:g} seconds."
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            data: bytes = message.get("body", b"")
            self.count += len(data)
            if self._limits.file_bytes and self.count > self._limits.file_bytes + _OVERHEAD:
                raise _too_large(self.count, self._limits)
            elapsed = time.monotonic() - self._began
            if self._more and elapsed > self._limits.rate_grace:
                rate = self.count / elapsed
                if rate < self._limits.min_rate:
                    raise BadRequest(
                        f"The upload is too slow: {rate:.0f} bytes per second where at least "
                        f"{self._limits.min_rate} are needed."
                    )
            if data:
                return data
        return b""


def _content_length(value: str | None) -> int:
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) < 20):
        raise BadRequest(f"Content-Length {value[:40]!r} is not a number of bytes.")
    return int(value)


def _parser(content_type: str, limits: FormLimits) -> PushMultipartParser:
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise InvalidContentType(
            f"Content-Type {kind[:80]!r} is not supported here; send multipart/form-data."
        )
    boundary = options.get("boundary", "")
    if not boundary:
        raise InvalidContentType(
            f"Content-Type {content_type[:80]!r} names no boundary; HTTP clients add one where "
            "this header is left to them."
        )
    if len(boundary) > 200 or not boundary.isascii() or not boundary.isprintable():
        raise InvalidContentType(
            f"The multipart boundary {shown(boundary)} is not usable: it may have 200 printable "
            "ASCII characters."
        )
    # Any bytes are text in this charset: what they mean is decided name by name.
    return PushMultipartParser(
        boundary,
        max_segment_count=limits.parts,
        max_header_count=_HEADERS,
        max_header_size=_HEADER_BYTES,
        header_charset=_HEADER_CHARSET,
    )


def _finish(parser: PushMultipartParser) -> None:
    """Raise BadRequest unless the last boundary has come. Where the header names a wrong one, this
    is often all that shows it."""
    try:
        parser.close()
    except MultipartError:
        last = shown(b"--" + parser.boundary + b"--")
        raise BadRequest(f"The multipart body ends without its last boundary, {last}.") from None


def _said(text: str) -> str:
    """Return what a part's header says: UTF-8 where it is that, else Latin-1."""
    try:
        return text.encode(_HEADER_CHARSET).decode("utf-8")
    except UnicodeDecodeError:
        return text


def _file_name(part: MultipartSegment) -> str | None:
    """Return the name that a part claims, also where it is given as RFC 5987 has it."""
    if part.filename is not None:
        return _said(part.filename)
    header = Message()
    header["Content-Disposition"] = part.header("Content-Disposition", "")
    return header.get_filename()


def _too_large(size: int, limits: FormLimits) -> RequestTooLarge:
    return RequestTooLarge(
        f"The upload has {size} bytes or more; at most {limits.file_bytes} are accepted."
    )


def _decode(name: str, data: bytes, charset: str | None) -> str:
    charset = charset or "utf-8"
    location = ("body", name[:64])
    try:
        codec = codecs.lookup(charset[:40])
    except (LookupError, ValueError):
        codec = None
    if (
        codec is None
        or codec.name.replace("-", "_") in _NOT_CHARSETS
        or not codec._is_text_encoding
    ):
        raise SchemaViolation(location, f"charset {charset[:40]!r} is not known", "unknown_charset")
    try:
        return codec.decode(data, "strict")[0]
    except ValueError:
        raise SchemaViolation(
            location, f"the value is not valid {codec.name}", "undecodable_text"
        ) from None
