"""Train the content network alone: what is said, taught by phones, whoever says it.

    python -m training.content --spoken ../spoken --pack ../packed --out ../runs/content

Every stretch is heard twice, perturbed in two ways: both codes must name the phones (cross-entropy
where a label is known) and agree with each other (everywhere, other languages too). Resumes from
the run's last checkpoint.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.interface import HOP
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.mel import MELS
from menura.engine.neural.networks import CODE, LOOK_AHEAD
from training.blocks import Block, rms_norm
from training.data import Clip, Pack, average_mel, perturbed
from training.loop import averaged, follow, fresh_seed, keep, rate_at, train
from training.phones import CLASSES, UNKNOWN

# Hyper-parameters.
STEPS = 3_800
BATCH = 12
FRAMES = 260
"""Frames of a stretch, of which the first LEAD only settle the state."""
LEAD = 20
WIDTH, HIDDEN, BLOCKS, KERNEL = 224, 512, 7, 7
LEARNING_RATE = 1.2e-3
FINAL_RATE = 2.0e-5
WARM_UP = 60
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.02
CLIP_NORM = 3.0
SMOOTHING = 0.05
AGREEMENT = 0.5
"""Weight of the agreement of the two codes."""
WARP = 1.25
AVERAGE = 0.995
VALIDATE_EVERY = 100
SEED = 5
SHARES = {"spoken": 0.22, "t145": 0.13, "librispeech": 0.36, "s2i": 0.12, "wakeword": 0.03}
"""Shares of the stretches; the rest comes from the other corpora, mostly other languages."""
HELD_OUT = 12
"""Every so many-th person of the labelled corpora is only for validation."""


class Content(nn.Module):
    """Log-mel to a code of what is said: causal, the code of a frame is read LOOK_AHEAD later."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(MELS + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HIDDEN, KERNEL) for _ in range(BLOCKS))
        self.leave = nn.Linear(WIDTH, CODE)
        self.head = nn.Linear(CODE, CLASSES)

    def forward(
        self, mel: Tensor, level: Tensor, states: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return codes of unit RMS, shape (batch, time, 64), and the next states.

        mel: log-mel minus the running mean, (batch, time, 80). level: relative level, (batch, time,
        1).
        """
        x = self.enter(torch.cat((mel.clamp(-8.0, 6.0), level.clamp(-10.0, 4.0)), dim=-1) * 0.5)
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


def labelled_clips(folder: Path) -> list[Labelled]:
    """Return a pack's train clips with their labels."""
    pack = Pack(folder)
    path = folder / "labels.i8"
    labels = np.fromfile(path, np.int8) if path.exists() else np.zeros(0, np.int8)
    found = []
    for clip in pack.clips:
        own = labels[clip.start : clip.start + clip.frames]
        if len(own) < clip.frames:
            own = np.full(clip.frames, UNKNOWN, np.int8)
        if clip.split == "train" and clip.frames > 60:
            found.append(Labelled(pack, clip, own))
    return found


def held_out(clips: list[Clip]) -> set[str]:
    """Return the people that training leaves out, to choose settings by."""
    known = {clip.person for clip in clips if clip.corpus in ("librispeech", "t145")}
    return set(sorted(known)[::HELD_OUT])


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

    def item(self, plain: bool) -> tuple[list[spectra_of.Array], NDArray[np.int64]]:
        """Return two perturbed inputs, (frames, 81) each, and the labels of their codes."""
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
        for _ in range(1 if plain else 2):
            if plain:
                mel = spectra_of.log_mel(spectra_of.power(wave, FRAMES))
            else:
                warp = float(np.round(np.exp(rng.uniform(-widest, widest)) * 40) / 40)
                mel = perturbed(wave, f0, FRAMES, rng, warp)
            shape, relative = spectra_of.RunningMean(self.prior).push(mel)
            views.append(np.concatenate((shape, relative[:, None]), axis=1).astype(np.float32))
        known = np.full(FRAMES, UNKNOWN, np.int64)
        known[LOOK_AHEAD:frames] = labels[first : first + frames - LOOK_AHEAD]
        known[:LEAD] = UNKNOWN
        return views, known

    def batch(self, size: int, plain: bool = False) -> tuple[Tensor, Tensor]:
        """Return inputs, (2 size, frames, 81) or (size, ...) when plain, and labels (size,
        frames)."""
        items = [self.item(plain) for _ in range(size)]
        views = [np.stack(view) for view in zip(*(views for views, _ in items), strict=True)]
        labels = np.stack([known for _, known in items])
        return torch.from_numpy(np.concatenate(views)), torch.from_numpy(labels)


class Trainer:
    """Everything one run holds."""

    def __init__(self, folders: list[Path], run: Path, seed: int) -> None:
        torch.manual_seed(SEED)
        self.run = run
        prior = average_mel(Pack(folders[0]))
        clips = [clip for folder in folders for clip in labelled_clips(folder)]
        held = held_out([c.clip for c in clips])
        self.stretches = Stretches([c for c in clips if c.clip.person not in held], prior, seed)
        checked = Stretches([c for c in clips if c.clip.person in held], prior, 99)
        self.valid = [checked.batch(24, plain=True) for _ in range(4)] if checked.corpora else []
        self.model = Content()
        self.prior = torch.from_numpy(np.asarray(prior, np.float32))
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self.step, self.heard = 0, 0.0

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        inputs, labels = self.stretches.batch(BATCH)
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, steps, LEARNING_RATE, FINAL_RATE, WARM_UP)
        with torch.autocast("cpu", torch.bfloat16):
            code, _ = self.model(inputs[..., :MELS], inputs[..., MELS:])
            logits = self.model.head(code)
        logits, code = logits.float(), code.float()
        known = labels.repeat(2, 1)
        named = (known != UNKNOWN).sum().clamp(min=1)
        entropy = nn.functional.cross_entropy(
            logits.flatten(0, 1),
            known.flatten(),
            ignore_index=UNKNOWN,
            label_smoothing=SMOOTHING,
            reduction="sum",
        )
        entropy = entropy / named
        one, other = code[:, LEAD:].chunk(2)
        apart = (1.0 - nn.functional.cosine_similarity(one, other, dim=-1)).mean()
        loss = entropy + AGREEMENT * apart
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
        self.step += 1
        self.heard += 2 * BATCH * FRAMES / 100
        follow(self.average, self.model, self.step, AVERAGE)
        hit = (logits.argmax(-1) == known).sum() / named
        return {"entropy": entropy.item(), "apart": apart.item(), "hit": hit.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of frames named rightly on held-out people, halves apart and joined."""
        exact, phone, total = 0, 0, 0
        with averaged(self.model, self.average):
            for inputs, labels in self.valid:
                code, _ = self.model(inputs[..., :MELS], inputs[..., MELS:])
                guess = self.model.head(code).argmax(-1)
                known = labels != UNKNOWN
                exact += int((guess == labels)[known].sum())
                phone += int(((guess + 1) // 2 == (labels + 1) // 2)[known].sum())
                total += int(known.sum())
        return {"valid_exact": exact / max(1, total), "valid_phone": phone / max(1, total)}

    def save(self) -> None:
        """Write averaged weights, weights and optimiser in place of the last checkpoint."""
        header = {"step": str(self.step), "heard": f"{self.heard:.0f}"}
        full = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "progress": (self.step, self.heard),
        }
        keep(self.run, {"content": self.average | {"prior": self.prior}}, header, full)

    def resume(self) -> None:
        """Continue from the run's checkpoint, if there is one."""
        last = self.run / "last.pt"
        if last.exists():
            full = torch.load(last, weights_only=True)
            self.model.load_state_dict(full["model"])
            self.average = full["average"]
            self.optimiser.load_state_dict(full["optimiser"])
            self.step, self.heard = full["progress"]


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--spoken", type=Path, default=Path("../spoken"))
    parser.add_argument("--out", type=Path, default=Path("../runs/content"))
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trainer = Trainer([arguments.pack, arguments.spoken], arguments.out, fresh_seed())
    trainer.resume()
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    main()
