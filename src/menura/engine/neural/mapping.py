"""Turning the source's features towards a voice: the envelope by the timbre network, the rest as
the source-filter engine does."""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from menura.engine.interface import ConversionSettings, Voice
from menura.engine.neural import bands
from menura.engine.neural.controls import carried_of, controls_of, hold, means_told, steady
from menura.engine.neural.features import NeuralFeatures
from menura.engine.neural.mel import SpeechLevel
from menura.engine.neural.networks import TimbreNetwork
from menura.engine.neural.voice import NeuralVoice
from menura.engine.source_filter.mapping import (
    FULL_SIMILARITY,
    LoudnessKeeper,
    Sound,
    excitation,
    spectrum,
    towards,
    tract_warp,
    without_murmur,
)
from menura.engine.source_filter.spectrum import BINS, Array, at_bins
from menura.engine.source_filter.statistics import LTAS_BANDS, ltas_at_bins

UNCARRIED = 0.4
"""Share of what is formed that is formed from the code alone, without seeing the source's envelope:
more takes the source's timbre away and costs phones (measured, docs/training-log.md)."""
KEPT = (0.25, 0.45)
"""Share of the envelope that is the source's, at the voice's tract length and mean: words are lost
in how sounds glide, which codes hardly say. More makes fewer results nearer to the voice, so the
larger share is for voices far from the source in pitch, where words suffer most and likeness has
room (measured, docs/training-log.md)."""
PATIENT_KEPT = (0.3, 0.45)
"""The same for the network that looks ahead, whose envelopes are nearer to the voice."""
APART = (0.2, 0.6)
"""Distances of the median F0 in octaves between which the share grows."""
LIVELY = 1.15
"""Factor by which what is formed is moved away from the voice's mean: it varies less over time than
natural speech (measured, docs/training-log.md)."""
_LIMIT = 6.0
"""Largest change of a band in nepers of power (26 dB): less leaves formants of the source."""
_LTAS_TO_BANDS = (ltas_at_bins(np.eye(LTAS_BANDS, dtype=np.float32)) @ bands.BANK).astype(
    np.float32
)
_SILENCE = -20.0
"""Level in nepers of power (-87 dB) that is assumed before anything is heard."""
_LEVEL_OFFSET = -0.06
"""Level of the bands over that of the bins, of which long-term spectra are reckoned, in nepers."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is known of a stretch of the source before the network has answered.

    features: two rows a frame. shape: the source's bands over their level, carried: the same at the
    voice's tract length and mean, warp: by which ratio they were moved, relative: level over the
    speech's, found: what was looked up in the voice; frame for frame.
    """

    features: NeuralFeatures
    shape: Array
    carried: Array
    warp: Array
    relative: Array
    found: Array

    def joined(self, other: Self) -> Self:
        """Return this stretch and the next as one."""
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        features = NeuralFeatures.joined(list(pairs[0]))
        return type(self)(features, *(np.concatenate(pair) for pair in pairs[1:]))

    def __getitem__(self, frames: slice) -> Self:
        rows = slice(*(None if end is None else 2 * end for end in (frames.start, frames.stop)))
        rest = [getattr(self, field.name)[frames] for field in fields(self)[1:]]
        return type(self)(self.features[rows], *rest)


