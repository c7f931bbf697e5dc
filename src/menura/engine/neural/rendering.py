"""Streaming rendering: features of the source and a voice in, samples out."""

import numpy as np

from menura.engine.interface import ConversionSettings, Features, LatencyProfile, Samples, Voice
from menura.engine.neural import filters, tract
from menura.engine.neural.features import HOP, Array
from menura.engine.neural.frames import ARRAYS, NeuralFeatures, nothing, of_arrays
from menura.engine.neural.networks import Networks
from menura.engine.neural.synthesis import Synthesiser
from menura.engine.neural.voice import TUNED, NeuralVoice

TUNED_COLUMNS = np.r_[0 : filters.GAINS, filters.HARMONIC : filters.CONTROLS]
"""Where the gains stand among the controls."""
_DEFAULT_SIMILARITY = 0.75
_MOST_CORRECTION = 1.0
"""Nepers by which the long-term spectrum is at most moved to the voice's: 9 dB."""
_PRIOR_FRAMES = 150.0
_MEMORY_FRAMES = 2_000.0
"""Frames of speech that outweigh the assumption that the spectrum is right, and that are kept."""
_LOWEST_HZ, _HIGHEST_HZ = 45.0, 900.0


class NeuralRendering:
    """Renders one stream, block by block as the analysis gave them.

    similarity_boost: how far from an average voice the target is taken; 0.75 is the measured voice,
    1 exaggerates it. stability: above 0.5 narrows the pitch contour, below widens it. style: widens
    the contours of pitch and loudness. seed: the noise of breath and fricatives.
    """

    def __init__(
        self,
        networks: Networks,
        voice: NeuralVoice,
        settings: ConversionSettings,
        seed: int,
        latency: LatencyProfile,
        most_correction: float = _MOST_CORRECTION,
    ) -> None:
        self._networks = networks
        self._speed = settings.speed
        self._state = np.zeros(networks.decoder_state, np.float32)
        self._synthesiser = Synthesiser(seed)
        self._last_gentle: float | None = None
        self._most_correction = most_correction
        self._gain_sum = np.zeros(TUNED)
        self._gain_count = np.zeros(1)
        self.free_gains = np.zeros((0, TUNED), np.float32)
        """Gains over the level that the decoder gave last, before tuning, (n, 144)."""
        self._row: NeuralFeatures = nothing()
        self._place = 0.0
        self._given = 0
        self._voice = voice
        self._settings = settings
        self._adopt()

    @property
    def delay(self) -> int:
        """Samples held back between a frame's arrival and its last sample's departure."""
        return HOP

    def push(self, features: Features) -> Samples:
        """Take features in and return the samples that have become final."""
        if not isinstance(features, NeuralFeatures):
            raise TypeError(f"{type(features).__name__} comes from another engine's analysis")
        parts = [self._block(self._paced(block)) for block in features.blocks()]
        out = np.concatenate([np.zeros(0, np.float32), *parts])
        self._given += len(out)
        return out

    def flush(self, total: int) -> Samples:
        """End the stream and return the remaining samples."""
        wanted = round(total / self._speed)
        parts = [np.zeros(0, np.float32)]
        last = self._row
        while self._given < wanted and last.frames:
            part = self._block(last)[: wanted - self._given]
            parts.append(part)
            self._given += len(part)
        missing = max(0, wanted - self._given)
        self._given += missing
        return np.concatenate([*parts, np.zeros(missing, np.float32)])

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        if voice is not None:
            if not isinstance(voice, NeuralVoice):
                raise TypeError(f"{type(voice).__name__} is a voice of another engine")
            self._voice = voice
            self._gain_sum, self._gain_count = np.zeros(TUNED), np.zeros(1)
        if settings is not None:
            self._settings = settings
        self._adopt()

    def _adopt(self) -> None:
        boost = self._settings.similarity_boost
        reach = boost / _DEFAULT_SIMILARITY
        self._towards = min(1.0, reach)
        share = self._towards if reach <= 1.0 else 1.0 + 0.6 * (reach - 1.0)
        average = self._networks.average
        vector = average + share * (self._voice.vector - average)
        self._modulation = self._networks.modulation.run(None, {"voice": vector[None]})[0]
        prior = self._networks.prior
        self._spectrum = (prior + share * (self._voice.spectrum - prior))[None].astype(np.float32)
        stability, style = self._settings.stability, self._settings.style
        self._contour = (1.15 - 0.3 * stability) * (1.0 + 0.4 * style)
        self._dynamics = 0.25 * style

    def _paced(self, block: NeuralFeatures) -> NeuralFeatures:
        if self._speed == 1.0:
            self._row = block.rows(slice(block.frames - 1, None))
            return block
        known = NeuralFeatures.joined([self._row, block])
        places = []
        while self._place <= known.frames - 1:
            places.append(self._place)
            self._place += self._speed
        self._place -= known.frames - 1
        self._row = known.rows(slice(known.frames - 1, None))
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, known.frames - 1)
        share = (np.asarray(places) - low).astype(np.float32)
        arrays = []
        for name in ARRAYS:
            values = getattr(known, name)
            part = share[:, None] if values.ndim == 2 else share
            arrays.append((values[low] * (1 - part) + values[high] * part).astype(np.float32))
        return of_arrays(arrays)

    def _pitch(self, f0: Array, median: Array) -> Array:
        """Return log F0 in the target's range."""
        centre = median + self._towards * (self._voice.median - median)
        moved = centre + self._contour * (np.log(f0) - median)
        clipped = np.clip(moved, np.log(_LOWEST_HZ), np.log(_HIGHEST_HZ))
        return np.asarray(clipped, np.float32)

    def _mean_gains(self, speech: Array) -> Array:
        """Return the running mean of the gains over the level at each frame, (n, 144)."""
        sums = self._gain_sum + np.cumsum(speech * self.free_gains, axis=0)
        counts = self._gain_count + np.cumsum(speech, axis=0)
        self._gain_sum, self._gain_count = sums[-1], counts[-1]
        if self._gain_count[0] > _MEMORY_FRAMES:
            self._gain_sum *= _MEMORY_FRAMES / self._gain_count
            self._gain_count = np.full(1, _MEMORY_FRAMES)
        prior = _PRIOR_FRAMES * self._voice.centre
        return np.asarray((prior + sums) / (_PRIOR_FRAMES + counts), np.float32)

    def _tuned(self, gains: Array, level: Array, gentle: Array, gate: Array) -> Array:
        voice = self._voice
        self.free_gains = gains - level[:, None]
        speech = np.clip((gentle + 5.0) / 3.0, 0.0, 1.0)[:, None]
        sharper = (voice.contrast - 1.0) * (self.free_gains - voice.centre)
        drift = voice.centre - self._mean_gains(speech)
        correction = self._towards * np.clip(drift, -self._most_correction, self._most_correction)
        silent = np.log(gate + 1e-12)[:, None]
        tuned = gains + speech * np.clip(sharper, -2.0, 1.0) + correction + voice.equaliser + silent
        return np.asarray(tuned, np.float32)

    def _block(self, block: NeuralFeatures) -> Samples:
        if block.frames == 0:
            return np.zeros(0, np.float32)
        pitch = self._pitch(block.f0, block.median)
        following = self._pitch(block.next_f0, block.median)
        lift = self._dynamics * np.clip(block.gentle, -4.0, 2.0)
        gentle = np.asarray(block.gentle + lift, np.float32)
        first = gentle[0] if self._last_gentle is None else self._last_gentle
        change = np.diff(gentle, prepend=np.float32(first))
        self._last_gentle = float(gentle[-1])
        steering = np.stack((pitch - 5.0, pitch - self._voice.median, gentle * 0.3, change), axis=1)
        steering = np.concatenate((steering, block.periodicity), axis=1).astype(np.float32)
        ratio = tract.ratios(block.median, self._voice.median, self._towards)
        controls, self._state = self._networks.decoder.run(
            None,
            {
                "content": block.code[None],
                "mel": tract.moved(block.shape, ratio)[None],
                "steering": steering[None],
                "energy": (block.energy + lift)[None, :, None].astype(np.float32),
                "spectrum": self._spectrum,
                "modulation": self._modulation,
                "state": self._state,
            },
        )
        controls = controls[0]
        controls[:, TUNED_COLUMNS] = self._tuned(
            controls[:, TUNED_COLUMNS],
            np.asarray(0.5 * (block.energy + lift), np.float32),
            gentle,
            block.gate,
        )
        return self._synthesiser.push(controls, np.exp(pitch), np.exp(following))
