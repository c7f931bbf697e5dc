"""The stages between a file and its features, and between features and the answer's bytes.

    Source:  decoder -> resampler -> (denoiser -> resampler)      -> samples at 24 kHz
    Target:  rendering -> resampler -> encoder                    -> bytes

Neither holds more than its stages' delays, however long the audio is.
"""

import numpy as np

from menura import errors
from menura.audio.decode import open_decoder
from menura.audio.encode import open_encoder
from menura.audio.resample import Resampler, resampled_length
from menura.audio.source import Source as BinarySource
from menura.conversion.lanes import Seat
from menura.conversion.request import ConversionRequest, Duration, DurationLimits, SourcePlan
from menura.denoise import Denoiser
from menura.engine.interface import EMPTY, Features, Samples


class Counted:
    """A decoder that counts its samples and refuses what is too short or too long.

    Opening and reading block as long as `source` does. Raises what `open_decoder` raises,
    AudioTooLong as soon as the limit is passed, and AudioTooShort at the end.
    """

    def __init__(self, source: BinarySource, file_format: str, limits: DurationLimits) -> None:
        self._decoder = open_decoder(source, file_format)
        self._limits = limits
        self.sample_rate = self._decoder.sample_rate
        self.samples = 0
        self.ended = False

    @property
    def duration(self) -> Duration:
        """The length read so far; the whole length once `ended`."""
        return Duration(self.samples, self.sample_rate)

    def read(self) -> Samples:
        """Return the next block, empty at the end."""
        block = self._decoder.read()
        if not block.size:
            self.ended = True
            self._check_shortest()
            return EMPTY
        self.samples += block.size
        longest = self._limits.max_seconds
        if longest and self.samples > longest * self.sample_rate:
            raise errors.AudioTooLong(
                f"The audio is longer than {longest:g} seconds, the most that is accepted.",
                param="audio",
            )
        return block

    def close(self) -> None:
        """Free the decoder."""
        self._decoder.close()

    def _check_shortest(self) -> None:
        seconds = self.duration.seconds
        if seconds < self._limits.min_seconds:
            raise errors.AudioTooShort(
                f"The audio has {seconds:g} seconds; at least "
                f"{self._limits.min_seconds:g} are needed.",
                param="audio",
            )


class Source:
    """A file as samples at the plan's rate, block by block, noise removed when asked."""

    def __init__(self, source: BinarySource, plan: SourcePlan, limits: DurationLimits) -> None:
        self._counted = Counted(source, plan.file_format, limits)
        self._denoiser = Denoiser() if plan.denoise else None
        clean_rate = self._denoiser.sample_rate if self._denoiser else plan.sample_rate
        self._before = Resampler(self._counted.sample_rate, clean_rate)
        self._after = Resampler(clean_rate, plan.sample_rate)
        self._total = 0
        self._sample_rate = plan.sample_rate

    @property
    def ended(self) -> bool:
        """Whether `read` has given out the last sample."""
        return self._counted.ended

    @property
    def duration(self) -> Duration:
        """The length read so far; the whole length once `ended`."""
        return self._counted.duration

    @property
    def total(self) -> int:
        """Samples given out so far."""
        return self._total

    def read(self) -> Samples:
        """Return the next samples, possibly none; the last ones together with `ended`."""
        block = self._counted.read()
        out = self._flush() if self._counted.ended else self._push(block)
        self._total += out.size
        return out

    def close(self) -> None:
        """Free the decoder."""
        self._counted.close()

    def _push(self, block: Samples) -> Samples:
        samples = self._before.push(block)
        if self._denoiser is not None:
            samples = self._denoiser.push(samples)
        return self._after.push(samples)

    def _flush(self) -> Samples:
        rest = self._before.flush()
        if self._denoiser is not None:
            rest = np.concatenate((self._denoiser.push(rest), self._denoiser.flush()))
        rest = np.concatenate((self._after.push(rest), self._after.flush()))
        duration = self._counted.duration
        exact = resampled_length(duration.samples, duration.sample_rate, self._sample_rate)
        return fitted(rest, exact - self._total)


class Target:
    """Features as bytes of the answer.

    seat: where they are rendered. duration: of the source, None where it is not known beforehand;
    a WAV header needs it.
    """

    def __init__(self, request: ConversionRequest, seat: Seat, duration: Duration | None) -> None:
        plan = request.source
        self._speed = request.settings.speed
        self._rendering = seat.rendering(
            plan.engine, request.voice, request.settings, request.seed, plan.latency
        )
        rate = request.output_format.sample_rate
        total = None if duration is None else output_length(duration, self._speed, rate)
        self._encoder = open_encoder(request.output_format, total)
        self._resampler = Resampler(plan.sample_rate, rate)
        self._rate = rate
        self._samples = 0

    @property
    def seconds(self) -> float:
        """Seconds of audio given to the encoder so far."""
        return self._samples / self._rate

    def push(self, features: Features) -> bytes:
        """Take features in and return the bytes that have become final."""
        return self._encode(self._resampler.push(self._rendering.push(features)))

    def finish(self, total: int, duration: Duration) -> bytes:
        """End the stream and return the remaining bytes.

        total: samples that were pushed into the analysis. duration: of the whole source.
        """
        last = self._resampler.push(self._rendering.flush(total))
        rest = np.concatenate((last, self._resampler.flush()))
        exact = output_length(duration, self._speed, self._rate)
        return self._encode(fitted(rest, exact - self._samples)) + self._encoder.finish()

    def _encode(self, samples: Samples) -> bytes:
        self._samples += samples.size
        return self._encoder.push(samples)


def output_length(duration: Duration, speed: float, sample_rate: int) -> int:
    """Return the exact number of samples the answer has at its rate."""
    if speed == 1:
        return resampled_length(duration.samples, duration.sample_rate, sample_rate)
    return round(duration.samples * sample_rate / duration.sample_rate / speed)


def fitted(samples: Samples, length: int) -> Samples:
    """Return the samples cut, or filled up with zeros, to `length`.

    Two roundings of one length may differ by a sample; the end of the audio takes it.
    """
    if samples.size >= length:
        return samples[: max(0, length)]
    return np.concatenate((samples, np.zeros(length - samples.size, np.float32)))
