"""Streams that run at once are spread over processes, and nobody hears that."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from menura.conversion.lanes import Lanes, Seat
from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE, ConversionSettings, Samples
from menura.engine.registry import NEURAL_MODEL, SOURCE_FILTER_MODEL, engine_for
from menura.engine.source_filter import SourceFilterEngine
from menura.errors import Unavailable

from ..sounds import tone

ENGINE = engine_for(SOURCE_FILTER_MODEL)
VOICE = ENGINE.measure([tone(6.0, SAMPLE_RATE)]).voice
LIVE = LATENCY_PROFILES[3]


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes(cores=2, processes=3)
    yield made
    made.close()


def opened(seat: Seat, engine=ENGINE, voice=VOICE, level=3):
    return seat.stream(engine, voice, ConversionSettings(), LATENCY_PROFILES[level], 7)


def converted(seat: Seat, source: Samples, engine=ENGINE, voice=VOICE, level=3) -> Samples:
    stream, chunk = opened(seat, engine, voice, level), LATENCY_PROFILES[level].chunk
    made = []
    for at in range(0, source.size, chunk):
        with seat.cores.turn():
            made.append(stream.push(source[at : at + chunk]))
    made.append(stream.flush())
    seat.leave()
    return np.concatenate(made)


def elsewhere(lanes: Lanes) -> Seat:
    """Return a seat in another process, this one being taken."""
    opened(lanes.seat(ENGINE)).push(tone(0.1, SAMPLE_RATE))
    return lanes.seat(ENGINE)


def pid_of(seat: Seat) -> int:
    process = seat.lane().process
    assert process is not None
    return process.pid


def processes(lanes: Lanes) -> list[int]:
    return [lane.process.pid for lane in lanes.all if lane.process is not None]


@pytest.mark.parametrize(("model", "level"), [(SOURCE_FILTER_MODEL, 3), (NEURAL_MODEL, 0)])
def test_streams_at_once_give_what_each_gives_alone(lanes, model, level):
    engine = engine_for(model)
    voice = engine.measure([tone(6.0, SAMPLE_RATE)]).voice
    sources = [tone(1.5 + 0.1 * number, SAMPLE_RATE) for number in range(5)]
    alone = [converted(lanes.seat(ENGINE), source, engine, voice, level) for source in sources]
    assert not processes(lanes)
    together: dict[int, Samples] = {}
    begun = threading.Barrier(len(sources))

    def run(number: int) -> None:
        seat = lanes.seat(ENGINE)
        seat.lane()
        begun.wait()
        together[number] = converted(seat, sources[number], engine, voice, level)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(processes(lanes)) == 3
    for number, source in enumerate(alone):
        np.testing.assert_array_equal(together[number], source)


def test_a_process_is_ready_before_a_stream_needs_it(lanes):
    lanes.prepare()
    (first,) = processes(lanes)
    seats = [lanes.seat(ENGINE) for _ in range(3)]
    assert seats[0].lane().process is None
    assert pid_of(seats[1]) == first
    _, second = processes(lanes)
    assert pid_of(seats[2]) == second


def test_streams_that_come_while_processes_start_are_spread_evenly(lanes):
    seats = [lanes.seat(ENGINE) for _ in range(7)]
    threads = [threading.Thread(target=seat.lane) for seat in seats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lane.streams for lane in lanes.all] == [1, 2, 2, 2]


def test_where_no_process_can_be_started_all_streams_stay(lanes, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", os.devnull)
    seats = [lanes.seat(ENGINE) for _ in range(5)]
    assert all(seat.lane().process is None for seat in seats)
    assert "cannot be started" in caplog.text
    source = tone(0.5, SAMPLE_RATE)
    expected = converted(Lanes(2, 1).seat(ENGINE), source)
    np.testing.assert_array_equal(converted(seats[-1], source), expected)


def test_after_a_failed_start_none_is_tried_for_a_while_and_then_one_is(lanes, monkeypatch, caplog):
    monkeypatch.setattr("menura.conversion.lanes.RETRY_SECONDS", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", os.devnull)
        lanes.prepare()
        while "cannot be started" not in caplog.text:
            time.sleep(0.01)
        failed = time.monotonic()
    assert elsewhere(lanes).lane().process is None or time.monotonic() - failed > 0.9
    time.sleep(1.0)
    assert lanes.seat(ENGINE).lane().process is not None


def test_a_stream_changes_its_voice_in_another_process_as_in_this_one(lanes):
    other = ENGINE.measure([tone(6.0, SAMPLE_RATE)[::-1].copy()]).voice
    source = tone(1.0, SAMPLE_RATE)

    def changed(seat: Seat) -> Samples:
        stream = opened(seat)
        half = source.size // 2
        made = [stream.push(source[:half])]
        stream.change(other, ConversionSettings(stability=0.1))
        return np.concatenate([*made, stream.push(source[half:]), stream.flush()])

    here, there = lanes.seat(ENGINE), lanes.seat(ENGINE)
    expected, made = changed(here), changed(there)
    assert there.lane().process is not None
    np.testing.assert_array_equal(made, expected)


def test_an_engine_of_ones_own_stays_in_this_process(lanes):
    own, source = SourceFilterEngine(), tone(0.5, SAMPLE_RATE)
    expected = converted(lanes.seat(ENGINE), source)
    opened(lanes.seat(ENGINE)).push(source)
    np.testing.assert_array_equal(converted(lanes.seat(own), source, own), expected)
    assert not processes(lanes)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_who_loses_a_process_is_told_and_the_next_one_gets_another(lanes, caplog):
    lost = elsewhere(lanes)
    stream = opened(lost)
    stream.push(tone(0.1, SAMPLE_RATE))
    pid = pid_of(lost)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Unavailable):
        stream.push(tone(0.1, SAMPLE_RATE))
    assert f"ended with -{signal.SIGKILL:d}" in caplog.text
    lost.leave()
    source = tone(0.5, SAMPLE_RATE)
    made = converted(lanes.seat(ENGINE), source)
    assert pid not in processes(lanes)
    np.testing.assert_array_equal(made, converted(Lanes(2, 1).seat(ENGINE), source))


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes as Linux")
def test_a_process_that_ended_before_it_was_needed_is_replaced(lanes):
    lanes.prepare()
    (idle,) = processes(lanes)
    os.kill(idle, signal.SIGKILL)
    while _lives(idle):
        time.sleep(0.01)
    source = tone(0.5, SAMPLE_RATE)
    made = converted(elsewhere(lanes), source)
    assert idle not in processes(lanes)
    np.testing.assert_array_equal(made, converted(Lanes(2, 1).seat(ENGINE), source))


def test_what_goes_wrong_in_another_process_is_told_and_ends_that_stream_alone(lanes):
    there = elsewhere(lanes)
    stream, analysis = opened(there), there.analysis(ENGINE, LIVE)
    with pytest.raises(RuntimeError, match="Traceback"):
        analysis.push("no samples")
    assert stream.push(tone(0.2, SAMPLE_RATE)).size


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory as Linux tells it")
def test_streams_that_have_left_keep_nothing_in_their_process(lanes):
    opened(lanes.seat(ENGINE)).push(tone(0.1, SAMPLE_RATE))
    sizes = []
    for _ in range(60):
        seat = lanes.seat(ENGINE)
        opened(seat, level=0).push(tone(1.0, SAMPLE_RATE))
        pid = pid_of(seat)
        seat.leave()
        with open(f"/proc/{pid}/statm", encoding="ascii") as memory:
            sizes.append(int(memory.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert sizes[-1] - sizes[9] < 10e6


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_for_the_server_do_not_break_off_what_is_being_converted(lanes):
    seat = elsewhere(lanes)
    stream = opened(seat)
    stream.push(tone(0.1, SAMPLE_RATE))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid_of(seat), number)
    assert stream.push(tone(0.2, SAMPLE_RATE)).size


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_for_the_server_do_not_end_a_process_that_is_starting(lanes, monkeypatch):
    class Signalled(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self.send_signal(number)

    monkeypatch.setattr(subprocess, "Popen", Signalled)
    lanes.prepare()
    assert len(processes(lanes)) == 1


PARENT = """
import time
from menura.engine.registry import engine_for
from menura.conversion.lanes import Lanes
lanes = Lanes(2, 2)
seats = [lanes.seat(engine_for("menura_source_filter_v1")) for _ in range(2)]
print(*[seat.lane().process.pid for seat in seats if seat.lane().process], flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="looks for processes as POSIX does")
def test_no_process_outlives_the_server(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while _lives(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            # A zombie has ended; who is to bury it is not for us to say.
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
