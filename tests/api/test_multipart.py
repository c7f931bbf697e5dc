"""Forms come out the same however they are cut, and broken ones are refused in plain words."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from menura.api.multipart import (
    Field,
    FileData,
    FileEnd,
    FileStart,
    FormLimits,
    read_form,
)
from menura.errors import BadRequest, InvalidContentType, MenuraError, SchemaViolation

LIMITS = FormLimits(file_bytes=1000, parts=10, text_bytes=100, idle_timeout=0.2)
TYPE = "multipart/form-data; boundary=xyz"
TEXTS = {"model_id", "name", "seed"}


def part(
    name: str,
    value: bytes,
    filename: str | None = None,
    content_type: str | None = None,
    raw: str | None = None,
) -> bytes:
    disposition = raw or f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = f"Content-Disposition: {disposition}\r\n"
    if content_type:
        head += f"Content-Type: {content_type}\r\n"
    return b"--xyz\r\n" + head.encode() + b"\r\n" + value + b"\r\n"


def read(
    body: bytes | Iterable[bytes],
    content_type: str | None = TYPE,
    limits: FormLimits = LIMITS,
    headers: Sequence[tuple[bytes, bytes]] = (),
    end: str = "end",
) -> list[object]:
    pieces = [body] if isinstance(body, bytes) else list(body)
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if end == "end":
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif end == "gone":
        messages.append({"type": "http.disconnect"})
    every = list(headers)
    if content_type is not None:
        every.append((b"content-type", content_type.encode()))

    async def receive() -> dict[str, object]:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    async def collect() -> list[object]:
        scope = {"headers": every}
        return [event async for event in read_form(scope, receive, limits, {"audio"}, TEXTS)]

    return asyncio.run(collect())


def joined(events: list[object]) -> list[object]:
    """Return the events with neighbouring pieces of a file put together."""
    out: list[object] = []
    for event in events:
        if isinstance(event, FileData) and out and isinstance(out[-1], FileData):
            out[-1] = FileData(out[-1].data + event.data)
        else:
            out.append(event)
    return out


FORM = (
    part("model_id", b"m")
    + part("audio", b"\r\n--xy\x00\r\n-" * 9, "a.wav", "audio/wav")
    + part("seed", b"7")
    + b"--xyz--\r\n"
)
EVENTS = [
    Field("model_id", "m"),
    FileStart("audio", "a.wav"),
    FileData(b"\r\n--xy\x00\r\n-" * 9),
    FileEnd(),
    Field("seed", "7"),
]


@given(st.lists(st.integers(0, len(FORM)), max_size=30))
def test_any_cutting_of_the_body_gives_the_same_parts(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(FORM)]
    pieces = [FORM[a:b] for a, b in itertools.pairwise(edges)]
    assert joined(read(pieces)) == EVENTS


def test_a_byte_at_a_time() -> None:
    assert joined(read(FORM[i : i + 1] for i in range(len(FORM)))) == EVENTS


def test_a_file_is_handed_on_before_the_body_ends() -> None:
    with pytest.raises(ClientDisconnect):
        read(part("audio", b"12345", "a"), end="gone")


def test_audio_without_a_filename_is_a_file() -> None:
    events = read(part("audio", b"raw") + b"--xyz--\r\n")
    assert joined(events) == [FileStart("audio", None), FileData(b"raw"), FileEnd()]


def test_an_empty_file_begins_and_ends() -> None:
    events = read(part("audio", b"", "a") + b"--xyz--\r\n")
    assert events == [FileStart("audio", "a"), FileEnd()]


def test_a_body_without_a_byte_is_an_empty_form() -> None:
    assert read(b"") == []


def test_a_text_with_a_filename_is_a_text() -> None:
    events = read(part("seed", b"7", "seed", "application/octet-stream") + b"--xyz--\r\n")
    assert events == [Field("seed", "7")]


def test_a_text_that_nobody_wants_is_skipped_however_long() -> None:
    other = part("zzz", b"z" * 500)
    assert read(other + part("seed", b"1") + b"--xyz--\r\n") == [Field("seed", "1")]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="Jörg.wav"'.encode(), "Jörg.wav"),
        ('filename="Jörg.wav"'.encode("latin-1"), "Jörg.wav"),
        (b"filename*=UTF-8''J%C3%B6rg.wav", "Jörg.wav"),
        (b"filename*=nonsense''a%20b.wav", "a b.wav"),
        (b"filename*=broken", "broken"),
        (b"x=y", None),
    ],
)
def test_a_file_name_in_any_charset(disposition: bytes, name: str | None) -> None:
    head = b'--xyz\r\nContent-Disposition: form-data; name="audio"; ' + disposition
    events = read(head + b"\r\n\r\nx\r\n--xyz--\r\n")
    assert events == [FileStart("audio", name), FileData(b"x"), FileEnd()]


def test_files_of_other_names_are_skipped_but_count() -> None:
    other = part("picture", b"p" * 900, "p.png")
    assert read(other + part("seed", b"1") + b"--xyz--\r\n") == [Field("seed", "1")]
    assert (
        read(part("p", b"p", raw="form-data; name=p; filename*=utf-8''%e2") + b"--xyz--\r\n") == []
    )
    with pytest.raises(MenuraError, match="at most 1000"):
        read(other + part("audio", b"a" * 200, "a") + b"--xyz--\r\n")


@pytest.mark.parametrize(
    ("value", "charset", "text"),
    [
        ("größe".encode(), None, "größe"),
        ("größe".encode("latin-1"), "iso-8859-1", "größe"),
        ("größe".encode("utf-16"), "UTF-16", "größe"),
    ],
)
def test_text_is_read_in_its_charset(value: bytes, charset: str | None, text: str) -> None:
    kind = f"text/plain; charset={charset}" if charset else None
    assert read(part("name", value, content_type=kind) + b"--xyz--\r\n") == [Field("name", text)]


@pytest.mark.parametrize("charset", ["klingon", "rot13", "hex", "idna", "unicode_escape"])
def test_a_charset_that_is_none_is_a_schema_error(charset: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        read(part("seed", b"7", content_type=f"text/plain; charset={charset}") + b"--xyz--\r\n")
    assert caught.value.location == ("body", "seed")


def test_text_that_does_not_decode_is_a_schema_error() -> None:
    with pytest.raises(SchemaViolation):
        read(part("seed", b"\xff\xfe\xfd") + b"--xyz--\r\n")


def test_nothing_at_all_is_an_empty_form() -> None:
    assert read(b"", content_type=None) == []
    assert read(b"--xyz--\r\n") == []


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 300,
        'multipart/form-data; boundary="ä"',
        "nonsense",
    ],
)
def test_what_is_no_form_is_refused(content_type: str | None) -> None:
    with pytest.raises(InvalidContentType):
        read(FORM, content_type=content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"no boundary here",
        FORM[:-9],
        b"--xyz\r\nContent-Disposition: attachment; name=a\r\n\r\nv\r\n--xyz--\r\n",
        b"--xyz\r\nX: y\r\n\r\nv\r\n--xyz--\r\n",
        b"--xyz\r\nno colon\r\n\r\nv\r\n--xyz--\r\n",
        b"--xyz\r\n" + b"X: y\r\n" * 20 + b"\r\nv\r\n--xyz--\r\n",
        b"--xyz\r\nX: " + b"y" * 10_000 + b"\r\n\r\nv\r\n--xyz--\r\n",
        part("a", b"v") * 11 + b"--xyz--\r\n",
        part("audio", b"abc", "a", "audio/wav\r\nContent-Length: 2") + b"--xyz--\r\n",
    ],
)
def test_broken_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


def test_a_wrong_boundary_is_named() -> None:
    with pytest.raises(BadRequest, match="without its last boundary, '--abc--'"):
        read(FORM, content_type="multipart/form-data; boundary=abc")
    with pytest.raises(InvalidContentType, match="'multipart/form-data' names no boundary"):
        read(FORM, content_type="multipart/form-data")


def test_limits_of_parts_and_headers_are_named() -> None:
    many_parts = part("a", b"v") * 11 + b"--xyz--\r\n"
    many_headers = b"--xyz\r\n" + b"X: y\r\n" * 20 + b"\r\nv\r\n--xyz--\r\n"
    for body in (many_parts, many_headers):
        with pytest.raises(BadRequest, match=r"10 parts, .* 8 headers of 4224 bytes"):
            read(body)


def test_limits_hold_for_length_header_file_field_and_whole() -> None:
    with pytest.raises(MenuraError, match="at most 1000") as caught:
        read(b"", headers=[(b"content-length", b"99999999999")])
    assert caught.value.code == "request_too_large"
    with pytest.raises(MenuraError, match="at most 1000"):
        read(part("audio", b"a" * 1001, "a"))
    with pytest.raises(MenuraError, match="longer than 100"):
        read(part("seed", b"1" * 101))
    with pytest.raises(MenuraError, match="at most 1000"):
        read(b"." * 65536 for _ in range(40))
    with pytest.raises(BadRequest):
        read(b"", headers=[(b"content-length", b"-1")])


def test_no_limit_when_it_is_lifted() -> None:
    lifted = FormLimits(file_bytes=0)
    events = joined(read(part("audio", b"a" * 5000, "a") + b"--xyz--\r\n", limits=lifted))
    assert FileData(b"a" * 5000) in events


def test_an_upload_that_stalls_is_given_up() -> None:
    with pytest.raises(BadRequest, match="stopped"):
        read(part("audio", b"abc", "a"), end="silence")


def test_an_upload_that_trickles_is_given_up() -> None:
    with pytest.raises(BadRequest, match="too slow"):
        read(
            (FORM[i : i + 1] for i in range(len(FORM))),
            limits=FormLimits(file_bytes=0, min_rate=10**12, rate_grace=0.0),
        )
