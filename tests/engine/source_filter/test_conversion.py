"""Who speaks changes, in pitch and formants; what is no voice stays what it is."""

import numpy as np
import pytest
from tests.engine.converting import converted
from tests.engine.source_filter.conftest import vowel

from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    ConversionSettings,
    Samples,
)
from menura.engine.source_filter import SourceFilterEngine
from menura.engine.source_filter.equaliser import long_term
from menura.engine.source_filter.features import SourceFilterFeatures


def _features(engine: SourceFilterEngine, samples: Samples) -> SourceFilterFeatures:
    analysis = engine.analysis(LATENCY_PROFILES[0])
    return SourceFilterFeatures.joined([analysis.push(samples), analysis.flush()])


def _median(features: SourceFilterFeatures) -> float:
    return float(np.median(np.log2(features.f0[features.f0 > 0])))


def _spread(features: SourceFilterFeatures) -> float:
    low, high = np.quantile(np.log2(features.f0[features.f0 > 0]), [0.16, 0.84])
    return float(high - low)


@pytest.mark.parametrize("direction", ["to_woman", "to_man"])
def test_crossing_sexes_moves_pitch_and_formants(
    direction, engine, man, woman, man_voice, woman_voice
):
    source, voice = (man, woman_voice) if direction == "to_woman" else (woman, man_voice)
    out = _features(engine, converted(engine, voice, source, LATENCY_PROFILES[0]))
    before = _features(engine, source)
    assert abs(12 * (out.pitch[-1, 0] - voice.pitch)) < 0.9
    if direction == "to_woman":
        assert out.tract[-1] > 1.03 * before.tract[-1]
    else:
        assert out.tract[-1] < 0.97 * before.tract[-1]


def test_the_pitch_contour_is_kept(engine, man, woman_voice):
    """Wherever both are plainly voiced; in creak and at onsets no two trackings agree."""
    before, after = _features(engine, man), _features(engine, converted(engine, woman_voice, man))
    plain = [f.periodicity[:, :3].min(axis=1) > 0.5 for f in (before, after)]
    both = plain[0] & plain[1]
    assert both.mean() > 0.15
    contours = np.log2([before.f0[both], after.f0[both]])
    assert np.corrcoef(contours)[0, 1] > 0.9


