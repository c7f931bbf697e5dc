"""What Whisper hears of an envelope, with a gradient: its spectra, and its encoder in torch.

The teacher (`teacher.py`) runs in ctranslate2, which gives no gradient; here is the same encoder
from the same file. It hears no waveform: the power of a window is the envelope's times that of what
excites it (pulses and noise at the F0 wanted or, where nothing is voiced, the source whitened by
its own envelope), and of the former there is a gradient. With 24 held-out clips heard so, at their
own F0 and with noise where unvoiced, Whisper's answer moves by 0.06 of its power, which is what
rendering them costs anyway.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from menura.engine.interface import SAMPLE_RATE
from menura.engine.neural import bands
from menura.engine.source_filter import periodicity
from menura.engine.source_filter.synthesis import FIRM
from training.teacher import RATE, joined

WINDOW, STEP = 400, 160
"""Samples of Whisper's window, and from one to the next, at 16 kHz."""
BINS, MELS = WINDOW // 2 + 1, 80
LAYERS, HEADS, WIDTH = 6, 8, 512
RANGE = 8.0
"""Decades under the loudest value that Whisper's spectra end at."""
UNVOICED_F0 = 150.0
"""F0 in Hz of what excites envelopes where there is none and nothing is whitened."""
BRIGHTEST = 30.0
"""Most that the whitened source may exceed its envelope by."""

_WINDOW = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_BETWEEN = np.sqrt((2.0 + np.cos(np.pi * np.arange(BINS) / (BINS - 1))) / 3.0)
"""What laying a pulse between two samples leaves of its amplitude, on average."""
_POWER = float(np.square(_WINDOW).sum())
_HERTZ = np.arange(BINS) * RATE / WINDOW
_FILTERS = np.asarray(FeatureExtractor().mel_filters, np.float32)
_SPREAD = np.stack([np.interp(_HERTZ, bands.CENTRES, row) for row in np.eye(bands.COUNT)])
_SHARES = np.stack(
    [np.interp(_HERTZ, periodicity.CENTRES, row) for row in np.eye(periodicity.BANDS)]
)
_OFFSET = float(np.log(RATE / SAMPLE_RATE * _POWER))
"""From the log power of the engine's envelopes, at 24 kHz, to Whisper's, in nepers."""

Array = NDArray[np.float32]


def at_its_rate(wave: Array, frames: int) -> Array:
    """Return frames of a 24 kHz wave at 16 kHz, silence after its end, (160 frames,)."""
    samples = soxr.resample(wave, SAMPLE_RATE, RATE)[: frames * STEP]
    return np.pad(samples, (0, frames * STEP - len(samples)))


