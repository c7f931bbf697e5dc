"""Streaming conversion of features into another voice's samples."""

from dataclasses import fields, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import (
    EMPTY,
    ConversionSettings,
    Features,
    LatencyProfile,
    Samples,
    Voice,
)
from menura.engine.source_filter.equaliser import Equaliser
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.mapping import Sound
from menura.engine.source_filter.spectrum import STEP, Array, windows
from menura.engine.source_filter.synthesis import PRE, Synthesiser

_LEVEL_MEMORY = 1_600.0
"""Instants over which source and result are compared in level: 8 s."""
_LEVEL_PRIOR = 200.0
"""Instants that "as loud" counts for: 1 s."""
_LEVEL_LIMIT = 0.7
"""Largest correction of the level in nepers of power (3 dB)."""
_RUMBLE = 0.98
"""Pole of the high-pass (76 Hz) through which the source is heard for its level: an offset, or what
shakes a table, is not rendered."""
_DECAY = (_RUMBLE ** np.arange(1, STEP + 1)).astype(np.float32)
_ANSWER = np.tril(_RUMBLE ** (1.0 + np.arange(STEP)[:, None] - np.arange(STEP))).astype(np.float32)
_KNEE = 0.8
"""Amplitude above which peaks are bent so that they stay below full scale."""
_HISS_LIMIT = 0.7
"""Nepers of power (3 dB) by which unvoiced sound may become louder."""


F = TypeVar("F", bound=SourceFilterFeatures)


