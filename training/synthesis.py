"""Neural homomorphic vocoder in torch: frame-wise filters over a pulse train and noise, and its
losses.

After Liu, Chen and Yu 2020 ("Neural Homomorphic Vocoder"), with minimum-phase filters drawn through
log gains at warped frequencies, an all-pass part, and finite responses so that streaming equals
offline.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from menura.engine.neural import filters
from menura.engine.neural.features import HOP, SAMPLE_RATE

MEL_WINDOWS = (2048, 1024, 512, 256, 128, 64)
STFT_WINDOWS = (2048, 1024, 512)
FLOOR = 1e-4
"""Magnitude under which differences are not heard; full-scale white noise has 1."""


class Synthesiser(nn.Module):
    """Turns controls and excitation into samples. No parameters, only fixed matrices."""

    harmonic: Tensor
    noise: Tensor
    window: Tensor
    taper: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("harmonic", torch.from_numpy(filters.harmonic_matrix()), False)
        self.register_buffer("noise", torch.from_numpy(filters.noise_matrix()), False)
        self.register_buffer("window", torch.from_numpy(filters.overlap_window()), False)
        self.register_buffer("taper", torch.from_numpy(filters.response_taper()), False)

    def _filter(self, excitation: Tensor, controls: Tensor, matrix: Tensor) -> Tensor:
        log_response = controls @ matrix
        magnitude, phase = log_response.chunk(2, dim=-1)
        response = torch.polar(torch.exp(magnitude), phase)
        response = torch.fft.rfft(torch.fft.irfft(response) * self.taper)
        frames = excitation.unfold(-1, 2 * HOP, HOP) * self.window
        return torch.fft.rfft(frames, filters.FFT) * response

    def forward(self, controls: Tensor, pulses: Tensor, noise: Tensor) -> Tensor:
        """Return samples of the frames' own spans, shape (batch, 240 (frames - 1)).

        controls: (batch, frames, 176). pulses, noise: (batch, 240 (frames + 1)), beginning one hop
        before the first frame's centre. The first returned sample is the first frame's centre.
        """
        harmonic, noisy = controls.split((filters.HARMONIC, filters.NOISE), dim=-1)
        spectrum = self._filter(pulses, harmonic, self.harmonic)
        spectrum = spectrum + self._filter(noise, noisy, self.noise)
        parts = torch.fft.irfft(spectrum).roll(filters.BEFORE, dims=-1)
        frames = parts.shape[1]
        total = (frames - 1) * HOP + filters.FFT
        out = nn.functional.fold(
            parts.transpose(1, 2), (1, total), kernel_size=(1, filters.FFT), stride=(1, HOP)
        ).flatten(1)
        start = filters.BEFORE + HOP
        return out[:, start : start + (frames - 1) * HOP]


@lru_cache(maxsize=16)
def loss_bank(window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a mel bank over the bins of one window, shape (bins, bands), and each band's top in
    Hz."""
    bands = min(160, 5 * window // 32)
    corners = np.linspace(0.0, 1127.0 * np.log1p(12_000 / 700), bands + 2)
    corners = 700.0 * np.expm1(corners / 1127.0)
    bins = np.arange(window // 2 + 1) * SAMPLE_RATE / window
    width = np.maximum(corners[2:] - corners[:-2], 2.0 * SAMPLE_RATE / window)
    middle = corners[1:-1]
    bank = np.maximum(0.0, 1.0 - np.abs(bins[:, None] - middle) / (width / 2))
    return (bank / bank.sum(axis=0)).astype(np.float32), (middle + width / 2).astype(np.float32)


class SpectralLoss(nn.Module):
    """L1 of log-mel at several windows, and log and linear STFT distances, above no clip's
    bandwidth."""

    def __init__(self) -> None:
        super().__init__()
        for window in {*MEL_WINDOWS, *STFT_WINDOWS}:
            bank, tops = loss_bank(window)
            self.register_buffer(f"window{window}", torch.hann_window(window), False)
            self.register_buffer(f"bank{window}", torch.from_numpy(bank), False)
            self.register_buffer(f"tops{window}", torch.from_numpy(tops), False)

    def magnitude(self, samples: Tensor, window: int) -> Tensor:
        """Return STFT magnitudes, shape (batch, frames, bins), full scale about 1."""
        shape = self.get_buffer(f"window{window}")
        spectrum = torch.stft(
            samples, window, max(window // 4, 16), window=shape, center=False, return_complex=True
        )
        power = spectrum.real**2 + spectrum.imag**2
        scale = 1.0 / float(torch.sum(shape**2))
        return torch.sqrt(power * scale + 1e-10).transpose(1, 2)

    def forward(
        self, result: Tensor, target: Tensor, bandwidth: Tensor, windows: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the mean mel and STFT losses per window in nepers, shape (batch,) each.

        result, target: (batch, samples). bandwidth: (batch,) in Hz; bands that reach above it are
        left out.
        """
        mel = torch.zeros(len(result), device=result.device)
        stft = torch.zeros_like(mel)
        counts = [0, 0]
        for window in windows:
            ours, theirs = self.magnitude(result, window), self.magnitude(target, window)
            bank, tops = self.get_buffer(f"bank{window}"), self.get_buffer(f"tops{window}")
            mask = (tops[None] <= bandwidth[:, None]).float()
            mask[:, 0] = 1.0
            loud = 10.0 * torch.log10(theirs.square().mean(dim=2) + 1e-10)
            weight = ((loud + 65.0) / 20.0).clamp(0.2, 1.0)[:, :, None]
            weight = weight / weight.sum(dim=1, keepdim=True)
            error = (torch.log(ours @ bank + FLOOR) - torch.log(theirs @ bank + FLOOR)).abs()
            error = (error * weight).sum(1)
            mel = mel + (error * mask).sum(1) / mask.sum(1)
            counts[0] += 1
            if window in STFT_WINDOWS:
                bins = torch.arange(window // 2 + 1, device=result.device) * (SAMPLE_RATE / window)
                keep = (bins[None] <= bandwidth[:, None]).float()
                logs = (torch.log(ours + FLOOR) - torch.log(theirs + FLOOR)).abs()
                logs = (logs * weight).sum(1)
                stft = stft + 0.5 * (logs * keep).sum(1) / keep.sum(1)
                difference = ((ours - theirs) * keep[:, None]).flatten(1).norm(dim=1)
                size = (theirs * keep[:, None]).flatten(1).norm(dim=1)
                stft = stft + 0.5 * difference / (size + 0.05)
                counts[1] += 1
        return mel / counts[0], stft / max(counts[1], 1)
