"""Turning the source's features towards a voice: F0, vocal-tract length, long-term spectrum."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE, ConversionSettings, Voice
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.settling import PRIOR_PITCH
from menura.engine.source_filter.spectrum import BINS, FREQUENCIES, Array, at_bins, bins_between
from menura.engine.source_filter.statistics import LTAS_BANDS, ltas_at_bins
from menura.engine.source_filter.voice import SourceFilterVoice

FULL_SIMILARITY = 0.75
"""`similarity_boost` at which everything has reached the voice."""

_SCALES = (0.6, 1.6)
"""Bounds of the factor that gives the melody the voice's range, and of the exponent that gives the
periodic shares the voice's breath."""
_LOWEST, _HIGHEST = 45.0, 1_000.0
"""Hz between which the pitch stays."""
_EVEN = 0.8
"""Octaves by which `stability` scales the melody's range: from 1.32 times, at 0, to 0.76, at 1."""
_LIVELIER, _FARTHER = 0.3, 0.15
"""What `style` 1 adds to the melody's range, as a share of it, and to the voice's distance from the
average pitch."""
_LIMIT = 2.8
"""Largest change of the long-term spectrum in nepers of power (12 dB) up to FULL_SIMILARITY."""
_EXTRA_LIMIT = 2.0
"""What `similarity_boost` 1 adds to it."""
_TOP = 7_900.0
"""Hz above which the long-term spectrum follows its edge: most recordings hold nothing there."""
_TRACT_SHARE = 0.7
_TIMBRE_SHARE = 0.9
_UNVOICED_SHARE = 0.3
"""How far the tract, the voiced and the unvoiced spectra go: farther costs more phones than it
brings likeness (measured)."""
_LOUDNESS_MEMORY = 800.0
"""Instants over which the level is compared: 4 s."""
_LOUD_BINS = bins_between(100.0, 8_000.0)
_STYLE = 0.5
"""How much farther than the target `style` 1 goes, as a share of the way."""
_MURMUR = 4.0 * np.clip((450.0 - FREQUENCIES) / 250.0, 0.0, 1.0).astype(np.float32)
"""Nepers of power (17 dB up to 200 Hz, none from 450 Hz) by which unvoiced sound is made quieter,
per bin, where the pitch is moved by _FAR or more. More follows the pitch better and costs phones
(measured, docs/training-log.md)."""
_FAR = 0.15
"""Octaves."""

_COARSE = np.array(
    [np.exp(-0.5 * ((np.arange(LTAS_BANDS) - band) / 3.0) ** 2) for band in range(LTAS_BANDS)]
)
_COARSE = (_COARSE / _COARSE.sum(axis=1, keepdims=True)).T.astype(np.float32)
"""Blurs long-term spectra by three bands (standard deviation), (LTAS_BANDS, LTAS_BANDS): what is
left is moved without `use_speaker_boost`."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What the synthesiser renders, one row per instant.

    f0: Hz, 0 where unvoiced, (n,). periodicity: periodic share per band, (n, bands). envelope: log
    power, (n, BINS). change: log power by which the envelope differs from the source's, (n, BINS).
    """

    f0: Array
    periodicity: Array
    envelope: Array
    change: Array


def convert(
    features: SourceFilterFeatures,
    voice: SourceFilterVoice,
    settings: ConversionSettings,
) -> Sound:
    """Return the features as the voice would have uttered them."""
    f0, periodicity = excitation(features, voice, settings)
    envelope = spectrum(features, voice, settings)
    return Sound(f0, periodicity, envelope, envelope - features.envelope.astype(np.float32))


def excitation(
    features: SourceFilterFeatures, voice: SourceFilterVoice, settings: ConversionSettings
) -> tuple[Array, Array]:
    """Return F0 in Hz, (n,), and periodic shares, (n, bands), at the voice's height and breath."""
    return _pitch(features, voice, settings), _breath(features, voice, settings)


def towards(settings: ConversionSettings) -> float:
    """Return the share of the way from source to voice that is gone, 0 to 1."""
    return min(1.0, settings.similarity_boost / FULL_SIMILARITY)


def _pitch(
    features: SourceFilterFeatures, voice: SourceFilterVoice, settings: ConversionSettings
) -> Array:
    """Move the median, scale the excursions around it; unvoiced instants stay unvoiced. A melody
    that is transposed keeps its range."""
    voiced = features.f0 > 0
    medians, spreads = features.pitch[voiced].T
    if settings.transpose is None:
        usual = np.clip(voice.spread / spreads, *_SCALES) ** towards(settings)
    else:
        usual = np.ones_like(spreads)
    steady = 2.0 ** (_EVEN * (0.5 - settings.stability))
    scale = usual * steady * (1.0 + _LIVELIER * settings.style)
    goal = medians + _moved(medians, voice, settings)
    f0 = np.zeros_like(features.f0)
    f0[voiced] = 2.0 ** np.clip(
        goal + scale * (np.log2(features.f0[voiced]) - medians),
        np.log2(_LOWEST),
        np.log2(_HIGHEST),
    )
    return f0


def _moved(medians: Array, voice: SourceFilterVoice, settings: ConversionSettings) -> Array:
    """Return by how many octaves the pitch is moved, (n,). medians: log2 F0 of the source, (n,)."""
    if settings.transpose is not None:
        return np.full_like(medians, settings.transpose / 12.0)
    style = _FARTHER * settings.style * (voice.pitch - PRIOR_PITCH)
    return np.asarray(towards(settings) * (voice.pitch + style - medians))