class Mapping(Protocol[F]):
    """Turns the features of one stream, block by block, into what the voice would have uttered."""

    @property
    def kind(self) -> type[F]:
        """The features it reads."""
        ...

    @property
    def ahead(self) -> int:
        """Rows that it must have been shown beyond those that it answers for."""
        ...

    def push(self, features: F) -> Sound:
        """Return the sound of a block of features, row for row, `ahead` rows late: of the first
        block, without its last `ahead` rows."""
        ...

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings from the next block on."""
        ...


def _too_loud(sound: Sound, gains: Array) -> Array:
    """Return by how much unvoiced instants would be louder than _HISS_LIMIT allows, in log power.

    Long-term spectra know little of the highest bands, where a hiss has all its power: a voice that
    has much of it there would make every s of a source whose s lies elsewhere 20 dB louder.
    """
    excess = np.zeros(len(sound.f0), np.float32)
    hiss = np.flatnonzero(sound.f0 == 0)
    if len(hiss):
        envelope = sound.envelope[hiss]
        wanted = np.log(np.exp(envelope + gains[hiss]).sum(axis=1))
        had = np.log(np.exp(envelope - sound.change[hiss]).sum(axis=1))
        excess[hiss] = np.maximum(wanted - had - _HISS_LIMIT, 0.0)
    return excess


class _Level:
    """How much louder one stream must be rendered to be as loud as its source.

    Mapping keeps the level of envelopes. That of the waveform differs by a decibel or two: pulses
    and noise overlap, and the equaliser moves power to where hearing counts it otherwise.
    """

    def __init__(self) -> None:
        self._source = self._rendered = 0.0
        self._heard = 0.0
        self._before = self._answer = np.float32(0.0)
        self.gain = np.float32(0.0)
        """Log power to add to envelopes."""

    def hear(self, source: Array, rendered: Samples) -> None:
        """Hear as much of the source as of what was rendered with `gain`: (instants, STEP) and as
        many samples."""
        instants = len(rendered) / STEP
        keep = max(0.0, 1.0 - instants / _LEVEL_MEMORY)
        source = self._without_rumble(source)
        self._source = keep * self._source + float(np.mean(source**2)) * instants
        rendered_power = float(np.mean(rendered**2)) * instants * float(np.exp(-self.gain))
        self._rendered = keep * self._rendered + rendered_power
        self._heard = keep * self._heard + instants
        apart = np.log((self._source + 1e-9) / (self._rendered + 1e-9))
        trust = self._heard / (self._heard + _LEVEL_PRIOR)
        self.gain = np.float32(np.clip(trust * apart, -_LEVEL_LIMIT, _LEVEL_LIMIT))

    def _without_rumble(self, source: Array) -> Array:
        """Return the source through a high-pass of one pole, (instants, STEP)."""
        flat = source.ravel()
        steps = np.diff(flat, prepend=self._before).reshape(source.shape)
        self._before = flat[-1]
        answer = steps @ _ANSWER.T
        for index in range(len(answer)):
            answer[index] += _DECAY * self._answer
            self._answer = answer[index, -1]
        return answer


class SourceFilterRendering(Generic[F]):
    """Renders one stream in blocks of a fixed number of output instants counted from its start.

    The first block is as long as the first that the analysis gives out, so that neither waits for
    the other afterwards.
    Output instant m shows the source at instant `m * speed`, between two rows where it must.
    """

    def __init__(
        self,
        mapping: Mapping[F],
        equaliser: Equaliser,
        speed: float,
        seed: int,
        latency: LatencyProfile,
    ) -> None:
        self._mapping = mapping
        self._equaliser = equaliser
        self._kind = mapping.kind
        self._speed = speed
        self._instants = latency.chunk // STEP
        self._block_length = (latency.chunk - latency.look_ahead % latency.chunk) // STEP
        self._synthesiser = Synthesiser(self._instants, seed)
        self._level = _Level()
        self._rows = self._kind.silence()
        self._first = -1
        self._next = 0
        self._skip = STEP + PRE
        self._given = 0

    @property
    def delay(self) -> int:
        """Samples held back between a frame's arrival and its last sample's departure."""
        behind = self._mapping.ahead + (0 if self._speed == 1.0 else self._instants)
        return STEP + PRE + behind * STEP

    def push(self, features: Features) -> Samples:
        """Take features in and return the samples that have become final."""
        if type(features) is not self._kind:
            raise TypeError(f"{type(features).__name__} comes from another engine's analysis")
        self._rows = self._kind.joined([self._rows, features])
        parts = [EMPTY]
        while self._first + len(self._rows.f0) > np.ceil(self._wanted()[-1]):
            parts.append(self._block())
        out = np.concatenate(parts)
        self._given += len(out)
        return out

    def flush(self, total: int) -> Samples:
        """End the stream and return the remaining samples."""
        wanted = round(total / self._speed)
        parts = [EMPTY]
        while self._given < wanted:
            parts.append(self.push(self._kind.joined([self._rows[-1:]] * self._instants)))
        out = np.concatenate(parts)
        return out[: len(out) - (self._given - wanted)]

    def change(
        self, voice: Voice | None = None, settings: ConversionSettings | None = None
    ) -> None:
        """Change voice or settings from the next frame on, without a click. `speed` is kept."""
        self._mapping.change(voice, settings)
        self._equaliser.change(voice, settings)

    def _wanted(self) -> NDArray[np.float64]:
        """Return the positions that the mapping is to be shown for the next block."""
        ahead = self._mapping.ahead
        begin = self._next + ahead if self._next else 0
        end = self._next + self._block_length + ahead
        return np.arange(begin, end, dtype=np.float64) * self._speed

    def _block(self) -> Samples:
        offsets = self._wanted() - self._first
        if self._speed == 1.0:
            shown = self._rows[int(offsets[0]) : int(offsets[0]) + len(offsets)]
        else:
            shown = _between(self._rows, offsets)
        instants = self._next + np.arange(self._block_length)
        starts = np.rint((instants * self._speed - self._first) * STEP).astype(np.intp) - STEP
        grains = windows(self._rows.samples.ravel(), 2 * STEP)[starts]
        sound = self._mapping.push(shown)
        gains = self._equaliser.gains(self._block_length) + self._level.gain
        gains = gains - _too_loud(sound, gains)[:, None]
        equal = replace(sound, envelope=sound.envelope + gains, change=sound.change + gains)
        out = self._synthesiser.push(equal, grains)
        self._equaliser.hear(out, bool((sound.f0 > 0).any()))
        self._level.hear(grains[:, STEP:], out)
        self._next += self._block_length
        self._block_length = self._instants
        keep = int(self._next * self._speed) - 1
        self._rows = self._rows[keep - self._first :]
        self._first = keep
        skipped = min(self._skip, len(out))
        self._skip -= skipped
        return _within_full_scale(out[skipped:])


def _between(rows: F, offsets: NDArray[np.float64]) -> F:
    """Read features at fractional rows."""
    low = np.minimum(offsets.astype(np.intp), len(rows.f0) - 1)
    high = np.minimum(low + 1, len(rows.f0) - 1)
    part = (offsets - low).astype(np.float32)
    nearest = np.where(part < 0.5, low, high)
    read: dict[str, Any] = {}
    for field in fields(rows):
        values = getattr(rows, field.name)
        if field.name in rows.GLIDING:
            below, above = values[low].astype(np.float32), values[high].astype(np.float32)
            read[field.name] = (below + part[:, None] * (above - below)).astype(values.dtype)
        else:
            read[field.name] = values[nearest]
    before, after = rows.f0[low], rows.f0[high]
    gliding = before * (np.maximum(after, 1.0) / np.maximum(before, 1.0)) ** part
    read["f0"] = np.where((before > 0) & (after > 0), gliding, read["f0"])
    return type(rows)(**read)


def _within_full_scale(samples: Samples) -> Samples:
    level = np.abs(samples)
    bent = _KNEE + (1.0 - _KNEE) * np.tanh((level - _KNEE) / (1.0 - _KNEE))
    bent = np.minimum(np.where(level > _KNEE, bent, level), 1.0)
    return np.asarray(np.copysign(bent, samples), dtype=np.float32)