def windows(waves: Array, frames: int) -> NDArray[np.complex64]:
    """Return the spectra of 16 kHz waves, (n, frames, BINS); frame j is centred at 160 j + 80."""
    padded = np.pad(waves, ((0, 0), (WINDOW // 2 - STEP // 2, WINDOW)))
    at = np.arange(frames)[:, None] * STEP + np.arange(WINDOW)
    return np.fft.rfft(padded[:, at] * _WINDOW, axis=-1).astype(np.complex64)


def excitation(f0: Array, shares: Array, rng: np.random.Generator) -> Array:
    """Return the power of what excites envelopes of 0 dB, (n, frames, BINS).

    f0: Hz, 0 where unvoiced, (n, frames). shares: periodic ones, (n, frames, 8).
    """
    held = np.where(f0 > 0, f0, UNVOICED_F0)
    count, frames = f0.shape
    time = (np.arange(frames * STEP) - STEP // 2) / STEP
    pulses = np.zeros((count, frames * STEP), np.float32)
    for out, curve in zip(pulses, held, strict=True):
        hertz = np.interp(time, np.arange(frames), curve)
        phase = np.cumsum(hertz / RATE) + rng.random()
        struck = np.flatnonzero(np.floor(phase[1:]) > np.floor(phase[:-1])) + 1
        late = (phase[struck] % 1.0) / (hertz[struck] / RATE)
        size = np.sqrt(RATE / hertz[struck])
        np.add.at(out, struck, size * (1.0 - late))
        np.add.at(out, struck - 1, size * late)
    noise = rng.standard_normal(pulses.shape).astype(np.float32)
    share = np.maximum(np.clip(shares, 0.0, 1.0), FIRM)
    share = (share * (f0 > 0)[..., None]) @ _SHARES
    both = np.sqrt(share) * (windows(pulses, frames) / _BETWEEN)
    both = both + np.sqrt(1.0 - share) * windows(noise, frames)
    return np.asarray(np.square(np.abs(both)) / _POWER, np.float32)


def whitened(waves: Array, envelopes: Array) -> Array:
    """Return the power of 16 kHz waves under their own envelopes, (n, frames, BINS).

    envelopes: log power of 64 bands, (n, frames, 64).
    """
    power = np.square(np.abs(windows(waves, envelopes.shape[1])))
    return np.asarray(
        np.minimum(power / np.exp(envelopes @ _SPREAD + _OFFSET), BRIGHTEST), np.float32
    )


def of_waves(waves: Array, frames: int) -> Tensor:
    """Return what Whisper is shown of 16 kHz waves, (n, 80, frames)."""
    return _shown(torch.from_numpy(np.square(np.abs(windows(waves, frames)))))


def of_envelopes(envelopes: Tensor, excited: Tensor) -> Tensor:
    """Return what Whisper is shown of envelopes, (n, 80, frames).

    envelopes: log power of 64 bands, (n, frames, 64). excited: of `excitation` or `whitened`.
    """
    spread = torch.from_numpy(_SPREAD).to(envelopes)
    return _shown(torch.exp((envelopes @ spread + _OFFSET).clamp(max=30.0)) * excited)


def _shown(power: Tensor) -> Tensor:
    mel = torch.log10((power @ torch.from_numpy(_FILTERS.T)).clamp(min=1e-10)).transpose(1, 2)
    floor = mel.amax(dim=(1, 2), keepdim=True).detach() - RANGE
    return (torch.maximum(mel, floor) + 4.0) / 4.0


class Ear(nn.Module):
    """Whisper base's encoder. layers: how many of its six; with fewer, the last lacks its norm."""

    def __init__(self, folder: Path, layers: int = LAYERS) -> None:
        super().__init__()
        self.layers = layers
        joined(folder)
        self._held = {
            name.removeprefix("encoder/"): torch.from_numpy(value.astype(np.float32))
            for name, value in weights_of(folder / "model.bin").items()
            if name.startswith("encoder/") and value.ndim
        }

    def forward(self, mel: Tensor, middle: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """Return what the encoder makes of spectra, (n, frames / 2, 512), and what the layers named
        in `middle` (from 1) give out, alike. mel: (n, 80, frames)."""
        held = self._held
        x = functional.gelu(functional.conv1d(mel, *self._pair("conv1"), padding=1))
        x = functional.gelu(functional.conv1d(x, *self._pair("conv2"), stride=2, padding=1))
        x = x.transpose(1, 2)
        x = x + held["position_encodings/encodings"][: x.shape[1]]
        given = []
        for layer in range(self.layers):
            part = f"layer_{layer}/self_attention"
            asked = functional.linear(self._norm(x, part), *self._pair(f"{part}/linear_0"))
            parts = [each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in asked.chunk(3, -1)]
            found = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
            x = x + functional.linear(found, *self._pair(f"{part}/linear_1"))
            part = f"layer_{layer}/ffn"
            wide = functional.linear(self._norm(x, part), *self._pair(f"{part}/linear_0"))
            x = x + functional.linear(functional.gelu(wide), *self._pair(f"{part}/linear_1"))
            if layer + 1 in middle:
                given.append(x)
        return self._norm(x, "") if self.layers == LAYERS else x, given

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self._held[f"{name}/weight"], self._held[f"{name}/bias"]

    def _norm(self, x: Tensor, part: str) -> Tensor:
        name = f"{part}/layer_norm".lstrip("/")
        gamma, beta = self._held[f"{name}/gamma"], self._held[f"{name}/beta"]
        return functional.layer_norm(x, (WIDTH,), gamma, beta)


_KINDS = (np.float32, np.int8, np.int16, np.int32, np.float16)
"""Types of arrays, as CTranslate2 numbers them."""


def weights_of(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a CTranslate2 model file by name."""
    held: dict[str, NDArray[np.generic]] = {}
    with open(path, "rb") as file:
        _numbers(file, "I")
        _text(file)
        _, count = _numbers(file, "II")
        for _ in range(count):
            name = _text(file)
            (rank,) = _numbers(file, "B")
            shape = _numbers(file, "I" * rank)
            kind, size = _numbers(file, "BI")
            held[name] = np.frombuffer(file.read(size), _KINDS[kind]).reshape(shape)
    return held


def _numbers(file: BinaryIO, kinds: str) -> tuple[int, ...]:
    form = f"<{kinds}"
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _text(file: BinaryIO) -> str:
    (size,) = _numbers(file, "H")
    return file.read(size)[:-1].decode()


def lost(before: Tensor, after: Tensor, loud: Tensor) -> Tensor:
    """Return how far answers have moved about their means, as a share of their power.

    before, after: (batch, rows, numbers). loud: rows that count, (batch, rows).
    """
    there = loud[..., None].float()
    count = there.sum(dim=1, keepdim=True).clamp(min=1.0)
    here, moved = (
        (rows - (rows * there).sum(dim=1, keepdim=True) / count) * there for rows in (before, after)
    )
    return (moved - here).square().sum() / here.square().sum().clamp(min=1e-6)
