"""Train the readers: what is said, told from envelopes alone, whoever says it.

    python -m training.reader --pack ../packed --out ../runs/reader
    python -m training.reader --pack ../packed --out ../runs/glance --glance

`polish.py` asks them whether a converted envelope still says what the source said. They learn from
natural envelopes what the teacher heard in those clips (`lessons.py`), with the speaker disguised:
tract length moved, equalised, a little noise. With `--glance` a reader sees 30 ms to either side
instead of 150: one that sees more forgives a blurred sound whose neighbours tell what it must be.
They look as far ahead as back, and are thrown away after training. Resumes from the run's last
checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.neural import bands
from training.blocks import Block, rms_norm
from training.content import unexplained
from training.items import Items
from training.lessons import LESSON
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train
from training.perturbation import equaliser

# Hyper-parameters.
STEPS = 2_500
BATCH = 28
WIDTH, HIDDEN, BLOCKS, KERNEL = 192, 448, 5, 7
GLANCE_BLOCKS = 1
LEARNING_RATE = 1.5e-3
FINAL_RATE = 3.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.03
AVERAGE = 0.995
TRACT, EQUALISER, NOISE = 0.2, 0.7, 0.3
"""Largest change of tract length in nepers; deviations of the equaliser's knots and, at most, of
noise, in nepers."""
VALIDATE_EVERY = 100
SEED = 13


class Reader(nn.Module):
    """What is said, read off envelopes."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.reach = blocks * (KERNEL // 2)
        """Frames that it looks ahead, and as many back."""
        self.enter = nn.Linear(bands.FORMED + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HIDDEN, KERNEL) for _ in range(blocks))
        self.leave = nn.Linear(WIDTH, LESSON)

    def forward(self, envelope: Tensor, level: Tensor) -> Tensor:
        """Return lessons, (batch, time, LESSON).

        envelope: over the level, (batch, time, 64). level: of the frames over the speech's, (batch,
        time).
        """
        shape = envelope[..., : bands.FORMED]
        shape = shape - shape.mean(dim=1, keepdim=True)
        x = torch.cat((shape * 0.5, level[..., None]), dim=-1)
        x = self.enter(nn.functional.pad(x, (0, 0, 0, self.reach)))
        for block in self.blocks:
            x, _ = block(x)
        read: Tensor = self.leave(rms_norm(x[:, self.reach :]))
        return read


def load_reader(weights: Path) -> Reader:
    """Return the reader of a checkpoint."""
    held = load_file(weights)
    model = Reader(sum(name.endswith("scale") for name in held))
    model.load_state_dict(held)
    return model


def disguised(shapes: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return envelopes as if others had spoken them elsewhere, (batch, time, 64)."""
    out = np.empty_like(shapes)
    for index, shape in enumerate(shapes):
        ratio = np.full(len(shape), np.exp(rng.uniform(-TRACT, TRACT)), np.float32)
        curve = equaliser(rng, EQUALISER)
        noise = NOISE * rng.random() * rng.standard_normal(shape.shape)
        out[index] = bands.warped(shape, ratio) + curve + noise
    return out


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, pack: Path, run: Path, seed: int, glance: bool = False) -> None:
        torch.manual_seed(SEED)
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE)
        super().__init__("reader", Reader(GLANCE_BLOCKS if glance else BLOCKS), run, pace)
        self.items = Items(pack, None, "train", seed)
        self.rng = np.random.default_rng(seed)
        held = Items(pack, None, "valid", 99)
        self.valid = [held.readings(24) for _ in range(4)] if held.clips else []

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        shapes, levels, taught = self.items.readings(BATCH)
        shapes = torch.from_numpy(disguised(shapes.numpy(), self.rng))
        with torch.autocast("cpu", torch.bfloat16):
            read = self.model(shapes, levels)
        missed = unexplained(read.float(), taught)
        self.descend(missed, steps)
        return {"missed": missed.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of the lessons missed on held-out people."""
        with averaged(self.model, self.average):
            missed = [
                float(unexplained(self.model(shapes, levels), taught))
                for shapes, levels, taught in self.valid
            ]
        return {"valid_missed": float(np.mean(missed))}


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--out", type=Path, default=Path("../runs/reader"))
    parser.add_argument("--glance", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(arguments.pack, arguments.out, fresh_seed(), arguments.glance)
    trainer.resume()
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