def without_murmur(
    sound: Sound,
    features: SourceFilterFeatures,
    voice: SourceFilterVoice,
    settings: ConversionSettings,
) -> Sound:
    """Return sound that murmurs less where it is unvoiced.

    Unvoiced sound keeps the source's waveform. What little it holds in the lowest band is mostly
    weak voice that the tracker has missed, and would be heard at the source's pitch.
    """
    far = np.minimum(np.abs(_moved(features.pitch[:, 0], voice, settings)) / _FAR, 1.0)
    cut = (far * (sound.f0 == 0)).astype(np.float32)[:, None] * _MURMUR
    return replace(sound, envelope=sound.envelope - cut, change=sound.change - cut)


def _breath(
    features: SourceFilterFeatures, voice: SourceFilterVoice, settings: ConversionSettings
) -> Array:
    """Move the periodic share towards the voice's usual one, half of the way, within bounds."""
    usual = np.clip(voice.periodicity, 0.05, 0.95)
    source = np.clip(features.breath, 0.05, 0.95)
    power = np.clip(np.log(usual) / np.log(source), *_SCALES) ** (0.5 * towards(settings))
    return np.asarray(features.periodicity**power, dtype=np.float32)


def tract_warp(target: float, source: Array, reach: float = 1.0) -> Array:
    """Return by which factors formants are moved from the source's tract lengths, (n,).

    reach: share of the way; 1 is the voice.
    """
    return np.asarray(np.clip((target / source) ** (_TRACT_SHARE * reach), 0.75, 1.35))


def spectrum(
    features: SourceFilterFeatures, voice: SourceFilterVoice, settings: ConversionSettings
) -> Array:
    """Return envelopes warped to the voice's tract, their long-term spectrum moved, (n, BINS)."""
    beyond = max(0.0, settings.similarity_boost - FULL_SIMILARITY)
    reach = (towards(settings) + beyond) * (1.0 + _STYLE * settings.style)
    envelope = features.envelope.astype(np.float32)
    known, row = _distinct(features)
    tract, timbre = features.tract[known], features.timbre[known].astype(np.float32)
    warp = tract_warp(voice.tract, tract, reach)
    positions = (np.arange(BINS)[None, :] / warp[:, None]).astype(np.float32)
    target = voice.timbre[None]
    if not settings.use_speaker_boost:
        target, timbre = target @ _COARSE, timbre @ _COARSE
    usual = ltas_at_bins(timbre.reshape(-1, LTAS_BANDS))
    usual = at_bins(usual, np.repeat(positions, 2, axis=0)).reshape(-1, 2, BINS)
    way = ltas_at_bins(target) - usual
    edge = int(min(_TOP, 0.95 * voice.bandwidth) / (SAMPLE_RATE / 2) * (BINS - 1))
    way[:, :, edge:] = way[:, :, edge : edge + 1]
    way = reach * _TIMBRE_SHARE * (way - way[:, :, 8:edge].mean(axis=2, keepdims=True))
    way[:, 1] = way[:, 0] + _UNVOICED_SHARE * (way[:, 1] - way[:, 0])
    limit = _LIMIT + _EXTRA_LIMIT * beyond / (1.0 - FULL_SIMILARITY)
    way = np.clip(way, -limit, limit)
    unvoiced = (features.f0 == 0).astype(np.intp)
    return np.asarray(at_bins(envelope, positions[row]) + way[row, unvoiced], dtype=np.float32)


def _distinct(features: SourceFilterFeatures) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows where the statistics change, and for every row which of those it follows."""
    new = np.ones(len(features.f0), dtype=np.bool_)
    new[1:] = (features.tract[1:] != features.tract[:-1]) | (
        features.timbre[1:] != features.timbre[:-1]
    ).any(axis=(1, 2))
    return np.flatnonzero(new), np.cumsum(new) - 1


def _power(envelope: Array) -> float:
    """Return the mean power between 100 Hz and 8 kHz, summed over rows."""
    return float(np.exp(envelope[:, _LOUD_BINS]).mean(axis=1).sum())


class LoudnessKeeper:
    """Keeps one stream as loud as its source over seconds.

    Within speech the filters are left to change levels as a vocal tract does: undoing that frame
    by frame was measured to cost phones and likeness.
    """

    def __init__(self) -> None:
        self._source = self._moved = 1e-9

    def push(self, sound: Sound) -> Sound:
        """Return a block of sound at the source's long-term level."""
        keep = max(0.0, 1.0 - len(sound.f0) / _LOUDNESS_MEMORY)
        self._source = self._source * keep + _power(sound.envelope - sound.change)
        self._moved = self._moved * keep + _power(sound.envelope)
        gain = np.float32(np.clip(np.log(self._source / self._moved), -_LIMIT, _LIMIT))
        return replace(sound, envelope=sound.envelope + gain, change=sound.change + gain)


class SourceFilterMapping:
    """The mapping of one stream.

    stability, similarity_boost, style and use_speaker_boost act as `docs/voices.md` says.
    """

    kind = SourceFilterFeatures
    ahead = 0

    def __init__(self, voice: SourceFilterVoice, settings: ConversionSettings) -> None:
        self._voice = voice
        self._settings = settings
        self._loudness = LoudnessKeeper()

    def push(self, features: SourceFilterFeatures) -> Sound:
        """Return the sound of a block of features, row for row."""
        sound = self._loudness.push(convert(features, self._voice, self._settings))
        return without_murmur(sound, features, self._voice, self._settings)

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings from the next block on."""
        if isinstance(voice, SourceFilterVoice):
            self._voice = voice
        elif voice is not None:
            raise TypeError(f"{type(voice).__name__} is a voice of another engine")
        if settings is not None:
            self._settings = settings