class NeuralMapping:
    """The mapping of one stream.

    similarity_boost: how far from the source towards the network's envelope, which 0.75 reaches.
    All settings do to pitch, breath and envelope what they do in the source-filter engine.
    """

    kind = NeuralFeatures

    def __init__(
        self, timbre: TimbreNetwork, voice: NeuralVoice, settings: ConversionSettings
    ) -> None:
        self._timbre = timbre
        self._state = np.zeros(timbre.state, np.float32)
        self._waiting: _Heard | None = None
        self._loudness = LoudnessKeeper()
        self._choose(settings)
        self._speech = SpeechLevel(_SILENCE, _SILENCE)
        self._before: float | None = None
        self._last_f0 = 0.0
        self._last_change: Array | None = None
        self._adopt(voice)

    @property
    def ahead(self) -> int:
        """Rows that `push` must have been shown beyond those that it answers for."""
        return 2 * self._timbre.ahead

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings from the next block on."""
        if isinstance(voice, NeuralVoice):
            self._adopt(voice)
        elif voice is not None:
            raise TypeError(f"{type(voice).__name__} is a voice of another engine")
        if settings is not None:
            self._choose(settings)

    def _choose(self, settings: ConversionSettings) -> None:
        """Keep the settings, and what the network's envelope is meant for: the nearest that
        exaggerate and smooth nothing."""
        self._settings = settings
        self._reach = towards(settings)
        self._usual = replace(
            settings,
            similarity_boost=min(settings.similarity_boost, FULL_SIMILARITY),
            style=0.0,
            use_speaker_boost=True,
        )

    def _adopt(self, voice: NeuralVoice) -> None:
        self._voice = voice
        self._median = float(voice.pitch * np.log(2.0))
        means = means_told(voice.means, self._median)
        self._keys = self._timbre.keys.run(None, {"rows": voice.rows[None]})[0]
        self._modulation = self._timbre.modulation.run(None, {"means": means[None]})[0]

    def push(self, features: NeuralFeatures) -> Sound:
        """Return the sound of the whole frames that have been shown `ahead` rows ago, row for
        row."""
        f0, periodicity = excitation(features, self._voice, self._settings)
        frames = features[1::2]
        source = frames.envelope.astype(np.float32) @ bands.BANK
        level = bands.level(source)
        relative = self._over_speech(level)
        shape = source - level[:, None]
        warp = tract_warp(self._voice.tract, frames.tract)
        carried = self._carried(shape, frames, warp)
        told = {
            "code": frames.code.astype(np.float32)[None],
            "controls": self._controls(f0[1::2], relative, periodicity[1::2])[None],
            "keys": self._keys,
            "values": self._voice.values[None],
            "modulation": self._modulation,
            "carried": carried[None],
            "state": self._state,
        }
        moved, found, self._state = self._timbre.timbre.run(None, told)
        heard = _Heard(features, shape, carried, warp, relative, found)
        if not self.ahead:
            return self._sound(heard, f0, periodicity, moved)
        if self._waiting is not None:
            heard = self._waiting.joined(heard)
        count = len(heard.found) - self._timbre.ahead
        self._waiting = heard[count:]
        later = heard.features[self.ahead :]
        heard = heard[:count]
        # By now more is known of the speaker than when the network was asked.
        heard = replace(heard, features=heard.features.described_by(later))
        f0, periodicity = excitation(heard.features, self._voice, self._settings)
        return self._sound(heard, f0, periodicity, moved[len(moved) - count :])

    def _sound(self, heard: _Heard, f0: Array, periodicity: Array, moved: Array) -> Sound:
        """Return the sound of a stretch. moved: by how much the network's two passes lie off what
        was found in the voice, (frames, 2, 64)."""
        features, warp = heard.features, heard.warp
        envelope = features.envelope.astype(np.float32)
        both = heard.found[:, None] + moved
        wanted = (1.0 - UNCARRIED) * both[:, 0] + UNCARRIED * both[:, 1]
        centre = self._voice.means[: bands.COUNT]
        wanted = centre + np.float32(LIVELY) * (wanted - centre)
        wanted += self._kept(features[1::2]) * (heard.carried[:, : bands.COUNT] - wanted)
        change = np.clip(wanted - bands.warped(heard.shape, warp), -_LIMIT, _LIMIT)
        change[:, bands.FORMED :] = change[:, bands.FORMED - 1 : bands.FORMED]
        positions = np.arange(BINS)[None, :] / np.repeat(warp, 2)[:, None]
        formed = at_bins(envelope, positions.astype(np.float32))
        formed += self._between(change) @ bands.BAND_TO_BIN
        # Where nobody speaks the network was taught nothing.
        sure = self._reach * np.clip((heard.relative + 7.0) / 3.0, 0.0, 1.0)
        sure = np.repeat(sure, 2)[:, None]
        if self._settings != self._usual or sure.min() < 1.0:
            plain = spectrum(features, self._voice, self._settings)
            if self._settings != self._usual:
                formed += plain - spectrum(features, self._voice, self._usual)
            formed = (plain + sure * (formed - plain)).astype(np.float32)
        sound = Sound(f0, periodicity, formed, formed - envelope)
        return without_murmur(self._loudness.push(sound), features, self._voice, self._settings)

    def _kept(self, frames: NeuralFeatures) -> Array:
        """Return the share of the source's envelope that each frame keeps, (n, 1)."""
        apart = np.abs(self._voice.pitch - frames.pitch[:, :1])
        shares = PATIENT_KEPT if self.ahead else KEPT
        kept: Array = np.interp(apart, APART, shares).astype(np.float32)
        return kept

    def _between(self, change: Array) -> Array:
        """Return what is changed per frame for both rows of each: the second is the one that the
        network saw, the first lies midway between two that it saw."""
        first = change[:1] if self._last_change is None else self._last_change
        before = np.concatenate((first, change[:-1]))
        self._last_change = change[-1:]
        return np.stack((0.5 * (before + change), change), axis=1).reshape(-1, bands.COUNT)

    def _over_speech(self, level: Array) -> Array:
        """Return by how much levels of frames lie over that of the speech so far."""
        relative = np.empty_like(level)
        for index, now in enumerate(level.astype(np.float64)):
            self._speech.hear(now)
            relative[index] = now - self._speech.mean
        return relative

    def _carried(self, shape: Array, frames: NeuralFeatures, warp: Array) -> Array:
        """Return the source's envelope at the voice's tract length and mean, and that there is one,
        (n, 65)."""
        usual = frames.timbre[:, 0].astype(np.float32) @ _LTAS_TO_BANDS - _LEVEL_OFFSET
        moved = bands.warped(shape - usual, warp) + self._voice.means[: bands.COUNT]
        return carried_of(moved)

    def _controls(self, f0: Array, relative: Array, shares: Array) -> Array:
        held = hold(f0, self._last_f0 or float(np.exp(self._median)))
        self._last_f0 = float(held[-1])
        level = steady(relative)
        made = controls_of(held, self._median, level, self._before, shares, f0 > 0)
        self._before = float(level[-1])
        return made
