"""PCM, mu-law and A-law: one code for each sample, behind a WAV header where the format has one."""

from menura.audio import g711
from menura.audio.encoder import Encoder
from menura.audio.level import to_int16
from menura.audio.wav_header import wav_header
from menura.engine.interface import Samples


class PlainEncoder(Encoder):
    """One code for each sample: PCM, mu-law, A-law, and PCM behind a WAV header."""

    @property
    def header(self) -> bytes:
        if self._format.codec != "wav":
            return b""
        return wav_header(self.sample_rate, self._total)

    def push(self, samples: Samples) -> bytes:
        self._taken += samples.size
        codes = to_int16(samples)
        begin = self._begin()
        if self._format.codec == "ulaw":
            return g711.ulaw_encode(codes)
        if self._format.codec == "alaw":
            return g711.alaw_encode(codes)
        return begin + codes.astype("<i2").tobytes()

    def finish(self) -> bytes:
        begin = self._begin()
        self._end()
        return begin
