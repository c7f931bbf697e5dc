"""Train the witness: who speaks, told from the middle layers of Whisper's encoder.

    python -m training.witness --pack ../packed --out ../runs/witness
    python -m training.witness --pack ../packed --out ../runs/witness2 --layers 2 --reach 9

`polish.py` asks such beside the listeners, which know nothing but the envelopes of some 270 people
and find hardly any of the source in conversions in which others still do. What Whisper has learnt
from far more people is pooled (attentive statistics, Okabe et al. 2018) and must name the training
people (additive angular margin, Deng et al. 2019), each as three: with a tract as it is, 10 %
longer and shorter. Four fifths of what it hears is made of envelopes, at another pitch and through
an equaliser, so that it names people by neither. Thrown away after training. Resumes from the run's
last checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from menura.engine.interface import HOP
from menura.engine.neural import bands
from training import ear
from training.items import FRAMES, Items
from training.listener import VECTOR, equal_error, margin_loss
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train
from training.pack import Clip
from training.perturbation import equaliser

# Hyper-parameters.
STEPS = 1_600
BATCH = 32
LAYERS = 4
"""How many of the first layers are heard."""
REACH = 5
"""Rows, of 20 ms, around each that are seen with it."""
INNER, FOCUS = 192, 64
LEARNING_RATE = 1.0e-3
FINAL_RATE = 3.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.05
AVERAGE = 0.99
MADE = 0.4
"""Share of unchanged people's stretches that are made of envelopes; all of changed ones are."""
MOVED = 0.1
REPITCHED = 8.0
"""Largest change of pitch in semitones."""
EQUALISER = 0.5
LOUD = -3.5
"""Level over the speech's, in nepers, under which nobody speaks."""
KNOWN_BY = 8
"""Stretches by which a person is known."""
VALIDATE_EVERY = 100
SEED = 23

Array = NDArray[np.float32]


