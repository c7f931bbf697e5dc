"""Train the content network alone: what is said, taught by phones, whoever says it.

    python -m training.content --spoken ../spoken --pack ../packed --out ../runs/content

Every stretch is heard twice, perturbed in two ways, once by a network that may wait for 30 ms and
once by the same network waiting for 160 ms. Both codes must name the phones (cross-entropy where a
label is known), say what the teacher heard in the clip as it was (`lessons.py`; everywhere, other
languages too) and agree with each other. Resumes from the run's last checkpoint.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.interface import HOP
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.mel import MELS
from menura.engine.neural.networks import CODE, PATIENT, QUICK
from training.blocks import Block, rms_norm
from training.lessons import LESSON, lessons_of
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train
from training.pack import Clip, Pack, held_out
from training.perturbation import perturbed
from training.phones import CLASSES, UNKNOWN

# Hyper-parameters.
STEPS = 3_800
BATCH = 12
FRAMES = 260
"""Frames of a stretch, of which the first LEAD only settle the state."""
LEAD = 20
COUNTED = FRAMES - PATIENT
"""Frames whose codes have all been heard at the end of a stretch."""
WIDTH, HIDDEN, BLOCKS, KERNEL = 224, 512, 7, 7
LEARNING_RATE = 1.2e-3
FINAL_RATE = 2.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.02
CLIP_NORM = 3.0
SMOOTHING = 0.05
AGREEMENT, LESSONS = 0.4, 2.0
"""Weights of the agreement of the two codes, and of what the teacher heard."""
WARP = 1.25
AVERAGE = 0.995
VALIDATE_EVERY = 100
SEED = 5
SHARES = {"spoken": 0.22, "t145": 0.13, "librispeech": 0.36, "s2i": 0.12, "wakeword": 0.03}
"""Shares of the stretches; the rest comes from the other corpora, mostly other languages."""


class Content(nn.Module):
    """Log-mel to a code of what is said: causal, the code of a frame is read QUICK or PATIENT
    frames later."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(MELS + 2, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HIDDEN, KERNEL) for _ in range(BLOCKS))
        self.leave = nn.Linear(WIDTH, CODE)
        self.head = nn.Linear(CODE, CLASSES)
        self.lesson = nn.Linear(CODE, LESSON)

    def forward(
        self, mel: Tensor, level: Tensor, patient: Tensor, states: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return codes of unit RMS, shape (batch, time, 64), and the next states.

        mel: log-mel minus the running mean, (batch, time, 80). level: relative level, (batch, time,
        1). patient: 1 where a code is read PATIENT frames later, 0 where QUICK, (batch,).
        """
        told = torch.cat((mel.clamp(-8.0, 6.0), level.clamp(-10.0, 4.0)), dim=-1) * 0.5
        waits = patient[:, None, None].expand(-1, told.shape[1], -1)
        x = self.enter(torch.cat((told, waits), dim=-1))
        following = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if states is None else states[index])
            following.append(state)
        return rms_norm(self.leave(rms_norm(x))), following


def load_content(weights: Path) -> tuple[Content, spectra_of.Array]:
    """Return the network of a checkpoint, and the spectrum its running mean starts from."""
    tensors = load_file(weights)
    prior = tensors.pop("prior").numpy()
    model = Content()
    model.load_state_dict(tensors)
    return model, prior


@dataclass
class Labelled:
    """A clip of one of the packs with its labels."""

    pack: Pack
    clip: Clip
    labels: NDArray[np.int8]
    lessons: NDArray[np.float16] | None


def labelled_clips(folder: Path) -> list[Labelled]:
    """Return a pack's train clips with their labels."""
    pack = Pack(folder)
    path = folder / "labels.i8"
    labels = np.fromfile(path, np.int8) if path.exists() else np.zeros(0, np.int8)
    lessons = lessons_of(folder)
    found = []
    for clip in pack.clips:
        own = labels[clip.start : clip.start + clip.frames]
        if len(own) < clip.frames:
            own = np.full(clip.frames, UNKNOWN, np.int8)
        if clip.split == "train" and clip.frames > 60:
            told = None if lessons is None else lessons[clip.start : clip.start + clip.frames]
            found.append(Labelled(pack, clip, own, told))
    return found


class Stretches:
    """Draws batches of doubly perturbed stretches for ever."""

    def __init__(self, clips: list[Labelled], prior: spectra_of.Array, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.prior = prior
        of_corpus: dict[str, list[Labelled]] = {}
        for clip in clips:
            named = clip.clip.corpus if clip.clip.corpus in SHARES else "other"
            of_corpus.setdefault(named, []).append(clip)
        self.corpora = list(of_corpus.items())
        rest = 1.0 - sum(SHARES.values())
        chance = np.array([SHARES.get(name, rest) for name, _ in self.corpora])
        self.chance = chance / chance.sum()
        self.weights = [
            np.array([clip.clip.frames for clip in own], float) for _, own in self.corpora
        ]

    def item(
        self, plain: bool
    ) -> tuple[list[spectra_of.Array], NDArray[np.int64], spectra_of.Array]:
        """Return two perturbed inputs, (FRAMES, 81) each, the labels of the frames, and their
        lessons, zeros where there are none, (FRAMES, LESSON). plain: both unperturbed."""
        rng = self.rng
        which = rng.choice(len(self.corpora), p=self.chance)
        weights = self.weights[which]
        chosen = self.corpora[which][1][rng.choice(len(weights), p=weights / weights.sum())]
        clip, labels = chosen.clip, chosen.labels
        first = int(rng.integers(0, max(1, clip.frames - FRAMES + 30)))
        frames = min(FRAMES, clip.frames - first)
        wave = chosen.pack.wave(clip)[first * HOP : (first + frames) * HOP]
        f0 = chosen.pack.f0(clip)[first : first + frames]
        short = FRAMES - frames
        wave, f0 = np.pad(wave, (0, short * HOP)), np.pad(f0, (0, short))
        widest = np.log(WARP)
        views = []
        for _ in range(2):
            if plain:
                mel = spectra_of.log_mel(spectra_of.power(wave, FRAMES))
            else:
                warp = float(np.round(np.exp(rng.uniform(-widest, widest)) * 40) / 40)
                mel = perturbed(wave, f0, FRAMES, rng, warp)
            shape, relative = spectra_of.RunningMean(self.prior).push(mel)
            views.append(np.concatenate((shape, relative[:, None]), axis=1).astype(np.float32))
        known = np.full(FRAMES, UNKNOWN, np.int64)
        known[LEAD:frames] = labels[first + LEAD : first + frames]
        taught = np.zeros((FRAMES, LESSON), np.float32)
        if chosen.lessons is not None:
            taught[LEAD:frames] = chosen.lessons[first + LEAD : first + frames]
        return views, known, taught

    def batch(self, size: int, plain: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, (2 size, FRAMES, 81), the first half to be heard quickly, and what `read`
        takes of labels and lessons, (size, COUNTED) and (size, COUNTED, LESSON)."""
        items = [self.item(plain) for _ in range(size)]
        views = [np.stack(view) for view in zip(*(views for views, *_ in items), strict=True)]
        labels = np.stack([known for _, known, _ in items])[:, :COUNTED]
        taught = np.stack([told for *_, told in items])[:, :COUNTED]
        heard = torch.from_numpy(np.concatenate(views))
        return heard, torch.from_numpy(labels), torch.from_numpy(taught)


def read(model: Content, heard: Tensor) -> Tensor:
    """Return the codes of a batch's COUNTED first frames, quick ones, then patient ones,
    (2 size, COUNTED, CODE)."""
    size = len(heard) // 2
    patient = torch.cat((torch.zeros(size), torch.ones(size)))
    code, _ = model(heard[..., :MELS], heard[..., MELS:], patient)
    return torch.cat((code[:size, QUICK : QUICK + COUNTED], code[size:, PATIENT:]))


def unexplained(lessons: Tensor, taught: Tensor) -> Tensor:
    """Return the share of the lessons' variance that was missed.

    taught: the lessons, zeros in frames that have none and do not count, (batch, time, LESSON).
    """
    missed = ((lessons - taught).square() * taught.any(dim=-1, keepdim=True)).sum()
    return missed / taught.square().sum().clamp(min=1.0)


def average_mel(pack: Pack, clips: int = 200, seed: int = 0) -> spectra_of.Array:
    """Return the mean level-free log-mel of the corpus's speech, shape (80,)."""
    rng = np.random.default_rng(seed)
    train = [clip for clip in pack.clips if clip.split == "train"]
    means = []
    for index in rng.choice(len(train), min(clips, len(train)), replace=False):
        mel = spectra_of.log_mel(spectra_of.power(pack.wave(train[index]), train[index].frames))
        speech = mel[spectra_of.speech_frames(mel)]
        means.append((speech - spectra_of.level_of(speech)[:, None]).mean(axis=0))
    return np.asarray(np.mean(means, axis=0).astype(np.float32))


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, folders: list[Path], run: Path, seed: int) -> None:
        torch.manual_seed(SEED)
        prior = average_mel(Pack(folders[0]))
        clips = [clip for folder in folders for clip in labelled_clips(folder)]
        held = held_out([c.clip for c in clips])
        self.stretches = Stretches([c for c in clips if c.clip.person not in held], prior, seed)
        checked = Stretches([c for c in clips if c.clip.person in held], prior, 99)
        self.valid = [checked.batch(24, plain=True) for _ in range(4)] if checked.corpora else []
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE, CLIP_NORM)
        super().__init__("content", Content(), run, pace, fixed={"prior": torch.from_numpy(prior)})

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        inputs, labels, taught = self.stretches.batch(BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            code = read(self.model, inputs)
            logits, lessons = self.model.head(code).float(), self.model.lesson(code).float()
        code = code.float()
        known, taught = labels.repeat(2, 1), taught.repeat(2, 1, 1)
        named = (known != UNKNOWN).sum().clamp(min=1)
        entropy = nn.functional.cross_entropy(
            logits.flatten(0, 1),
            known.flatten(),
            ignore_index=UNKNOWN,
            label_smoothing=SMOOTHING,
            reduction="sum",
        )
        entropy = entropy / named
        missed = unexplained(lessons, taught)
        one, other = code[:, LEAD:].chunk(2)
        apart = (1.0 - nn.functional.cosine_similarity(one, other, dim=-1)).mean()
        loss = entropy + AGREEMENT * apart + LESSONS * missed
        self.descend(loss, steps)
        return {"entropy": entropy.item(), "missed": missed.item(), "apart": apart.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of frames named rightly on held-out people, halves joined, and the share
        of the lessons missed, of quick and of patient codes."""
        figures: dict[str, list[float]] = {}
        with averaged(self.model, self.average):
            for inputs, labels, taught in self.valid:
                both = read(self.model, inputs).chunk(2)
                for name, code in zip(("quick", "patient"), both, strict=True):
                    guess = self.model.head(code).argmax(-1)
                    known = labels != UNKNOWN
                    right = ((guess + 1) // 2 == (labels + 1) // 2)[known].float().mean()
                    missed = unexplained(self.model.lesson(code), taught)
                    figures.setdefault(f"{name}_phone", []).append(float(right))
                    figures.setdefault(f"{name}_missed", []).append(float(missed))
        return {name: float(np.mean(values)) for name, values in figures.items()}


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--spoken", type=Path, default=Path("../spoken"))
    parser.add_argument("--out", type=Path, default=Path("../runs/content"))
    parser.add_argument("--weights", type=Path, default=None, help="weights to begin with")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer([arguments.pack, arguments.spoken], arguments.out, fresh_seed())
    trainer.resume(arguments.weights)
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    run(main)
