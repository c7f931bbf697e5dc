"""The suite's own speaker model: a small time-delay network with attentive pooling.

It exists because a judge must be independent of every model that an engine uses for its
voices. It was trained by `train_speaker_model.py` on the training people of the corpus only and
is never shown to, or used by, any training of a converter. The mean of each band over the clip is
removed, so matching the long-term spectrum of a voice does not move it.

Architecture after ECAPA-TDNN (Desplanques et al. 2020), reduced; additive angular margin loss
after ArcFace (Deng et al. 2019).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

RATE = 16000
HOP = 160
WINDOW = 400
FFT = 512
BANDS = 64
LOWEST, HIGHEST = 60.0, 7000.0
WIDTH = 128
EMBEDDING = 128
WEIGHTS = Path(__file__).with_name("speaker_model.safetensors")


def mel_bank() -> npt.NDArray[np.float32]:
    """Triangular mel filters, shape (bands, bins), equal peak."""

    def to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)

    mels = np.linspace(*to_mel(np.array([LOWEST, HIGHEST])), BANDS + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (mid - low), (high - bins) / (high - mid)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


_BANK = torch.from_numpy(mel_bank())
_HANN = torch.hann_window(WINDOW)


def mel_power(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mel power spectrogram of 16 kHz samples, shape (frames, bands)."""
    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    spectrum = torch.stft(
        wave, FFT, HOP, WINDOW, _HANN, center=True, pad_mode="constant", return_complex=True
    )
    power = spectrum.real**2 + spectrum.imag**2
    return np.asarray((_BANK @ power).T.numpy(), dtype=np.float32)


class _Block(nn.Module):
    """Depth-wise dilated convolution with squeeze and excitation, residual."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 1), nn.ReLU(), nn.BatchNorm1d(WIDTH))
        self.across = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 3, dilation=dilation, padding=dilation, groups=WIDTH),
            nn.ReLU(),
            nn.BatchNorm1d(WIDTH),
        )
        self.leave = nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 1), nn.ReLU(), nn.BatchNorm1d(WIDTH))
        self.squeeze = nn.Sequential(
            nn.Linear(WIDTH, 48), nn.ReLU(), nn.Linear(48, WIDTH), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.leave(self.across(self.enter(x)))
        gate: Tensor = self.squeeze(y.mean(dim=2))
        return x + y * gate[:, :, None]


class SpeakerNet(nn.Module):
    """Log-mel frames (batch, frames, bands) to unit vectors (batch, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(BANDS, WIDTH, 5, stride=2, padding=2), nn.ReLU(), nn.BatchNorm1d(WIDTH)
        )
        self.blocks = nn.ModuleList(_Block(dilation) for dilation in (1, 2, 3, 4))
        self.merge = nn.Sequential(nn.Conv1d(4 * WIDTH, 2 * WIDTH, 1), nn.ReLU())
        self.attention = nn.Sequential(
            nn.Conv1d(2 * WIDTH, 64, 1), nn.Tanh(), nn.Conv1d(64, 2 * WIDTH, 1)
        )
        self.head = nn.Sequential(
            nn.BatchNorm1d(4 * WIDTH), nn.Linear(4 * WIDTH, EMBEDDING), nn.BatchNorm1d(EMBEDDING)
        )

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.stem((log_mel - log_mel.mean(dim=1, keepdim=True)).transpose(1, 2))
        layers = []
        for block in self.blocks:
            x = block(x)
            layers.append(x)
        x = self.merge(torch.cat(layers, dim=1))
        weight = torch.softmax(self.attention(x), dim=2)
        mean = (weight * x).sum(dim=2)
        spread = ((weight * x * x).sum(dim=2) - mean * mean).clamp(min=1e-5).sqrt()
        return nn.functional.normalize(self.head(torch.cat([mean, spread], dim=1)), dim=1)


def speech_frames(power: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-mel of the frames within 35 dB of the loudest, floor 60 dB under the loudest band."""
    level = 10.0 * np.log10(power.sum(axis=1) + 1e-10)
    kept = power[level > level.max() - 35.0]
    result: npt.NDArray[np.float32] = np.log(kept + 1e-6 * kept.max() + 1e-10)
    return result


def load_speaker_net(weights: Path = WEIGHTS) -> SpeakerNet:
    """The trained model, ready to judge."""
    net = SpeakerNet()
    net.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return net.eval()


def embed(net: SpeakerNet, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Unit vector (128,) of a clip at 16 kHz: mean over 3 s windows with 1.5 s steps."""
    frames = speech_frames(mel_power(samples))
    if len(frames) < 50:
        frames = np.tile(frames, (50 // max(1, len(frames)) + 1, 1))
    starts = range(0, max(1, len(frames) - 150), 150)
    with torch.inference_mode():
        vectors = [net(torch.from_numpy(frames[None, s : s + 300]))[0] for s in starts]
        mean = torch.stack(vectors).mean(dim=0)
        return np.asarray(nn.functional.normalize(mean, dim=0).numpy(), dtype=np.float32)
