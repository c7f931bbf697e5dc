"""Bytes arrive whole and in order, however they were cut, and nothing waits for ever."""

import io
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.full import no_file_beyond

from menura.conversion.spool import Spool, SpoolAborted
from menura.errors import Unavailable


@given(
    pieces=st.lists(st.binary(max_size=50), max_size=20),
    memory=st.sampled_from([None, 0, 1, 17, 1000]),
    step=st.integers(1, 60),
)
def test_reads_back_what_was_written_in_any_chunking(
    pieces: list[bytes], memory: int | None, step: int
) -> None:
    spool = Spool(memory)
    for piece in pieces:
        spool.append(piece)
    spool.finish()
    reader = spool.reader()
    read = []
    while data := reader.read(step):
        read.append(data)
    spool.abort()
    assert b"".join(read) == b"".join(pieces)


def test_a_reader_waits_for_the_writer_and_ends_with_it() -> None:
    spool = Spool(10)
    got: list[bytes] = []

    def read() -> None:
        reader = spool.reader()
        while data := reader.read(7):
            got.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(100):
        spool.append(bytes([number]) * 3)
    spool.finish()
    thread.join(60)
    assert not thread.is_alive()
    assert b"".join(got) == b"".join(bytes([number]) * 3 for number in range(100))
    spool.abort()


def test_abort_wakes_readers_wherever_they_wait() -> None:
    spool = Spool(None)
    outcomes: list[str] = []

    def attempt(action: str) -> None:
        reader = spool.reader()
        try:
            if action == "read":
                while reader.read(1):
                    pass
            elif action == "seek":
                reader.seek(0, io.SEEK_END)
            else:
                spool.append(b"xx")
                spool.wait_until_dropped(1)
        except SpoolAborted:
            outcomes.append(action)

    threads = [
        threading.Thread(target=attempt, args=(name,), daemon=True)
        for name in ("read", "seek", "drop")
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    spool.abort()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["drop", "read", "seek"]
    with pytest.raises(SpoolAborted):
        spool.reader().read(1)


def test_seeking_from_the_end_waits_until_the_size_is_known() -> None:
    spool = Spool(4)
    spool.append(b"0123456789")
    threading.Timer(0.05, spool.finish).start()
    reader = spool.reader()
    assert reader.seek(-3, io.SEEK_END) == 7
    assert reader.read() == b"789"
    assert reader.seek(-5, io.SEEK_CUR) == 5
    assert reader.read(2) == b"56"
    spool.abort()


def test_beyond_its_memory_it_uses_a_file_without_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(100)
    spool.append(b"x" * 100)
    assert not spool.on_disk
    spool.append(b"y")
    assert spool.on_disk
    if os.name == "posix":
        assert list(tmp_path.iterdir()) == []
    assert spool.read_at(99, 10) == b"xy"
    spool.abort()
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_dropped_bytes_free_memory_and_the_rest_stays() -> None:
    spool = Spool(None)
    spool.append(b"abcdef")
    spool.drop(4)
    spool.append(b"gh")
    assert spool.read_at(4, 10) == b"efgh"
    assert spool.size == 8
    with pytest.raises(ValueError, match="dropped"):
        spool.read_at(0, 1)
    spool.abort()


def test_dropping_does_not_shift_what_goes_to_a_file() -> None:
    spool = Spool(4)
    spool.append(b"abc")
    spool.drop(2)
    spool.append(b"defg")
    assert spool.on_disk
    assert spool.read_at(2, 10) == b"cdefg"
    spool.abort()


def test_waiting_is_announced_only_when_there_is_nothing_to_read() -> None:
    waits: list[str] = []

    class Waiting:
        def __enter__(self) -> None:
            waits.append("waits")
            spool.finish()

        def __exit__(self, *exc_info: object) -> None:
            waits.append("goes on")

    spool = Spool(None)
    spool.append(b"abc")
    reader = spool.reader(Waiting)
    assert reader.read(10) == b"abc"
    assert waits == []
    assert reader.would_wait
    assert reader.read(10) == b""
    assert waits == ["waits", "goes on"]


def test_an_aborted_spool_takes_no_more() -> None:
    spool = Spool(None)
    changes: list[int] = []
    spool.listen(lambda: changes.append(spool.size))
    spool.append(b"ab")
    spool.abort()
    spool.append(b"cd")
    spool.finish()
    assert not spool.finished
    assert changes == [2, 2]


def test_bytes_there_is_no_room_for_are_refused() -> None:
    spool = Spool(memory=1000)
    spool.append(b"a" * 900)
    with no_file_beyond(5000), pytest.raises(Unavailable, match="no room"):
        spool.append(b"b" * 10_000)
    spool.abort()
