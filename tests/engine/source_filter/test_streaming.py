"""Any chunking equals one piece; lengths, delays and neighbours, at every level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.converting import converted

from menura.engine.interface import LATENCY_PROFILES, RECORDING, ConversionSettings, Samples
from menura.engine.source_filter import SourceFilterEngine
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.voice import SourceFilterVoice
from menura.engine.stream import ConversionStream

LEVELS = pytest.mark.parametrize(
    "latency",
    [*LATENCY_PROFILES[:4], RECORDING],
    ids=[*(f"level{level}" for level in range(4)), "recording"],
)


def _pieces(samples: Samples, seed: int, longest: int) -> list[Samples]:
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(rng.integers(0, longest, size=4 * len(samples) // longest + 2))
    return np.split(samples, cuts[cuts < len(samples)])


@LEVELS
def test_composite_is_the_same_in_any_chunking(latency, engine, man, woman_voice):
    source = man[12_000:30_111]
    expected = converted(engine, woman_voice, source, latency, chunk=len(source))

    @settings(max_examples=3, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**32 - 1), longest=st.integers(2, 20_000))
    def check(seed: int, longest: int) -> None:
        cut = ConversionStream(engine, woman_voice, ConversionSettings(), latency, 1)
        parts = [cut.push(piece) for piece in _pieces(source, seed, max(longest, 300))]
        np.testing.assert_array_equal(np.concatenate([*parts, cut.flush()]), expected)

    check()


@LEVELS
def test_analysis_is_the_same_in_any_chunking(latency, engine, woman):
    source = woman[:13_003]
    whole = engine.analysis(latency)
    expected = SourceFilterFeatures.joined([whole.push(source), whole.flush()])
    cut = engine.analysis(latency)
    parts = [cut.push(piece) for piece in _pieces(source, 5, 1_777)]
    found = SourceFilterFeatures.joined([*parts, cut.flush()])
    assert found.frames == expected.frames == -(-len(source) // 240)
    for name in ("samples", "f0", "periodicity", "envelope", "pitch", "tract", "breath", "timbre"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("speed", [0.7, 1.0, 1.2])
def test_rendering_is_the_same_in_any_chunking(speed, engine, man, woman_voice):
    latency = LATENCY_PROFILES[2]
    analysis = engine.analysis(latency)
    features = SourceFilterFeatures.joined([analysis.push(man[:24_017]), analysis.flush()])
    chosen = ConversionSettings(speed=speed)
    whole = engine.rendering(woman_voice, chosen, 1, latency)
    expected = np.concatenate([whole.push(features), whole.flush(24_017)])
    cut = engine.rendering(woman_voice, chosen, 1, latency)
    parts = [cut.push(features[start : start + 2]) for start in range(0, len(features.f0), 2)]
    np.testing.assert_array_equal(np.concatenate([*parts, cut.flush(24_017)]), expected)
    assert len(expected) == round(24_017 / speed)


@LEVELS
def test_no_more_is_held_back_than_the_delay_says(latency, engine, man, woman_voice):
    stream = ConversionStream(engine, woman_voice, ConversionSettings(), latency)
    analysis = engine.analysis(latency)
    pushed = given_out = known = 0
    for piece in np.split(man[:24_000], range(251, 24_000, 251)):
        pushed += len(piece)
        given_out += len(stream.push(piece))
        known += analysis.push(piece).frames * 240
        assert pushed - given_out <= stream.delay
        assert pushed - known <= analysis.delay


def test_a_recording_is_held_back_for_16_seconds_and_no_longer(engine, man, woman_voice):
    stream = ConversionStream(engine, woman_voice, ConversionSettings(), RECORDING)
    pushed = given_out = 0
    for piece in np.split(
        np.tile(man, 18 * 24_000 // len(man) + 1), range(24_000, 18 * 24_000, 24_000)
    ):
        pushed += len(piece)
        given_out += len(stream.push(piece))
        assert pushed - given_out <= stream.delay <= 17 * 24_000
    assert given_out > 0


def test_the_first_word_of_a_recording_is_said_by_a_speaker_who_is_known(engine, man):
    def medians(latency):
        analysis = engine.analysis(latency)
        features = SourceFilterFeatures.joined([analysis.push(man), analysis.flush()])
        return features.pitch[:, 0], np.median(np.log2(features.f0[features.f0 > 0]))

    known, usual = medians(RECORDING)
    assert np.ptp(known) == 0
    assert 12 * abs(known[0] - usual) < 0.5
    learned, _ = medians(LATENCY_PROFILES[0])
    assert np.ptp(learned) > 0


def test_stretches_of_features_are_as_short_as_asked_and_all_there(engine, man):
    analysis = engine.analysis(RECORDING)
    analysis.push(man[:24_001])
    features = analysis.flush()
    parts = features.split(16)
    assert {part.frames for part in parts[:-1]} == {16}
    assert 0 < parts[-1].frames <= 16
    np.testing.assert_array_equal(SourceFilterFeatures.joined(parts).samples, features.samples)
    assert features[:0].split(16) == []


def test_level_3_converts_within_62_ms_with_room_for_computing(engine, woman_voice):
    stream = ConversionStream(engine, woman_voice, ConversionSettings(), LATENCY_PROFILES[3])
    assert stream.delay <= 57 * 24


@pytest.mark.parametrize("total", [0, 1, 119, 240, 479, 481, 5_000])
def test_short_inputs_come_back_at_their_length(total, engine, woman, woman_voice):
    for latency in (LATENCY_PROFILES[0], LATENCY_PROFILES[3]):
        out = converted(engine, woman_voice, woman[:total], latency)
        assert len(out) == total
        assert out.dtype == np.float32


def test_interleaved_streams_give_what_each_gives_alone(
    engine: SourceFilterEngine,
    man: Samples,
    woman: Samples,
    man_voice: SourceFilterVoice,
    woman_voice: SourceFilterVoice,
):
    latency = LATENCY_PROFILES[2]
    inputs = ((man[:19_200], woman_voice), (woman[:19_200], man_voice))
    alone = [converted(engine, voice, source, latency, seed=3) for source, voice in inputs]
    streams = [
        ConversionStream(engine, voice, ConversionSettings(), latency, 3) for _, voice in inputs
    ]
    parts: list[list[Samples]] = [[], []]
    for start in range(0, 19_200, 960):
        for index, (source, _) in enumerate(inputs):
            parts[index].append(streams[index].push(source[start : start + 960]))
    for index, stream in enumerate(streams):
        joined = np.concatenate([*parts[index], stream.flush()])
        np.testing.assert_array_equal(joined, alone[index])


def test_output_is_aligned_with_the_input(engine, man, man_voice):
    out = converted(engine, man_voice, man)
    level = [np.convolve(np.abs(x), np.ones(240) / 240, "same")[::24] for x in (man, out)]
    centred = [x - x.mean() for x in level]
    lags = np.arange(-30, 31)
    scores = [np.dot(centred[0][40:-40], np.roll(centred[1], -lag)[40:-40]) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 5  # ms


def test_voice_and_settings_change_without_a_click(engine, man, man_voice, woman_voice):
    stream = ConversionStream(engine, man_voice, ConversionSettings(), LATENCY_PROFILES[3], 1)
    parts = []
    for index, start in enumerate(range(0, 48_000, 480)):
        if index % 20 == 10:
            stream.change(woman_voice, ConversionSettings(stability=0.1))
        if index % 20 == 0:
            stream.change(man_voice, ConversionSettings())
        parts.append(stream.push(man[start : start + 480]))
    out = np.concatenate([*parts, stream.flush()])
    steps = np.abs(np.diff(out, 2))
    assert len(out) == 48_000
    assert steps.max() < 12 * np.quantile(steps, 0.99)