def test_the_loudness_contour_is_kept(engine, man, woman_voice):
    out = converted(engine, woman_voice, man)
    level = [
        np.log(np.mean(x[: len(x) // 480 * 480].reshape(-1, 480) ** 2, axis=1) + 1e-7)
        for x in (man, out)
    ]
    assert np.corrcoef(level)[0, 1] > 0.95
    assert abs(10 * np.log10(np.mean(out**2) / np.mean(man**2))) < 4


def test_an_offset_makes_nothing_louder(engine, man, woman_voice):
    quiet = (0.1 * man).astype(np.float32)

    def heard(samples):
        spectrum = np.abs(np.fft.rfft(converted(engine, woman_voice, samples))) ** 2
        return 10 * np.log10(spectrum[np.fft.rfftfreq(len(samples), 1 / 24_000) > 80].sum())

    change = heard(quiet + np.float32(0.03)) - heard(quiet)
    assert abs(change) < 1.0


def test_silence_in_is_silence_out(engine, man, woman_voice):
    source = np.concatenate([np.zeros(12_000, np.float32), man[:24_000], np.zeros(24_000)])
    out = converted(engine, woman_voice, source.astype(np.float32))
    for quiet in (out[:11_000], out[40_000:]):
        assert 10 * np.log10(np.mean(quiet**2) + 1e-20) < -80


@pytest.mark.parametrize("kind", ["dc", "clipping", "nan", "noise", "tiny", "impulses", "sine"])
def test_odd_inputs_stay_sane(kind, engine, man, woman_voice):
    rng = np.random.default_rng(3)
    odd = {
        "dc": np.full(24_000, 0.5),
        "clipping": np.clip(man[:24_000] * 50, -1, 1),
        "nan": np.where(np.arange(24_000) % 1_000 == 7, np.nan, man[:24_000]),
        "noise": 0.1 * rng.standard_normal(24_000),
        "tiny": man[:24_000] * 1e-5,
        "impulses": (np.arange(24_000) % 2_400 == 0).astype(float),
        "sine": 0.9 * np.sin(2 * np.pi * 1_000 * np.arange(24_000) / SAMPLE_RATE),
    }[kind].astype(np.float32)
    out = converted(engine, woman_voice, odd)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1.0
    power = float(np.mean(np.nan_to_num(odd) ** 2))
    assert np.mean(out**2) < 6 * power + 1e-9


def test_a_whisper_stays_a_whisper(engine, man, woman_voice):
    """Noise in the shape of speech keeps its loudness and gains no pitch."""
    rng = np.random.default_rng(5)
    frames = man[: len(man) // 240 * 240].reshape(-1, 240)
    shape = np.sqrt(np.repeat(np.mean(frames**2, axis=1), 240))
    whisper = (shape * rng.standard_normal(len(shape))).astype(np.float32)[:48_000]
    out = converted(engine, woman_voice, whisper)
    features = _features(engine, out)
    assert np.mean((features.f0 > 0) & (features.periodicity[:, 1] > 0.8)) < 0.05
    assert abs(10 * np.log10(np.mean(out**2) / np.mean(whisper**2))) < 6


@pytest.mark.parametrize(("boost", "quieter"), [(0.75, True), (0.0, False)])
def test_what_murmurs_below_a_voice_is_not_heard_at_the_sources_pitch(
    boost, quieter, engine, man, woman_voice
):
    """Unvoiced sound keeps the source's waveform; its lowest band would hold the source's voice."""
    noise = 0.02 * np.random.default_rng(5).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    source = np.concatenate([man[: 4 * SAMPLE_RATE], noise])
    out = converted(engine, woman_voice, source, similarity_boost=boost)
    levels = []
    for sound in (source, out):
        power = np.abs(np.fft.rfft(sound[-SAMPLE_RATE:])) ** 2
        levels.append(10 * np.log10(power[60:180].mean() / power[600:900].mean()))
    assert (levels[1] < levels[0] - 10) == quieter


def test_the_seed_decides_the_noise(engine, woman, man_voice):
    source = woman[:24_000]
    first, again, other = (converted(engine, man_voice, source, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.corrcoef(first, other)[0, 1] > 0.5


def test_similarity_boost_decides_how_far_the_voice_goes(engine, man, woman_voice):
    medians = [
        _median(_features(engine, converted(engine, woman_voice, man[:84_000], similarity_boost=s)))
        for s in (0.0, 0.35, 0.75)
    ]
    own = _median(_features(engine, man[:84_000]))
    assert abs(12 * (medians[0] - own)) < 1
    assert medians[0] + 0.2 < medians[1] < medians[2] - 0.2


def test_stability_calms_the_pitch(engine, man, man_voice):
    spreads = [
        _spread(_features(engine, converted(engine, man_voice, man[:84_000], stability=s)))
        for s in (0.0, 0.5, 1.0)
    ]
    assert spreads[0] > 1.15 * spreads[1] > 1.3 * spreads[2]


def test_a_transposed_melody_keeps_its_intervals(engine, woman_voice):
    sung = vowel(np.repeat(130.0 * 2.0 ** (np.array([0, 4, 7, 12, 0]) / 12), 16_000))
    before, after = (
        [np.median(note[note > 0]) for note in np.array_split(_features(engine, each).f0, 5)]
        for each in (sung, converted(engine, woman_voice, sung, transpose=5.0))
    )
    np.testing.assert_allclose(12 * np.log2(np.divide(after, before)), 5.0, atol=0.1)


def test_style_goes_beyond_the_target(engine, man, woman_voice):
    plain, styled = (
        _features(engine, converted(engine, woman_voice, man, style=s)) for s in (0.0, 1.0)
    )
    assert _median(styled) > _median(plain) + 0.03
    assert _spread(styled) > 1.1 * _spread(plain)


@pytest.mark.parametrize("to_woman", [True, False])
def test_speaker_boost_brings_the_long_term_spectrum_to_the_voices(
    engine, man, woman, man_voice, woman_voice, to_woman
):
    source, target = (man, woman) if to_woman else (woman, man)
    voice = woman_voice if to_woman else man_voice

    def distance(boost: bool) -> float:
        out = converted(
            engine, voice, source[:84_000], LATENCY_PROFILES[2], use_speaker_boost=boost
        )
        return float(np.std(long_term(out) - long_term(target), axis=1).mean())

    assert distance(True) < 0.85 * distance(False)


@pytest.mark.parametrize("speed", [0.7, 1.2])
def test_speed_stretches_time_and_keeps_pitch(speed, engine, man, man_voice):
    source = man[:72_000]
    out = converted(engine, man_voice, source, speed=speed)
    assert len(out) == round(len(source) / speed)
    plain = _features(engine, converted(engine, man_voice, source))
    assert abs(12 * (_median(_features(engine, out)) - _median(plain))) < 0.5


@pytest.mark.parametrize("hiss", [0.0, 1e-3], ids=["silence", "room noise"])
def test_a_long_pause_is_not_taken_for_speech(hiss, engine, man):
    """Once somebody speaks again: until then nothing tells a room from a whisper."""
    noise = np.random.default_rng(4).standard_normal(30 * SAMPLE_RATE).astype(np.float32)
    said = man[24_000:]
    spoken, after_pause = (
        _features(engine, np.concatenate([before, said])).timbre[-1, 1].astype(np.float32)
        for before in (man, np.concatenate([man, np.float32(hiss) * noise]))
    )
    assert np.sqrt(np.mean((spoken - after_pause) ** 2)) < 0.7


def test_hours_leave_no_drift(engine, man, woman_voice):
    """What a stream knows and holds is bounded, however long it has been going."""
    latency = LATENCY_PROFILES[0]
    analysis = engine.analysis(latency)
    rendering = engine.rendering(woman_voice, ConversionSettings(), 1, latency)
    features = SourceFilterFeatures.joined([analysis.push(man), analysis.push(man)])
    block = features[len(features.f0) // 2 :][:400]
    known = analysis._statistics
    for _ in range(100):
        known.push(block.f0, block.periodicity, block.envelope.astype(np.float32))
    weights = known._weights, known._histogram.sum()
    assert max(weights[0][0], weights[1]) < 7_000
    rendering._next += 720_000 * 2
    rendering._first += 720_000 * 2
    long = np.concatenate([rendering.push(block), rendering.push(block)])
    fresh = engine.rendering(woman_voice, ConversionSettings(), 1, latency)
    first = np.concatenate([fresh.push(block), fresh.push(block)])
    np.testing.assert_allclose(long, first, atol=1e-4)
