"""Sharpen a trained decoder against discriminators: the last stage, for a GPU or a patient CPU.

    python -m training.adversarial --pack ../packed \
        --weights training/checkpoints/fourth.safetensors --out ../runs/sharp --device cuda

Content and voice networks stay as they are; the decoder is trained on with the spectral losses and
a hinge loss from discriminators over spectrograms at three resolutions (Jang et al. 2021, UnivNet),
with feature matching. Discriminators hear nothing above a clip's bandwidth.
"""

import argparse
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from training.data import Pack
from training.synthesis import MEL_WINDOWS
from training.train import SAVE_SECONDS, Trainer

# Hyper-parameters.
STEPS = 12_000
BATCH = 16
LEARNING_RATE = 1.0e-4
CRITIC_RATE = 2.0e-4
BETAS = (0.8, 0.95)
RESOLUTIONS = ((1024, 240), (2048, 480), (512, 120))
"""Window and hop of each discriminator's spectrogram."""
WIDTH = 32
SPECTRAL_WEIGHT = 15.0
FEATURE_WEIGHT = 2.0
CRITIC_ALONE = 200
"""Steps in which only the discriminators learn."""


class Critic(nn.Module):
    """One discriminator: convolutions over a log-magnitude spectrogram."""

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), False)
        widths = (1, WIDTH, WIDTH, WIDTH, WIDTH)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv2d(before, after, (3, 9), (1, 1 if index == 0 else 2), (1, 4))
            )
            for index, (before, after) in enumerate(pairwise(widths))
        )
        self.verdict = nn.utils.parametrizations.weight_norm(nn.Conv2d(WIDTH, 1, 3, 1, 1))

    def forward(self, samples: Tensor, bandwidth: Tensor) -> list[Tensor]:
        """Return the features of every layer and last the verdicts."""
        spectrum = torch.stft(
            samples, self.size, self.hop, window=self.window, center=False, return_complex=True
        )
        power = spectrum.real**2 + spectrum.imag**2
        logs = torch.log(power / self.window.square().sum() + 1e-8).transpose(1, 2)
        hertz = torch.linspace(0, 12_000, logs.shape[2], device=logs.device)
        heard = (hertz[None] <= bandwidth[:, None])[:, None]
        x = torch.where(heard, logs / 8.0 + 1.0, torch.zeros_like(logs))[:, None]
        out = []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), 0.2)
            out.append(x)
        return [*out, self.verdict(x)]


class Sharpener:
    """The decoder's trainer with its opponents."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.critics = nn.ModuleList(Critic(*size) for size in RESOLUTIONS).to(trainer.device)
        for parameter in trainer.model.parameters():
            parameter.requires_grad_(False)
        taught = [p.requires_grad_(True) for p in trainer.model.decoder.parameters()]
        fused = trainer.device.type in ("cpu", "cuda")
        trainer.optimiser = torch.optim.AdamW(taught, LEARNING_RATE, BETAS, fused=fused)
        self.optimiser = torch.optim.AdamW(
            self.critics.parameters(), CRITIC_RATE, BETAS, fused=fused
        )

    def advance(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take one step of both sides and return its figures."""
        trainer = self.trainer
        moved = trainer.on_device(batch)
        band = moved["bandwidth"]
        result, target, _ = trainer.outcome(moved, noisy=True)
        against = torch.zeros((), device=result.device)
        for critic in self.critics:
            true, false = critic(target, band)[-1], critic(result.detach(), band)[-1]
            against = against + nn.functional.relu(1 - true).mean()
            against = against + nn.functional.relu(1 + false).mean()
        self.optimiser.zero_grad(set_to_none=True)
        against.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        mel, stft = trainer.loss(result, target, band, MEL_WINDOWS)
        figures = {"critics": against.item(), "mel": mel.mean().item()}
        trainer.step += 1
        trainer.heard += target.numel() / 24_000
        if trainer.step <= CRITIC_ALONE:
            return figures
        fooled, likeness = torch.zeros_like(against), torch.zeros_like(against)
        for critic in self.critics:
            true, false = critic(target, band), critic(result, band)
            fooled = fooled - false[-1].mean()
            for ours, theirs in zip(false[:-1], true[:-1], strict=True):
                likeness = likeness + (ours - theirs.detach()).abs().mean()
        total = SPECTRAL_WEIGHT * (mel + stft).mean() + fooled + FEATURE_WEIGHT * likeness
        trainer.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(trainer.model.decoder.parameters(), 10.0)
        trainer.optimiser.step()
        trainer.follow()
        return figures | {"fooled": fooled.item(), "likeness": likeness.item()}


def main() -> None:
    """Sharpen until the steps are done; averaged weights in the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--out", type=Path, default=Path("../runs/sharp"))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    trainer = Trainer(Pack(arguments.pack), arguments.out, torch.device(arguments.device))
    trainer.resume(arguments.weights)
    sharpener = Sharpener(trainer)
    console, saved, begun = Console(), time.monotonic(), time.monotonic()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    while trainer.step < arguments.steps and not stopping:
        figures = sharpener.advance(trainer.batches.batch(arguments.batch))
        if trainer.step % 20 == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            left = (time.monotonic() - begun) / trainer.step * (arguments.steps - trainer.step)
            console.print(f"{trainer.step}/{arguments.steps}  {shown}  end in {left / 60:.0f} min")
        if time.monotonic() - saved > SAVE_SECONDS:
            trainer.save()
            saved = time.monotonic()
    trainer.save()


if __name__ == "__main__":
    main()
