"""Train the converter end to end, from packed clips to ONNX-ready weights.

    python -m training.train --pack ../packed --out ../runs/first

Resumes from the run's last checkpoint. Several processes (`torchrun --nproc-per-node 2 -m
training.train`) share the batch; on a CUDA device the networks run in bfloat16.
"""

import argparse
import json
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from menura.engine.neural.features import HOP
from menura.engine.neural.networks import LOOK_AHEAD
from training.data import CONTEXT, SETTLE, Batches, Pack, average_mel
from training.model import Converter, Shape
from training.synthesis import MEL_WINDOWS, SpectralLoss, Synthesiser

# Hyper-parameters.
STEPS = 9_000
BATCH = 8
LOSS_FRAMES = 72
"""Frames of 10 ms per item under the loss."""
PAIR_SHARE = 0.25
"""Share of items whose source is another speaker saying the same, aligned in time."""
LEARNING_RATE = 8.0e-4
FINAL_RATE = 2.0e-5
WARM_UP = 50
BETAS = (0.8, 0.95)
WEIGHT_DECAY = 0.01
CLIP_NORM = 3.0
WINDOWS_PER_STEP = 3
CONTENT_NOISE = 0.1
"""Largest deviation of the noise on the content code, relative to its RMS."""
VOICE_NOISE = 0.1
MEL_WEIGHT = 1.0
STFT_WEIGHT = 0.7
SPEAKER_WEIGHT = 0.05
SPEAKER_MARGIN, SPEAKER_SCALE = 0.2, 20.0
AVERAGE, AVERAGE_EVERY = 0.999, 8
"""Decay per step of the averaged weights that are exported, and how often they are moved."""
VALIDATE_EVERY = 250
SAVE_SECONDS = 240.0
BFLOAT16 = True
"""Networks in bfloat16, synthesis and losses in float32; twice as fast where the CPU has
AVX512-BF16."""
SEED = 1


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine to the final rate."""
    if step < WARM_UP:
        return LEARNING_RATE * (step + 1) / WARM_UP
    share = min(1.0, (step - WARM_UP) / max(1, steps - WARM_UP))
    return FINAL_RATE + (LEARNING_RATE - FINAL_RATE) * 0.5 * (1 + float(np.cos(np.pi * share)))


def speaker_loss(vector: Tensor, head: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
    """Return the additive-angular-margin loss (Deng et al. 2019) and the accuracy."""
    cosine = nn.functional.linear(nn.functional.normalize(vector), nn.functional.normalize(head))
    known = speaker >= 0
    cosine, speaker = cosine.clamp(-0.999, 0.999)[known], speaker[known]
    own = cosine.gather(1, speaker[:, None])
    moved = torch.cos(torch.acos(own) + SPEAKER_MARGIN)
    logits = SPEAKER_SCALE * cosine.scatter(1, speaker[:, None], moved)
    count = max(1, len(speaker))
    hit = (cosine.argmax(dim=1) == speaker).float().sum() / count
    return nn.functional.cross_entropy(logits, speaker, reduction="sum") / count, hit


class Trainer:
    """Everything one run holds."""

    def __init__(
        self,
        pack: Pack,
        run: Path,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        shape: Shape | None = None,
        seed: int | None = None,
    ) -> None:
        torch.manual_seed(SEED)
        self.device, self.rank, self.world, self.run = device, rank, world, run
        prior = average_mel(pack)
        # A resumed run must not hear the batches of its beginning again.
        seed = (int(time.time()) % 100_000 if seed is None else seed) + 7_919 * rank
        self.batches = Batches(pack, "train", LOSS_FRAMES, PAIR_SHARE, prior, seed)
        self.model = Converter(shape or Shape(), len(self.batches.speakers)).to(device)
        self.model.prior.copy_(torch.from_numpy(prior))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.synthesiser = Synthesiser().to(device)
        self.loss = SpectralLoss().to(device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=LEARNING_RATE,
            betas=BETAS,
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        torch.manual_seed(seed)
        self.step, self.heard, self.spent = 0, 0.0, 0.0
        held = Batches(pack, "valid", LOSS_FRAMES, 0.0, prior, 12345)
        self.valid = [held.batch(8, plain=True) for _ in range(4)] if len(held.clips) else []

    def outcome(
        self, batch: dict[str, Tensor], noisy: bool, swap: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return result, target and voice vector for a batch. swap: with a neighbour's voice."""
        model = self.model
        fast = BFLOAT16
        with torch.autocast(self.device.type, torch.bfloat16) if fast else nullcontext():
            reference, statistics = batch["reference"], batch["statistics"]
            steering = batch["steering"]
            if swap:
                reference, statistics = reference.roll(1, 0), statistics.roll(1, 0)
            voice = model.voice(reference, statistics)
            vector = voice[:, : model.shape.voice]
            if noisy:
                model.mean_voice.lerp_(voice.detach().float().mean(0), 0.005)
            code, _ = model.content(batch["mel"], batch["relative"])
            code = code[:, LOOK_AHEAD:]
            if noisy:
                size = CONTENT_NOISE * torch.rand(len(code), 1, 1, device=code.device)
                code = code + size * torch.randn_like(code)
                voice = voice + VOICE_NOISE * torch.randn_like(voice)
            spectrum = statistics[:, :80] * 2.0 - 6.0
            controls, _ = model.decoder(
                code,
                batch["carried"],
                steering,
                batch["energy"],
                spectrum,
                model.decoder.modulation(voice),
            )
        controls = controls[:, CONTEXT - SETTLE :].float()
        samples = self.synthesiser(controls, batch["pulses"], batch["noise"])
        result = samples[:, SETTLE * HOP : SETTLE * HOP + batch["wave"].shape[1]]
        return result, batch["wave"], vector.float()

    def on_device(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return a batch of arrays as tensors."""
        return {name: torch.as_tensor(value).to(self.device) for name, value in batch.items()}

    def advance(self, batch: dict[str, Any], steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        moved = self.on_device(batch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, steps)
        result, target, vector = self.outcome(moved, noisy=True)
        large = [MEL_WINDOWS[index] for index in self.batches.rng.permutation(3)[:2]]
        small = [MEL_WINDOWS[3 + index] for index in self.batches.rng.permutation(3)]
        windows = tuple(large + small[: WINDOWS_PER_STEP - 2])
        mel, stft = self.loss(result, target, moved["bandwidth"], windows)
        speaker, hit = speaker_loss(vector, self.model.speaker_head.weight, moved["speaker"])
        total = MEL_WEIGHT * mel.mean() + STFT_WEIGHT * stft.mean() + SPEAKER_WEIGHT * speaker
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        if self.world > 1:
            self._share_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self.step += 1
        self.heard += len(target) * target.shape[1] / 24_000 * self.world
        self.follow()
        return {
            "mel": mel.mean().item(),
            "stft": stft.mean().item(),
            "speaker": hit.item(),
            "norm": norm.item(),
        }

    @torch.no_grad()
    def follow(self) -> None:
        """Move the averaged weights towards the weights."""
        if self.step % AVERAGE_EVERY:
            return
        decay = min(AVERAGE, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _share_gradients(self) -> None:
        with_gradient = [p for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in with_gradient if p.grad is not None])
        dist.all_reduce(flat)
        flat /= self.world
        start = 0
        for parameter in with_gradient:
            count = parameter.numel()
            parameter.grad = flat[start : start + count].view_as(parameter)
            start += count

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return losses of the averaged weights on unseen speakers, with the right and a wrong
        voice."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        figures: dict[str, list[float]] = {"right": [], "stft": [], "wrong": []}
        for batch in self.valid:
            moved = self.on_device(batch)
            result, target, _ = self.outcome(moved, noisy=False)
            mel, stft = self.loss(result, target, moved["bandwidth"], MEL_WINDOWS)
            figures["right"].append(float(mel.mean()))
            figures["stft"].append(float(stft.mean()))
            result, target, _ = self.outcome(moved, noisy=False, swap=True)
            mel, _ = self.loss(result, target, moved["bandwidth"], MEL_WINDOWS)
            figures["wrong"].append(float(mel.mean()))
        self.model.load_state_dict(own)
        return {name: float(np.mean(values)) for name, values in figures.items() if values}

    def save(self) -> None:
        """Write averaged weights, weights and optimiser in place of the last checkpoint."""
        self.run.mkdir(parents=True, exist_ok=True)
        header = self.model.shape.as_strings() | {
            "step": str(self.step),
            "heard": f"{self.heard:.0f}",
        }
        save_file(self.average, self.run / "average.tmp", header)
        full = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": (self.step, self.heard, self.spent),
        }
        torch.save(full, self.run / "last.tmp")
        os.replace(self.run / "average.tmp", self.run / "average.safetensors")
        os.replace(self.run / "last.tmp", self.run / "last.pt")

    def resume(self, start: Path | None) -> None:
        """Continue from the run's checkpoint, or begin with weights of another (safetensors)."""
        last = self.run / "last.pt"
        if last.exists():
            full = torch.load(last, map_location=self.device, weights_only=True)
            self.model.load_state_dict(full["model"], strict=False)
            self.optimiser.load_state_dict(full["optimiser"])
            self.step, self.heard, self.spent = full["progress"]
            self.average |= load_file(self.run / "average.safetensors", str(self.device))
        elif start is not None:
            weights = load_file(start, str(self.device))
            own = self.model.state_dict()
            fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
            self.model.load_state_dict(fitting, strict=False)
            self.average = {name: value.clone() for name, value in self.model.state_dict().items()}


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--out", type=Path, default=Path("../runs/first"))
    parser.add_argument("--weights", type=Path, default=None, help="weights to begin with")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    device = torch.device(arguments.device)
    trainer = Trainer(Pack(arguments.pack), arguments.out, device, rank, world)
    trainer.resume(arguments.weights)
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    recent: dict[str, float] = {}
    saved, begun, first = time.monotonic(), time.monotonic(), trainer.step
    spent = trainer.spent
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    while trainer.step < arguments.steps and not stopping:
        figures = trainer.advance(trainer.batches.batch(arguments.batch), arguments.steps)
        for name, value in figures.items():
            recent[name] = recent.get(name, value) * 0.98 + value * 0.02
        trainer.spent = spent + time.process_time()
        if rank != 0:
            continue
        elapsed = time.monotonic() - begun
        left = elapsed / (trainer.step - first) * (arguments.steps - trainer.step)
        if trainer.step % 10 == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in recent.items())
            console.print(
                f"{trainer.step:>6}/{arguments.steps}  {shown}  heard {trainer.heard / 3600:.2f} h"
                f"  end in {left / 60:.0f} min"
            )
        if trainer.step % VALIDATE_EVERY == 0 or trainer.step == 100:
            line = {"step": trainer.step, "heard": trainer.heard, "cpu": trainer.spent}
            line |= recent | {f"valid_{k}": v for k, v in trainer.validate().items()}
            with open(arguments.out / "log.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps({k: round(v, 4) for k, v in line.items()}) + "\n")
            console.print(line)
        if time.monotonic() - saved > SAVE_SECONDS:
            trainer.save()
            saved = time.monotonic()
    if rank == 0:
        trainer.save()


if __name__ == "__main__":
    main()
