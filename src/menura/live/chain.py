"""The stages of a live stream joined into one: bytes, samples, (noise removal), voice, bytes."""

from dataclasses import dataclass, field

import numpy as np

from menura.audio.encode import open_encoder
from menura.audio.formats import OutputFormat
from menura.audio.live import LiveDecoder
from menura.audio.low_delay import LowDelayResampler
from menura.conversion.lanes import Seat
from menura.denoise import Denoiser
from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    ConversionSettings,
    Engine,
    LatencyProfile,
    Samples,
    Voice,
)
from menura.voices.settings import VoiceSettings


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """Everything that decides one live stream.

    decoder: of the input, for this stream alone. drop_late: seconds that audio may be late before
    it is dropped; null never drops any. asked: what the client itself said of the settings; a later
    change is laid over it.
    """

    engine: Engine
    voice: Voice
    output_format: OutputFormat
    decoder: LiveDecoder
    settings: ConversionSettings = field(default_factory=ConversionSettings)
    asked: VoiceSettings = field(default_factory=VoiceSettings)
    seed: int = 0
    denoise: bool = False
    latency: LatencyProfile = LATENCY_PROFILES[3]
    drop_late: float | None = 0.5


class LiveChain:
    """The stages of a live stream as one: input bytes in, output bytes out.

    Any chunking of the input bytes gives the same output bytes (Opus: of whole packets).
    seat: where the voice is changed.
    """

    def __init__(self, request: LiveRequest, seat: Seat) -> None:
        self._decoder = request.decoder
        self._denoiser = Denoiser(live=True) if request.denoise else None
        clean_rate = self._denoiser.sample_rate if self._denoiser else SAMPLE_RATE
        self._before = LowDelayResampler(self._decoder.sample_rate, clean_rate)
        self._after = LowDelayResampler(clean_rate, SAMPLE_RATE)
        self._conversion = seat.stream(
            request.engine, request.voice, request.settings, request.latency, request.seed
        )
        self._encoder = open_encoder(request.output_format)
        self._resampler = LowDelayResampler(SAMPLE_RATE, self._encoder.sample_rate)
        self._output_rate = self._encoder.sample_rate
        self._encoded = 0
        self.level_peak = 0.0
        self.delay = self._delay()
        """Seconds at most between a sample's arrival and its counterpart's departure."""

    @property
    def input_rate(self) -> int:
        """Rate of the decoded input in Hz."""
        return self._decoder.sample_rate

    @property
    def seconds(self) -> float:
        """Seconds of audio made so far."""
        return self._encoded / self._output_rate

    def decode(self, data: bytes) -> Samples:
        """Return the samples of some input bytes, at `input_rate`. Raises InvalidAudio."""
        return self._decoder.push(data)

    def push(self, samples: Samples) -> bytes:
        """Take decoded samples in and return the output bytes that have become final."""
        if samples.size:
            self.level_peak = max(self.level_peak, float(np.abs(samples).max()))
        clean = self._before.push(samples)
        if self._denoiser is not None:
            clean = self._denoiser.push(clean)
        return self._encode(self._conversion.push(self._after.push(clean)))

    def flush(self) -> bytes:
        """End the input and return the remaining bytes. The object is spent afterwards."""
        clean = self._before.flush()
        if self._denoiser is not None:
            clean = np.concatenate((self._denoiser.push(clean), self._denoiser.flush()))
        last = np.concatenate((self._after.push(clean), self._after.flush()))
        made = np.concatenate((self._conversion.push(last), self._conversion.flush()))
        rest = self._encode(made)
        tail = self._resampler.flush()
        self._encoded += tail.size
        return rest + self._encoder.push(tail) + self._encoder.finish()

    def close(self) -> None:
        """Free the stages, with the threads of their libraries; what the chain tells stays."""
        del self._denoiser, self._before, self._after, self._conversion
        del self._resampler, self._encoder

    def change(self, voice: Voice | None, settings: ConversionSettings | None) -> None:
        """Change voice or settings from here on, without a click."""
        self._conversion.change(voice, settings)

    def _delay(self) -> float:
        denoising = self._denoiser.delay / self._denoiser.sample_rate if self._denoiser else 0.0
        return (
            self._before.delay_seconds
            + denoising
            + self._after.delay_seconds
            + self._conversion.delay / SAMPLE_RATE
            + self._resampler.delay_seconds
            + self._encoder.delay / self._encoder.sample_rate
        )

    def _encode(self, samples: Samples) -> bytes:
        ready = self._resampler.push(samples)
        self._encoded += ready.size
        return self._encoder.push(ready)
