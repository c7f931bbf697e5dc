"""The trained engine as its users meet it: streams, voices, settings."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.converting import converted
from tests.sounds import speech

import menura.engine.neural
from menura.engine.interface import (
    LATENCY_PROFILES,
    RECORDING,
    ConversionSettings,
    LatencyProfile,
    UnusableReferenceError,
)
from menura.engine.neural import NeuralEngine
from menura.engine.neural.voice import NeuralVoice
from menura.engine.stream import ConversionStream

ROOT = Path(__file__).parents[3]
WEIGHTS = Path(menura.engine.neural.__file__).parent / "weights"
PATIENT, LIVE = LATENCY_PROFILES[0], LATENCY_PROFILES[3]


@pytest.fixture(scope="module")
def engine() -> NeuralEngine:
    return NeuralEngine()


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    return speech("male_librispeech_1235", seconds=2.5)


@pytest.fixture(scope="module")
def voice(engine: NeuralEngine) -> NeuralVoice:
    measured = engine.measure([speech("female_ljspeech", seconds=6.0)])
    assert isinstance(measured.voice, NeuralVoice)
    return measured.voice


@pytest.fixture(scope="module")
def result(engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray) -> np.ndarray:
    return converted(engine, voice, source)


def test_shipped_graphs_do_not_tell_whose_machine_made_them() -> None:
    for path in WEIGHTS.glob("*.onnx"):
        assert not re.search(rb"[A-Za-z_/]{4}\.py", path.read_bytes()), path.name


@pytest.mark.parametrize(
    "graph",
    ["content"]
    + [
        f"{name}_{part}"
        for name in ("quick", "patient")
        for part in ("timbre", "keys", "modulation")
    ],
)
def test_shipped_graphs_answer_as_the_checkpoint_does(graph: str) -> None:
    with np.load(WEIGHTS / f"{graph}.npz") as held:
        asked = {
            name.removeprefix("ask_"): held[name].astype(np.float32)
            for name in held.files
            if name.startswith("ask_")
        }
        expected = held["answer"]
    session = onnxruntime.InferenceSession(
        str(WEIGHTS / f"{graph}.onnx"), providers=["CPUExecutionProvider"]
    )
    answer = session.run(None, asked)[0]
    if graph == "content" or graph.endswith("timbre"):
        # Eight-bit weights, where a block is computed.
        assert np.sqrt(np.mean((answer - expected) ** 2)) < 0.04 * expected.std()
    else:
        assert np.abs(answer - expected).max() < 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_shipped_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 25e6


def test_the_committed_checkpoints_are_those_that_ship() -> None:
    digest = hashlib.sha256()
    for name in ("content", "quick", "patient"):
        digest.update((ROOT / "training" / "checkpoints" / f"{name}.safetensors").read_bytes())
    facts = json.loads((WEIGHTS / "facts.json").read_text())
    assert facts["version"] == digest.hexdigest()[:12]


@pytest.mark.parametrize("profile", [LIVE, PATIENT, RECORDING])
@settings(max_examples=4, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=6),
    speed=st.sampled_from([1.0, 1.0, 0.83]),
)
def test_any_chunking_gives_the_same_output(
    engine: NeuralEngine,
    voice: NeuralVoice,
    source: np.ndarray,
    profile: LatencyProfile,
    sizes: list[int],
    speed: float,
) -> None:
    whole = converted(engine, voice, source, chunk=len(source), latency=profile, speed=speed)
    stream = ConversionStream(engine, voice, ConversionSettings(speed=speed), profile, 1)
    parts, start = [], 0
    for size in [*sizes, len(source)]:
        parts.append(stream.push(source[start : start + size]))
        start += size
    pieces = np.concatenate([*parts, stream.flush()])
    assert pieces.shape == whole.shape
    assert np.array_equal(pieces, whole)


@pytest.mark.parametrize("profile", [*LATENCY_PROFILES[:4], RECORDING])
def test_every_level_keeps_length_and_time(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, profile: LatencyProfile
) -> None:
    out = converted(engine, voice, source, latency=profile)
    assert len(out) == len(source)
    ours, theirs = (
        np.log(np.convolve(x**2, np.hanning(480), "same")[::120] + 1e-6) for x in (out, source)
    )
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    shifts = range(-20, 21)
    at = [float(np.sum(np.roll(ours, -shift) * theirs)) for shift in shifts]
    assert abs(shifts[int(np.argmax(at))]) * 5 <= 10, "more than 10 ms off"


@pytest.mark.parametrize(("profile", "delay"), [(LIVE, 1_328), (PATIENT, 27_008)])
def test_no_sample_comes_later_than_stated(
    engine: NeuralEngine, voice: NeuralVoice, profile: LatencyProfile, delay: int
) -> None:
    stream = ConversionStream(engine, voice, ConversionSettings(), profile, 1)
    assert stream.delay == delay
    given = 0
    for index in range(1, 90):
        given += len(stream.push(np.zeros(480, np.float32)))
        assert given >= 480 * index - stream.delay
    assert given > 0


def test_pitch_is_the_targets(engine: NeuralEngine, voice: NeuralVoice, result: np.ndarray) -> None:
    analysis = engine.analysis(PATIENT)
    analysis.push(result)
    pitch = float(analysis.flush().pitch[-1, 0])
    assert 12 * abs(pitch - voice.pitch) < 2.0


def test_a_transposed_melody_is_the_sources(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray
) -> None:
    tracks = []
    for sound in (source, converted(engine, voice, source, transpose=-2.0)):
        analysis = engine.analysis(PATIENT)
        tracks.append(np.concatenate([analysis.push(sound).f0, analysis.flush().f0]))
    both = (tracks[0] > 0) & (tracks[1] > 0)
    moved = 12 * np.log2(tracks[1][both] / tracks[0][both])
    assert np.median(moved) == pytest.approx(-2.0, abs=0.1)
    assert np.mean(np.abs(moved + 2.0) < 0.5) > 0.85


def test_the_envelope_moves_towards_the_voices(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, result: np.ndarray
) -> None:
    def mean(samples: np.ndarray) -> np.ndarray:
        measured = engine.measure([samples]).voice
        return np.asarray(measured.means[:50])

    before = np.abs(mean(source) - voice.means[:50]).mean()
    assert np.abs(mean(result) - voice.means[:50]).mean() < 0.75 * before


def test_output_is_as_loud_as_the_input(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray
) -> None:
    for gain in (0.1, 1.0):
        out = converted(engine, voice, source * np.float32(gain))
        change = 10 * np.log10(np.mean(out**2) / np.mean((source * gain) ** 2))
        assert abs(change) < 6.0


def test_silence_gives_silence(engine: NeuralEngine, voice: NeuralVoice) -> None:
    out = converted(engine, voice, np.zeros(24_000, np.float32))
    assert len(out) == 24_000
    assert np.abs(out).max() < 1e-4


def test_room_noise_stays_room_noise(engine: NeuralEngine, voice: NeuralVoice) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)
    out = converted(engine, voice, noise)
    assert np.sqrt(np.mean(out**2)) < 2e-3


def test_wild_input_gives_finite_output(engine: NeuralEngine, voice: NeuralVoice) -> None:
    wild = np.random.default_rng(1).standard_normal(12_000).astype(np.float32) * 3
    wild[3_000] = np.nan
    wild[4_000] = np.inf
    out = converted(engine, voice, wild)
    assert len(out) == len(wild)
    assert np.isfinite(out).all()


def test_a_high_hiss_is_not_made_louder(engine: NeuralEngine, voice: NeuralVoice) -> None:
    higher = soxr.resample(speech("female_ljspeech", seconds=6.0), 24_000, 20_000)
    before, after = (
        np.square(part[: len(part) // 480 * 480].reshape(-1, 480)).mean(axis=1)
        for part in (higher, converted(engine, voice, higher))
    )
    leap = (after > 6.3 * before) & (after > 0.01 * after.max())
    assert leap.mean() < 0.03


@pytest.mark.parametrize("kind", ["child", "shouting", "singing", "creak", "two people"])
def test_unusual_voices_stay_sensible(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, kind: str
) -> None:
    rng = np.random.default_rng(6)
    woman = speech("female_ljspeech", seconds=4.0)
    time = np.arange(len(source)) / 24_000
    # Sung at 330 Hz with a vibrato; creak is irregular pulses at 35 to 70 Hz: both under a vowel.
    vibrato = np.cumsum(330.0 * 2.0 ** (0.5 / 12 * np.sin(2 * np.pi * 5.5 * time))) / 24_000
    irregular = np.cumsum(np.repeat(rng.uniform(35.0, 70.0, len(time) // 400 + 1), 400))
    ear = np.exp(-np.arange(600) / 90.0) * np.cos(2 * np.pi * 650.0 * np.arange(600) / 24_000)
    sung, creaky = (
        0.2 * np.convolve(np.diff(np.floor(turns), prepend=0.0), ear)[: len(time)]
        for turns in (vibrato, irregular[: len(time)] / 24_000)
    )
    odd = {
        "child": soxr.resample(woman, 24_000, 17_500),
        "shouting": np.clip(8.0 * source / np.abs(source).max(), -0.98, 0.98),
        "singing": sung,
        "creak": creaky,
        "two people": 0.5 * source + 0.5 * woman[: len(source)],
    }[kind].astype(np.float32)
    out = converted(engine, voice, odd)
    assert len(out) == len(odd)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    assert abs(10 * np.log10(np.mean(out**2) / np.mean(odd**2))) < 4.0
    if kind in {"child", "shouting", "singing"}:
        analysis = engine.analysis(PATIENT)
        analysis.push(out)
        assert 12 * abs(float(analysis.flush().pitch[-1, 0]) - voice.pitch) < 3.0


@pytest.mark.parametrize(
    "option",
    [
        {"similarity_boost": 0.1},
        {"similarity_boost": 1.0},
        {"stability": 1.0},
        {"style": 1.0},
        {"use_speaker_boost": False},
        {"transpose": 3.0},
    ],
)
def test_settings_are_heard(
    engine: NeuralEngine,
    voice: NeuralVoice,
    source: np.ndarray,
    result: np.ndarray,
    option: dict[str, float],
) -> None:
    other = converted(engine, voice, source, **option)
    assert np.abs(result - other).mean() > 0.05 * np.abs(result).mean()


def test_similarity_boost_nought_leaves_the_spectrum(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, result: np.ndarray
) -> None:
    def spectrum(samples: np.ndarray) -> np.ndarray:
        return np.asarray(engine.measure([samples]).voice.means[:50])

    own = spectrum(source)
    kept = np.abs(spectrum(converted(engine, voice, source, similarity_boost=0.0)) - own).mean()
    moved = np.abs(spectrum(result) - own).mean()
    assert kept < 0.5 * moved


def test_seed_decides_the_noise(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, result: np.ndarray
) -> None:
    assert np.array_equal(converted(engine, voice, source), result)
    assert not np.array_equal(converted(engine, voice, source, seed=2), result)


@pytest.mark.parametrize("speed", [0.7, 1.2])
def test_speed_changes_length_alone(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, speed: float
) -> None:
    out = converted(engine, voice, source, speed=speed)
    assert len(out) == round(len(source) / speed)
    assert np.sqrt(np.mean(out**2)) > 0.2 * np.sqrt(np.mean(source**2))


@pytest.mark.parametrize("profile", [LIVE, PATIENT])
def test_changing_the_voice_mid_stream_makes_no_click(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, profile: LatencyProfile
) -> None:
    other = engine.measure([speech("male_flemishguy_nl", seconds=6.0)]).voice
    assert isinstance(other, NeuralVoice)
    stream = ConversionStream(engine, voice, ConversionSettings(), profile, 1)
    head = stream.push(source[:40_000])
    stream.change(voice=other)
    out = np.concatenate([head, stream.push(source[40_000:]), stream.flush()])
    before, after = (converted(engine, each, source, latency=profile) for each in (voice, other))
    assert len(out) == len(source)
    assert np.array_equal(out[: len(head)], before[: len(head)])
    assert not np.array_equal(out[len(head) :], before[len(head) :])
    around = slice(len(head) - 240, len(head) + 4_800)
    joint, usual, wanted = (np.abs(np.diff(x[around])).max() for x in (out, before, after))
    assert joint <= 1.2 * max(usual, wanted)


def test_a_voice_survives_storage(
    engine: NeuralEngine, voice: NeuralVoice, source: np.ndarray, result: np.ndarray
) -> None:
    again = engine.load_voice(voice.to_bytes())
    assert np.array_equal(converted(engine, again, source), result)


@pytest.mark.parametrize("damage", [b"", b"no voice", b"PK\x03\x04broken"])
def test_foreign_bytes_are_no_voice(engine: NeuralEngine, damage: bytes) -> None:
    with pytest.raises(ValueError, match="neural voice"):
        engine.load_voice(damage)


@pytest.mark.parametrize(
    "reference",
    [
        np.zeros(120_000, np.float32),
        1e-3 * np.random.default_rng(2).standard_normal(120_000).astype(np.float32),
        np.zeros(100, np.float32),
    ],
    ids=["silence", "noise", "too short"],
)
def test_a_reference_without_speech_is_refused(engine: NeuralEngine, reference: np.ndarray) -> None:
    with pytest.raises(UnusableReferenceError, match="voiced speech"):
        engine.measure([reference])


def test_a_short_reference_is_warned_about(engine: NeuralEngine) -> None:
    measured = engine.measure([speech("female_ljspeech", seconds=3.0)])
    assert any("short" in warning for warning in measured.warnings)
