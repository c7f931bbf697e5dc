"""From recordings of any length and kind to the minute of speech a voice is measured from."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import IO

import numpy as np

from menura.audio.decode import Decoder, kind_of, open_decoder
from menura.audio.resample import Resampler
from menura.denoise import Denoiser
from menura.engine.interface import (
    SAMPLE_RATE,
    Engine,
    Measurement,
    Samples,
    UnusableReferenceError,
)
from menura.errors import AudioTooLong, InvalidAudio, MenuraError

MEASURED_SECONDS = 60
"""Speech an engine is given at most, of all recordings of a voice together."""

SEGMENT_SECONDS = 5
"""Recordings longer than that in all are cut into pieces of this length and the best taken."""

Permit = Callable[[], AbstractContextManager[object]]
"""Gives the right to compute for a short while, fairly among all who want it."""

_FADE = SAMPLE_RATE // 200
_FRAME = SAMPLE_RATE // 50
_FLOOR_DB = -60.0

_MIME_TYPES = {
    "aac": "audio/aac",
    "ac3": "audio/ac3",
    "aiff": "audio/aiff",
    "amr": "audio/amr",
    "ape": "audio/x-ape",
    "asf": "audio/x-ms-wma",
    "au": "audio/basic",
    "avi": "video/x-msvideo",
    "caf": "audio/x-caf",
    "dts": "audio/vnd.dts",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "loas": "audio/mp4a-latm",
    "matroska": "audio/webm",
    "mov": "audio/mp4",
    "mp3": "audio/mpeg",
    "mpc": "audio/x-musepack",
    "mpc8": "audio/x-musepack",
    "mpeg": "video/mpeg",
    "mpegts": "video/mp2t",
    "nistsphere": "audio/x-nist",
    "ogg": "audio/ogg",
    "rm": "audio/x-pn-realaudio",
    "tta": "audio/x-tta",
    "voc": "audio/x-voc",
    "w64": "audio/x-w64",
    "wav": "audio/wav",
    "wv": "audio/x-wavpack",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording to measure a voice from.

    file: what it lies in. remove_background_noise: before it is measured.
    """

    name: str
    file: Traversable
    remove_background_noise: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What was found out about one recording. seconds: of its whole audio."""

    mime_type: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A voice measured from recordings, and what was found out about each of them."""

    measurement: Measurement
    heard: tuple[Heard, ...]


def measure(
    engine: Engine, references: Sequence[Reference], *, max_seconds: float, permit: Permit
) -> Measured:
    """Decode references, choose the best minute and have an engine measure the voice.

    Blocks; meant for a thread. max_seconds: of all recordings together, 0 lifts the limit.

    Raises InvalidAudio, InvalidAudioFormat and AudioTooLong, which name the recording.
    """
    picker = SpeechPicker(MEASURED_SECONDS * SAMPLE_RATE)
    heard: list[Heard] = []
    left = max_seconds or float("inf")
    for reference in references:
        with reference.file.open("rb") as source:
            found = _hear(reference, source, picker, left, max_seconds, permit)
        left -= found.seconds
        heard.append(found)
    speech = []
    for reference, samples in zip(references, picker.chosen(), strict=True):
        if samples.size:
            clean = reference.remove_background_noise
            speech.append(_denoised(samples, permit) if clean else samples)
    try:
        with permit():
            measurement = engine.measure(speech)
    except UnusableReferenceError as error:
        raise InvalidAudio(
            f"No voice can be made from the recordings: {error}", param="files"
        ) from None
    return Measured(measurement, tuple(heard))


def judge(warnings: Sequence[str]) -> tuple[str, str | None]:
    """Return the contract's `recording_quality` and its reason for an engine's warnings."""
    quality = ("good", "ok", "poor")[min(len(warnings), 2)]
    return quality, " ".join(warnings) or None