class Witness(nn.Module):
    """Who speaks, by what the first layers of Whisper's encoder give out."""

    def __init__(self, layers: int = LAYERS, reach: int = REACH) -> None:
        super().__init__()
        self.middle = tuple(range(1, layers + 1))
        self.enter = nn.ModuleList(nn.Linear(ear.WIDTH, INNER) for _ in self.middle)
        self.around = nn.Conv1d(INNER, INNER, reach, padding=reach // 2)
        self.attend = nn.Sequential(nn.Linear(INNER, FOCUS), nn.Tanh(), nn.Linear(FOCUS, INNER))
        self.leave = nn.Linear(2 * INNER, VECTOR)

    def forward(self, given: list[Tensor], there: Tensor) -> Tensor:
        """Return unit vectors, (batch, VECTOR).

        given: the first layers', (batch, rows, 512) each; those it does not hear may follow. there:
        where somebody speaks, (batch, rows).
        """
        heard = given[: len(self.middle)]
        normal = (functional.layer_norm(layer, (ear.WIDTH,)) for layer in heard)
        x = torch.stack(
            [enter(layer) for enter, layer in zip(self.enter, normal, strict=True)]
        ).sum(dim=0)
        x = x + torch.relu(self.around(x.transpose(1, 2)).transpose(1, 2))
        x = functional.layer_norm(x, (INNER,))
        fit = torch.softmax(self.attend(x).masked_fill(~there[..., None], -1e4), dim=1)
        mean = (fit * x).sum(dim=1)
        spread = torch.sqrt((fit * (x - mean[:, None]).square()).sum(dim=1) + 1e-4)
        return functional.normalize(self.leave(torch.cat((mean, spread), dim=1)).float(), dim=1)


def load_witness(weights: Path) -> Witness:
    """Return the witness of a checkpoint."""
    held = load_file(weights)
    layers = sum(name.startswith("enter.") and name.endswith(".bias") for name in held)
    model = Witness(layers, held["around.weight"].shape[2])
    model.load_state_dict(held)
    return model


def stretch(items: Items, clip: Clip, part: slice) -> tuple[Array, NDArray[np.bool_]]:
    """Return a part of a clip at 16 kHz, silence after its end, (FRAMES STEP,), and the rows in
    which somebody speaks, (FRAMES / 2,)."""
    wave = items.pack.wave(clip)[part.start * HOP : part.stop * HOP]
    level = np.full(FRAMES, -9.0, np.float32)
    level[: part.stop - part.start] = items.known(clip)[1][part]
    return ear.at_its_rate(wave, FRAMES), level[::2] > LOUD


@torch.no_grad()
def acquainted(witness: Witness, hearing: ear.Ear, items: Items) -> Tensor:
    """Return what the witness takes each of the people of `items.names` for, (people, VECTOR)."""
    met = torch.zeros(len(items.names), VECTOR)
    for person, number in items.names.items():
        clips = items.of_person[person]
        waves, there = [], []
        for turn in range(KNOWN_BY if len(clips) > 1 else KNOWN_BY // 2):
            clip = clips[turn % len(clips)]
            wave, rows = stretch(items, clip, items.part(clip))
            waves.append(wave)
            there.append(rows)
        _, given = hearing(ear.of_waves(np.stack(waves), FRAMES), witness.middle)
        met[number] = witness(given, torch.from_numpy(np.stack(there))).mean(dim=0)
    return functional.normalize(met, dim=1)


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(
        self,
        pack: Path,
        teacher: Path,
        run: Path,
        seed: int,
        layers: int = LAYERS,
        reach: int = REACH,
    ) -> None:
        torch.manual_seed(SEED)
        self.model = Witness(layers, reach)
        self.ear = ear.Ear(teacher, layers)
        self.items = Items(pack, None, "train", seed)
        self.rng = np.random.default_rng(seed)
        held = Items(pack, None, "valid", 99)
        self.valid = [self.heard(held, BATCH, plain=True) for _ in range(7)] if held.clips else []
        self.people = nn.Parameter(torch.randn(3 * len(self.items.names), VECTOR) * 0.1)
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE)
        super().__init__("witness", self.model, run, pace, {"people": self.people})

    @torch.no_grad()
    def heard(
        self, items: Items, size: int, plain: bool = False
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return what the middle layers give out of people's stretches, where somebody speaks in
        them, and who: three times the person's number, and which of the three."""
        rng = self.rng
        shown = torch.zeros(size, ear.MELS, FRAMES)
        there, who = [], []
        for index, clip in enumerate(items.drawn(size, evenly=True)):
            part = items.part(clip)
            wave, rows = stretch(items, clip, part)
            turn = 0 if plain else int(rng.integers(0, 3))
            there.append(rows)
            who.append(3 * items.names[clip.person] + turn)
            if plain or (turn == 0 and rng.random() >= MADE):
                shown[index] = ear.of_waves(wave[None], FRAMES)[0]
            else:
                shown[index] = self._made(items, clip, part, MOVED * (0, -1, 1)[turn])
        with torch.autocast("cpu", torch.bfloat16):
            _, given = self.ear(shown, self.model.middle)
        return given, torch.from_numpy(np.stack(there)), torch.tensor(who)

    def _made(self, items: Items, clip: Clip, part: slice, moved: float) -> Tensor:
        """Return what Whisper is shown of a clip's envelopes at another pitch, (80, FRAMES)."""
        rng = self.rng
        shape, level, shares, f0, speech = items.known(clip)
        count = part.stop - part.start
        envelope = shape[part].astype(np.float32)
        if moved:
            envelope = bands.warped(envelope, np.full(count, np.exp(moved), np.float32))
        envelope += equaliser(rng, EQUALISER).astype(np.float32)
        envelope += (level[part] + speech)[:, None]
        after = ((0, FRAMES - count), (0, 0))
        pitch = f0[part] * 2 ** (rng.uniform(-REPITCHED, REPITCHED) / 12)
        excited = ear.excitation(
            np.pad(pitch, after[0])[None], np.pad(shares[part], after)[None], rng
        )
        silent = np.pad(envelope, after, constant_values=-20.0)
        return ear.of_envelopes(torch.from_numpy(silent[None]), torch.from_numpy(excited))[0]

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        given, there, who = self.heard(self.items, BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = self.model(given, there)
        loss = margin_loss(vectors, self.people, who)
        self.descend(loss, steps)
        return {"loss": loss.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return, for stretches of held-out people, how often the nearest other stretch is the same
        person's, and the equal error rate."""
        if not self.valid:
            return {}
        with averaged(self.model, self.average):
            vectors = torch.cat(
                [self.model([x.float() for x in given], there) for given, there, _ in self.valid]
            )
        return equal_error(vectors, torch.cat([who for *_, who in self.valid]))


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--model", type=Path, default=Path("../whisper"), help="the teacher's")
    parser.add_argument("--out", type=Path, default=Path("../runs/witness"))
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--reach", type=int, default=REACH)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer(
        arguments.pack,
        arguments.model,
        arguments.out,
        fresh_seed(),
        arguments.layers,
        arguments.reach,
    )
    trainer.resume()
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
