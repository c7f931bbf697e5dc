"""Gaps and late starts in a track's timestamps: silence, so that sound stays with its picture."""

import io
import resource
from pathlib import Path

import av
import numpy as np
import pytest
from tests.audio.files import lag, sweep
from tests.audio.reading import read

from menura import errors
from menura.audio.timeline import Timeline
from menura.conversion.chain import Counted
from menura.conversion.request import DurationLimits

RATE = 48_000
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
HOUR = 3600


def recording(
    folder: Path,
    pieces: list[tuple[float, np.ndarray]],
    container: str = "matroska",
    codec: str = "libopus",
    picture: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a file with stretches of sound that begin at the seconds named."""
    path = folder / "recording"
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        video = None
        if picture:
            video = file.add_stream("mpeg4", rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound = file.add_stream(codec, rate=RATE, layout="mono")
        sound.codec_context.open()
        for at in range(75 if video else 0):
            image = av.VideoFrame(64, 48, "yuv420p")
            image.pts = at
            file.mux(video.encode(image))
        size = sound.codec_context.frame_size or 1024
        for start, samples in pieces:
            for at in range(0, samples.size - size + 1, size):
                kind = sound.format.name
                values = samples[at : at + size]
                if kind == "s16":
                    values = np.rint(values * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(values[None], kind, "mono")
                frame.sample_rate = RATE
                frame.pts = round(start * RATE) + at
                file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
        if video:
            file.mux(video.encode(None))
    return path.read_bytes()


CASES = [
    ("matroska", "libopus", {}),
    ("matroska", "aac", {}),
    ("webm", "libopus", {}),
    ("mp4", "aac", {}),
    ("mp4", "libopus", {}),
    ("mp4", "aac", FRAGMENTED),
]


@pytest.mark.parametrize(("container", "codec", "options"), CASES)
def test_a_gap_is_heard_as_silence(tmp_path, container, codec, options) -> None:
    samples = sweep(3 * RATE, RATE)
    halves = [(0.0, samples[:72_000]), (3.5, samples[72_000:])]
    heard, _ = read(recording(tmp_path, halves, container, codec, options=options))
    assert abs(heard.size - 5 * RATE) < 2100
    second = heard[int(3.45 * RATE) :]
    late = lag(second, samples[72_000:]) - int(0.05 * RATE)
    assert abs(late) < (1100 if options else 100)
    assert np.abs(heard[int(1.6 * RATE) : int(3.4 * RATE)]).max() == 0


@pytest.mark.parametrize(
    ("container", "codec", "options"), [case for case in CASES if case[0] != "webm"]
)
def test_sound_that_begins_late_waits_for_its_picture(tmp_path, container, codec, options) -> None:
    samples = sweep(2 * RATE, RATE)
    data = recording(tmp_path, [(1.0, samples)], container, codec, True, options)
    heard, _ = read(data)
    assert abs(lag(heard, samples) - RATE) < 100
    assert abs(heard.size - 3 * RATE) < 1100
    alone, _ = read(recording(tmp_path, [(1.0, samples)], container, codec))
    assert abs(alone.size - 2 * RATE) < 2100


def test_pauses_of_a_few_packets_add_up(tmp_path) -> None:
    samples = sweep(4 * RATE, RATE)
    pieces = [(at * 0.2, samples[at * 9600 :][:7680]) for at in range(20)]
    heard, _ = read(recording(tmp_path, pieces))
    assert abs(heard.size - 3.96 * RATE) < 0.06 * RATE


def test_a_gap_costs_no_memory_and_counts_as_sound(tmp_path) -> None:
    samples = sweep(RATE, RATE)
    data = recording(tmp_path, [(0.0, samples), (HOUR - 5, samples)])
    counted = Counted(io.BytesIO(data), "other", DurationLimits(0, 300))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def exhaust() -> None:
        while counted.read().size:
            pass

    with pytest.raises(errors.AudioTooLong, match="300"):
        exhaust()
    counted.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024


def test_a_gap_of_days_is_no_gap(tmp_path) -> None:
    samples = sweep(RATE, RATE)
    heard, _ = read(recording(tmp_path, [(0.0, samples), (72 * HOUR, samples)]))
    assert abs(heard.size - 2 * RATE) < 2000


def silences(starts: list[float | None], start: float | None = None) -> list[int]:
    """Return the silence before each of some frames of 20 ms at 1 kHz."""
    timeline = Timeline(start)
    return [timeline.silence_before(at, 20, 1000) for at in starts]


def test_timestamps_that_are_of_no_use_change_nothing() -> None:
    rounded = [round(at * 0.02 + 0.004, 2) for at in range(50)]
    fast = [at * 0.0205 for at in range(1000)]
    jumping = [0.0, 0.02, -5.0, 0.05, 0.03, 0.1, 0.08, -1e18]
    restarted = [*(at * 0.02 for at in range(50)), *(at * 0.02 for at in range(50))]
    for starts in ([None] * 9, [None, 3.0, None, 3.02], rounded, fast, jumping, restarted,
                   [-1e15, 1e15], [1e300, -1e300, 1e300]):  # fmt: skip
        assert not any(silences(starts)), starts
    assert not any(silences([5e3, 5e3 + 0.02], start=-1e9))


def test_gaps_go_on_being_found() -> None:
    assert silences([0.0, 0.02, 1.04, 1.06, 2.08]) == [0, 0, 1000, 0, 1000]
    assert silences([0.0, 1e6, 1e6 + 0.02, 1e6 + 1.04]) == [0, 0, 0, 1000]
    assert silences([0.0, None, 1.04]) == [0, 0, 1000]
    assert silences([1.0, 1.02], start=0.0) == [1000, 0]
    assert silences([0.0, 0.045, 0.09, 0.135]) == [0, 0, 0, 75]
