"""The thread of a live stream: the same in any chunking, never later than it must be."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.threads import native_threads

from menura.audio.formats import find_format
from menura.audio.live import open_live_decoder
from menura.conversion.lanes import Lanes
from menura.conversion.passthrough import PassThrough
from menura.engine.interface import LATENCY_PROFILES
from menura.engine.registry import engine_for
from menura.live.chain import LiveChain, LiveRequest
from menura.live.worker import SILENCE_DBFS, LiveWorker

RATE = 24000


def noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * RATE)) * 3000).astype("<i2").tobytes()


def request(**changes):
    engine = changes.pop("engine", None) or PassThrough()
    voice = changes.pop("voice", None) or engine.measure([np.zeros(RATE, np.float32)]).voice
    given = {
        "engine": engine,
        "voice": voice,
        "output_format": find_format("pcm_24000"),
        "decoder": open_live_decoder("s16le", RATE),
        # What a busy machine is late with is dropped only where that is what is looked at.
        "drop_late": None,
        **changes,
    }
    return LiveRequest(**given)


def seat_here(cores=2):
    return Lanes(cores, processes=1).seat(PassThrough())


class Listener:
    """Collects what a worker gives."""

    def __init__(self, wanted, cores=2):
        self.audio = b""
        self.ended, self.held = threading.Event(), threading.Event()
        self.failure = None
        seat = seat_here(cores)
        self.cores = seat.cores
        self.worker = LiveWorker(wanted, seat, self.hear, self.hold, self.end)

    def hear(self, data):
        self.audio += data

    def hold(self):
        self.held.set()

    def end(self, failure):
        self.failure = failure
        self.ended.set()

    def wait(self):
        assert self.ended.wait(30)
        if self.failure is not None:
            raise self.failure


class Slow(PassThrough):
    """An engine that needs `times` as long as the audio lasts."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def analysis(self, latency):
        stage = super().analysis(latency)
        push = stage.push

        def slowly(samples):
            time.sleep(self.times * len(samples) / RATE)
            return push(samples)

        stage.push = slowly
        return stage


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12), rate=st.sampled_from([8, 24]))
def test_any_chunking_of_the_bytes_gives_the_same_bytes(sizes, rate):
    data = noise(sum(sizes) / 2 / RATE + 0.1)[: 2 * (sum(sizes) // 2)]

    def converted(pieces):
        decoder = open_live_decoder("s16le", 1000 * rate)
        chain = LiveChain(
            request(decoder=decoder, output_format=find_format("pcm_16000")),
            seat_here(),
        )
        out = b"".join(chain.push(chain.decode(piece)) for piece in pieces)
        return out + chain.flush()

    borders = np.clip(np.cumsum(sizes), 0, len(data))
    pieces = [bytes(data[a:b]) for a, b in zip([0, *borders], [*borders, len(data)], strict=True)]
    assert converted(pieces) == converted([data])


@pytest.mark.parametrize("level", range(5))
def test_nothing_is_held_back_longer_than_stated(level):
    # The default engine on speech-like noise: its own delay counts, not only the resamplers'.
    engine = engine_for("eleven_english_sts_v2")
    rng = np.random.default_rng(1)
    time_axis = np.arange(10 * RATE) / RATE
    reference = sum(np.sin(2 * np.pi * 120 * k * time_axis) / k for k in range(1, 20)) * 0.1
    reference *= (np.sin(2 * np.pi * 3 * time_axis) > -0.5) * 1.0
    reference += 0.001 * rng.standard_normal(reference.size)
    voice = engine.measure([reference.astype(np.float32)]).voice
    chain = LiveChain(
        request(engine=engine, voice=voice, latency=LATENCY_PROFILES[level]),
        seat_here(),
    )
    taken = given_out = 0
    for start in range(0, 2 * RATE, 480):
        piece = (reference[start : start + 480] * 20000).astype("<i2").tobytes()
        given_out += len(chain.push(chain.decode(piece))) // 2
        taken += 480
        assert taken - given_out <= round(chain.delay * RATE) + 1
    assert chain.delay < [1.25, 0.5, 0.2, 0.062, 0.062][level]


def test_late_audio_is_dropped_so_that_the_delay_does_not_grow():
    listener = Listener(request(engine=Slow(10), drop_late=0.2))
    data = noise(2.0)
    for at in range(0, len(data), 960):
        listener.worker.feed(data[at : at + 960])
        time.sleep(0.02)
    heard = len(listener.audio)
    listener.worker.end()
    listener.wait()
    stats = listener.worker.stats()
    assert stats.dropped > 500
    assert stats.seconds_in == pytest.approx(2.0)
    assert len(listener.audio) == len(data) - round(stats.dropped * 48)
    # Only what was not yet late is still computed.
    assert len(listener.audio) - heard < 0.2 * 2 * RATE


def test_nothing_is_dropped_on_request():
    listener = Listener(request(engine=Slow(2)))
    data = noise(0.5)
    listener.worker.feed(data)
    listener.worker.end()
    listener.wait()
    assert listener.audio == data


def test_nothing_is_dropped_from_who_sends_faster_than_life():
    # Longer than the limit in all, and with room for a machine that is ten times slower.
    listener = Listener(request(engine=Slow(0.1), drop_late=1.0))
    data = noise(20.0)
    for at in range(0, len(data), 960):
        listener.worker.feed(data[at : at + 960])
    listener.worker.end()
    listener.wait()
    assert listener.audio == data


def test_a_stop_ends_the_thread_at_once_and_gives_nothing_more():
    listener = Listener(request(engine=Slow(3)))
    listener.worker.feed(noise(3.0))
    listener.worker.stop()
    assert listener.worker.ending
    listener.wait()
    assert len(listener.audio) < len(noise(3.0)) / 2
    listener.worker.join()


def test_a_stream_that_is_over_keeps_no_threads():
    before = native_threads()
    listeners = [Listener(request(output_format=find_format("mp3_44100_128"))) for _ in range(4)]
    for listener in listeners:
        listener.worker.feed(noise(0.5))
        listener.worker.end()
        listener.wait()
        listener.worker.join()
        assert listener.worker.stats().seconds_out == 0.5
    # The system is a moment behind.
    deadline = time.monotonic() + 30
    while native_threads() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_breaks_inside_is_told():
    class Broken(PassThrough):
        def analysis(self, latency):
            stage = super().analysis(latency)

            def broken(samples):
                raise RuntimeError("broken")

            stage.push = broken
            return stage

    listener = Listener(request(engine=Broken()))
    listener.worker.feed(noise(0.5))
    with pytest.raises(RuntimeError, match="broken"):
        listener.wait()


def test_no_more_is_made_than_is_allowed():
    listener = Listener(request())
    listener.worker.allow(1.0)
    tone = (0.1 * np.sin(np.arange(3 * RATE) / 20)).astype(np.float32)
    listener.worker.feed((tone * 32_767).astype("<i2").tobytes())
    listener.worker.end()
    assert listener.held.wait(30)
    assert 1.0 <= len(listener.audio) / 2 / RATE < 1.2
    assert not listener.ended.is_set()
    listener.worker.allow(9.0)
    listener.wait()
    assert len(listener.audio) / 2 == len(tone)


def test_who_talks_goes_before_a_file_and_a_recording_that_is_sent_at_once_does_not():
    listener = Listener(request(), cores=1)
    left = []

    def convert_file():
        listener.cores.acquire()
        left.append(listener.worker.backlog)
        listener.cores.release()

    listener.cores.acquire()
    file = threading.Thread(target=convert_file)
    file.start()
    while listener.cores.waiting < 1:
        time.sleep(0.001)
    listener.worker.feed(noise(2.0))
    while listener.cores.waiting < 2:
        time.sleep(0.001)
    listener.cores.release()
    file.join(30)
    listener.worker.end()
    listener.wait()
    assert 1.0 < left[0] < 1.98


def test_the_figures_are_those_since_the_last_look():
    listener = Listener(request())
    square = 3277 * np.sign(np.sin(np.arange(RATE) / 20 + 0.01))
    listener.worker.feed(square.astype("<i2").tobytes())
    listener.worker.end()
    listener.wait()
    first, second = listener.worker.stats(), listener.worker.stats()
    assert first.input_level_dbfs == pytest.approx(-20, abs=0.01)
    assert first.processing > 0
    assert first.rtf > 0
    assert (second.processing, second.processing_p95, second.rtf) == (0, 0, 0)
    assert second.input_level_dbfs == SILENCE_DBFS
    assert (second.seconds_in, second.seconds_out) == (1, 1)
