"""Train the listeners: who speaks, told from envelopes alone.

    python -m training.listener --pack ../packed --out ../runs/listener
    python -m training.listener --pack ../packed --out ../runs/movement --movement

`polish.py` asks them whose voice a converted envelope is. They learn to tell the training people
apart (additive angular margin, Deng et al. 2019); everybody counts as three people, as they are and
with a tract 10 % longer and shorter, so that voices are told by more than what few people have.
With `--movement` the mean envelope is taken away first: a listener that has it hears hardly
anything else, and what is left is how single sounds are formed. They are thrown away after
training; judging uses other models. Resumes from the run's last checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.neural import bands
from training.blocks import Block, rms_norm
from training.items import Items
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train

# Hyper-parameters.
STEPS = 2_500
BATCH = 40
WIDTH, HIDDEN, BLOCKS, KERNEL = 160, 320, 4, 7
VECTOR = 128
LEARNING_RATE = 1.5e-3
FINAL_RATE = 3.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.05
AVERAGE = 0.995
MARGIN, SCALE = 0.2, 24.0
MOVED = 0.1
"""Change of tract length, in nepers, that makes a person another."""
QUIET = -2.2
"""Level, as networks are told it, under which nobody speaks."""
VALIDATE_EVERY = 100
SEED = 17


class Listener(nn.Module):
    """Who speaks, by envelopes alone.

    movement: whether it hears only how they move around their mean.
    """

    def __init__(self, movement: bool = False) -> None:
        super().__init__()
        self.register_buffer("movement", torch.tensor(float(movement)))
        self.enter = nn.Linear(bands.FORMED, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HIDDEN, KERNEL) for _ in range(BLOCKS))
        self.attend = nn.Linear(WIDTH, 2 * WIDTH)
        self.leave = nn.Linear(4 * WIDTH, VECTOR)

    def forward(self, envelope: Tensor, level: Tensor) -> Tensor:
        """Return unit vectors, (batch, VECTOR).

        envelope: over the level, (batch, time, 64). level: of the frames over the speech's, (batch,
        time).
        """
        there = (level > QUIET)[..., None]
        shape = envelope[..., : bands.FORMED] * 0.4 + 1.0
        mean = (shape * there).sum(dim=1, keepdim=True)
        mean = mean / there.sum(dim=1, keepdim=True).clamp(min=1)
        x = self.enter((shape - self.movement * mean) * there)
        for block in self.blocks:
            x, _ = block(x)
        x = rms_norm(x)
        # Attentive statistics (Okabe et al. 2018), beside which plain ones keep all speech heard.
        fit = self.attend(x).masked_fill(~there, -1e4)
        plain = there.to(x.dtype).expand(-1, -1, x.shape[-1])
        weights = torch.softmax(fit, dim=1)
        plain = plain / plain.sum(dim=1, keepdim=True).clamp(min=1.0)
        focus, spread_focus = weights.chunk(2, dim=-1)
        mean, other = (x * plain).sum(1), (x * focus).sum(1)
        spread = ((x - mean[:, None]).square() * plain).sum(1)
        other_spread = ((x - mean[:, None]).square() * spread_focus).sum(1)
        pooled = (mean, other, torch.sqrt(spread + 1e-4), torch.sqrt(other_spread + 1e-4))
        return nn.functional.normalize(self.leave(torch.cat(pooled, dim=1)).float(), dim=1)


def load_listener(weights: Path) -> Listener:
    """Return the listener of a checkpoint."""
    model = Listener()
    model.load_state_dict(load_file(weights))
    return model


def margin_loss(vectors: Tensor, people: Tensor, numbers: Tensor) -> Tensor:
    """Return the cross-entropy of naming people, with a margin.

    vectors: (batch, VECTOR). people: one row each, (people, VECTOR). numbers: who it is, (batch,).
    """
    cosine = vectors @ nn.functional.normalize(people).T
    own = cosine.gather(1, numbers[:, None]).clamp(-0.999, 0.999)
    moved = torch.cos(torch.acos(own) + MARGIN)
    return nn.functional.cross_entropy(SCALE * cosine.scatter(1, numbers[:, None], moved), numbers)


def equal_error(vectors: Tensor, people: Tensor) -> dict[str, float]:
    """Return, for stretches of people, how often the nearest other one is the same person's, and
    the equal error rate.

    vectors: (n, VECTOR). people: their numbers, (n,).
    """
    cosine = vectors @ vectors.T
    same = people[:, None] == people[None]
    off = ~torch.eye(len(people), dtype=torch.bool)
    nearest = cosine.masked_fill(~off, -2.0).argmax(dim=1)
    own, other = cosine[same & off].sort().values, cosine[~same].sort().values
    missed = torch.arange(len(own)) / len(own)
    false = 1.0 - torch.searchsorted(other, own) / len(other)
    at = int((missed - false).abs().argmin())
    return {
        "valid_named": float((people[nearest] == people).float().mean()),
        "valid_equal_error": float(0.5 * (missed[at] + false[at])),
    }


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, pack: Path, run: Path, seed: int, movement: bool = False) -> None:
        torch.manual_seed(SEED)
        self.items = Items(pack, None, "train", seed)
        self.rng = np.random.default_rng(seed)
        held = Items(pack, None, "valid", 99)
        self.valid = held.people(200) if held.clips else None
        model = Listener(movement)
        self.people = nn.Parameter(torch.randn(3 * len(self.items.names), VECTOR) * 0.1)
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE)
        super().__init__("listener", model, run, pace, {"people": self.people})

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        shapes, levels, numbers = self.items.people(BATCH, evenly=True)
        which = self.rng.integers(0, 3, BATCH)
        for index, turn in enumerate(which):
            if turn:
                ratio = np.full(shapes.shape[1], np.exp(MOVED * (2 * turn - 3)), np.float32)
                shapes[index] = torch.from_numpy(bands.warped(shapes[index].numpy(), ratio))
        numbers = 3 * numbers + torch.from_numpy(which)
        shapes = shapes + 0.1 * torch.randn_like(shapes)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = self.model(shapes, levels)
        loss = margin_loss(vectors, self.people, numbers)
        self.descend(loss, steps)
        return {"loss": loss.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return, for stretches of held-out people, how often the nearest other stretch is the same
        person's, and the equal error rate."""
        if self.valid is None:
            return {}
        shapes, levels, numbers = self.valid
        with averaged(self.model, self.average):
            return equal_error(self.model(shapes, levels), numbers)


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--out", type=Path, default=Path("../runs/listener"))
    parser.add_argument("--movement", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(arguments.pack, arguments.out, fresh_seed(), arguments.movement)
    trainer.resume()
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