class SpeechPicker:
    """Keeps the parts of recordings that hold the most speech, in constant memory.

    budget: samples kept of all recordings together. Any chunking of a recording gives the same.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held = 0
        self._kept: list[tuple[float, int, int, Samples]] = []
        self._recording = -1
        self._place = 0
        self._segment = np.zeros(0, np.float32)

    def begin(self) -> None:
        """Start the next recording."""
        self._recording += 1
        self._place = 0
        self._segment = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> None:
        """Take samples of the recording in."""
        length = SEGMENT_SECONDS * SAMPLE_RATE
        self._segment = np.concatenate((self._segment, samples))
        while self._segment.size >= length:
            self._keep(self._segment[:length].copy())
            self._segment = self._segment[length:]

    def end(self) -> None:
        """End the recording."""
        if self._segment.size:
            self._keep(self._segment)
        self._segment = np.zeros(0, np.float32)

    def chosen(self) -> list[Samples]:
        """Return what was kept of each recording, in order, cuts smoothed."""
        parts: list[list[tuple[int, Samples]]] = [[] for _ in range(self._recording + 1)]
        for _, recording, place, samples in self._kept:
            parts[-recording].append((-place, samples))
        return [_joined(sorted(pieces, key=lambda piece: piece[0])) for pieces in parts]

    def _keep(self, samples: Samples) -> None:
        # Among equals the earliest stay, hence the minus signs.
        heapq.heappush(self._kept, (_speech(samples), -self._recording, -self._place, samples))
        self._place += 1
        self._held += samples.size
        while self._held > self._budget and len(self._kept) > 1:
            self._held -= heapq.heappop(self._kept)[3].size


def _hear(
    reference: Reference,
    source: IO[bytes],
    picker: SpeechPicker,
    left: float,
    max_seconds: float,
    permit: Permit,
) -> Heard:
    with _named(reference):
        with permit():
            kind = kind_of(source)
            source.seek(0)
            decoder = open_decoder(source)
        try:
            seconds = _pick(decoder, picker, left, max_seconds, permit)
        finally:
            decoder.close()
    demuxer = None if kind is None else kind.demuxer
    return Heard(_MIME_TYPES.get(demuxer or "", "application/octet-stream"), seconds)


@contextmanager
def _named(reference: Reference) -> Iterator[None]:
    """Have a refusal name the recording that it is about."""
    try:
        yield
    except MenuraError as error:
        raise type(error)(f"{reference.name}: {error.message}", param="files") from None


def _pick(
    decoder: Decoder, picker: SpeechPicker, left: float, max_seconds: float, permit: Permit
) -> float:
    """Give a whole recording to the picker, block by block; return its seconds."""
    resampler = Resampler(decoder.sample_rate, SAMPLE_RATE)
    count = 0
    picker.begin()
    while True:
        with permit():
            block = decoder.read()
            if not block.size:
                picker.push(resampler.flush())
                picker.end()
                return count / decoder.sample_rate
            count += block.size
            picker.push(resampler.push(block))
        if count > left * decoder.sample_rate:
            raise AudioTooLong(
                f"the recordings of a voice may last {max_seconds:g} seconds in all; "
                "one or two minutes are enough."
            )


def _speech(samples: Samples) -> float:
    """Return how much speech a stretch seems to hold: level above a floor, summed over time."""
    frames = samples[: samples.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / _FRAME
    levels = 10 * np.log10(power + 1e-12)
    return float(np.clip(levels - _FLOOR_DB, 0, None).sum())


def _joined(pieces: Sequence[tuple[int, Samples]]) -> Samples:
    if not pieces:
        return np.zeros(0, np.float32)
    joined: list[Samples] = []
    for number, (place, samples) in enumerate(pieces):
        piece = samples.copy()
        if number and pieces[number - 1][0] != place - 1:
            fade = np.linspace(0, 1, min(_FADE, piece.size), dtype=np.float32)
            piece[: fade.size] *= fade
            before = joined[-1]
            fade = fade[: before.size]
            before[before.size - fade.size :] *= fade[::-1]
        joined.append(piece)
    return np.concatenate(joined)


def _denoised(samples: Samples, permit: Permit) -> Samples:
    denoiser = Denoiser()
    up = Resampler(SAMPLE_RATE, denoiser.sample_rate)
    down = Resampler(denoiser.sample_rate, SAMPLE_RATE)
    cleaned = []
    for start in range(0, samples.size, SAMPLE_RATE):
        with permit():
            block = up.push(samples[start : start + SAMPLE_RATE])
            cleaned.append(down.push(denoiser.push(block)))
    with permit():
        cleaned.append(down.push(denoiser.push(up.flush())))
        cleaned.append(down.push(denoiser.flush()))
        cleaned.append(down.flush())
    return np.concatenate(cleaned)[: samples.size]
