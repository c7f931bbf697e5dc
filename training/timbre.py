"""Train the timbre network: the envelope that a voice would give to what was said.

    python -m training.timbre --pack ../packed --content ../runs/content/content.safetensors \\
        --out ../runs/timbre

Everything happens on packed envelopes (`items.py`), so a step costs no waveform. The voice is known
from other speech of the target's speaker: rows of code and envelope, among which the network looks
up how the voice sounds in what is being said (attention, Vaswani et al. 2017; the idea of retrieval
is kNN-VC's, Baas et al. 2023). Resumes from the run's last checkpoint.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from torch import Tensor, nn

from menura.engine.neural import bands
from menura.engine.neural.controls import CONTROLS
from menura.engine.neural.networks import CODE
from training.blocks import Block, rms_norm
from training.codes import codes_of
from training.items import Items
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train
from training.pack import Pack

# Hyper-parameters.
STEPS = 4_500
BATCH = 16
WIDTH, HIDDEN, BLOCKS, KERNEL = 224, 512, 5, 7
PATIENT_BLOCKS, AHEAD = 8, 2
"""Of the network for where much is waited for: its blocks, each of which sees AHEAD more frames."""
HEADS, KEY = 4, 32
VOICE = 64
LEARNING_RATE = 1.0e-3
FINAL_RATE = 2.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.02
CLIP_NORM = 2.0
AVERAGE = 0.997
VALIDATE_EVERY = 250
SEED = 7


class Timbre(nn.Module):
    """Code, carried envelope and controls, in the light of a voice, to the voice's envelope.

    patient: sees `ahead` frames beyond the one that it tells of, else none.
    """

    def __init__(self, patient: bool = False) -> None:
        super().__init__()
        blocks, ahead = (PATIENT_BLOCKS, AHEAD) if patient else (BLOCKS, 0)
        self.ahead = blocks * ahead
        self.query = nn.Linear(CODE + 1, HEADS * KEY)
        self.key = nn.Linear(CODE + 1, HEADS * KEY)
        self.sharpness = nn.Parameter(torch.full((HEADS,), 2.3))
        self.voice = nn.Sequential(nn.Linear(2 * bands.COUNT + 1, VOICE), nn.Tanh())
        self.enter = nn.Linear(CODE + (HEADS + 1) * bands.COUNT + CONTROLS + 1, WIDTH)
        self.blocks = nn.ModuleList(
            Block(WIDTH, HIDDEN, KERNEL + ahead, VOICE, ahead=ahead) for _ in range(blocks)
        )
        self.leave = nn.Linear(WIDTH, bands.COUNT)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)

    def keys(self, rows: Tensor) -> Tensor:
        """Return keys of reference rows, (batch, rows, heads, key); rows: (batch, rows, 65)."""
        return nn.functional.normalize(self.key(rows).unflatten(-1, (HEADS, KEY)), dim=-1)

    def modulation(self, means: Tensor) -> Tensor:
        """Return all blocks' scales and shifts, (batch, blocks, 2 width); means: (batch, 129)."""
        voice = self.voice(means)
        return torch.stack([block.modulation(voice) for block in self.blocks], dim=1)

    def forward(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        keys: Tensor,
        values: Tensor,
        modulation: Tensor,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return envelopes over the level, (batch, time, 64), and the next states.

        code: (batch, time, 64). carried: the source's envelope, moved to the voice's tract and
        mean, and whether there is one, (batch, time, 65). controls: (batch, time, 13); the last is
        the voicing. keys: of `keys`. values: the rows' envelopes over their level, (batch, rows,
        64).
        """
        found = self.found(code, controls, keys, values)
        return self.formed(code, carried, controls, found, modulation, states)

    def found(self, code: Tensor, controls: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what each head looks up in the voice, (batch, time, heads, 64)."""
        asked = torch.cat((code, controls[..., -1:]), dim=-1)
        query = nn.functional.normalize(self.query(asked).unflatten(-1, (HEADS, KEY)), dim=-1)
        fit = torch.einsum("bthk,brhk->bhtr", query, keys)
        weights = torch.softmax(fit * torch.exp(self.sharpness)[:, None, None], dim=-1)
        return torch.einsum("bhtr,brc->bthc", weights, values)

    def formed(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        found: Tensor,
        modulation: Tensor,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward` does, given what was looked up."""
        x = torch.cat((code, found.flatten(2) * 0.5, carried * 0.5, controls), dim=-1)
        x = self.enter(x)
        if states is None and self.ahead:
            x = torch.cat((x, x[:, -1:].expand(-1, self.ahead, -1)), dim=1)
        following = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if states is None else states[index], modulation[:, index])
            following.append(state)
        if states is None:
            x = x[:, self.ahead :]
        return found.mean(dim=2) + self.leave(rms_norm(x)), following


def begun_with(model: Timbre, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights for a network that computes what a quick one of the given weights does."""
    begun = {}
    for name, value in model.state_dict().items():
        if name not in weights:
            # A block whose answer is nothing.
            begun[name] = torch.zeros_like(value) if ".reduce." in name else value
        else:
            begun[name] = torch.zeros_like(value)
            begun[name][tuple(slice(size) for size in weights[name].shape)] = weights[name]
    return begun


def distance(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean weighted difference in nepers, of values and of their changes in time."""
    apart = ((result - target).abs() * weight).sum() / weight.sum()
    moved = (result.diff(dim=1) - target.diff(dim=1)).abs() * weight[:, 1:]
    return apart + 0.5 * moved.sum() / weight[:, 1:].sum()


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, folder: Path, codes: Path, run: Path, seed: int) -> None:
        torch.manual_seed(SEED)
        self.items = Items(folder, codes, "train", seed)
        held = Items(folder, codes, "valid", 99)
        self.valid = [held.batch(16, plain=True) for _ in range(4)] if held.clips else []
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE, CLIP_NORM)
        super().__init__("timbre", Timbre(), run, pace)

    def outcome(self, batch: dict[str, Tensor], swap: bool = False) -> Tensor:
        """Return envelopes for a batch. swap: with a neighbour's voice."""
        names = ("rows", "values", "means")
        rows, values, means = (batch[name].roll(1, 0) if swap else batch[name] for name in names)
        with torch.autocast("cpu", torch.bfloat16):
            out, _ = self.model(
                batch["code"],
                batch["carried"],
                batch["controls"],
                self.model.keys(rows),
                values,
                self.model.modulation(means),
            )
        return out.float()

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        batch = self.items.batch(BATCH)
        loss = distance(self.outcome(batch), batch["target"], batch["weight"])
        norm = self.descend(loss, steps)
        return {"loss": loss.item(), "norm": norm}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return losses of the averaged weights on unseen speakers: with the right voice, with a
        wrong one, and with nothing carried."""
        figures: dict[str, list[float]] = {"right": [], "wrong": [], "uncarried": []}
        with averaged(self.model, self.average):
            for batch in self.valid:
                bare = dict(batch, carried=torch.zeros_like(batch["carried"]))
                for name, heard, swap in (
                    ("right", batch, False),
                    ("wrong", batch, True),
                    ("uncarried", bare, False),
                ):
                    result = self.outcome(heard, swap)
                    figures[name].append(float(distance(result, batch["target"], batch["weight"])))
        return {f"valid_{name}": float(np.mean(values)) for name, values in figures.items()}


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--content", type=Path, default=Path("../runs/content/content.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("../runs/timbre"))
    parser.add_argument("--weights", type=Path, default=None, help="weights to begin with")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    codes = arguments.out / "codes.npy"
    if not codes.exists():
        codes_of(Pack(arguments.pack), arguments.content, arguments.out / "codes.tmp.npy")
        os.replace(arguments.out / "codes.tmp.npy", codes)
    trainer = Trainer(arguments.pack, codes, arguments.out, fresh_seed())
    trainer.resume(arguments.weights)
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
