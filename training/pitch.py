"""Train the networks by which the pitch tracker weighs its candidates.

    python -m training.pitch --corpus ../shared/corpus --cache ../pitch-labels --out ../runs/pitch
    python -m training.pitch --corpus ../shared/corpus --cache ../pitch-labels --judge

The truth is what Harvest (Morise) says of natural clips of the training people, and where it hears
no voice, what DIO agrees on: a weak voice that is missed keeps the source's pitch. Clips are also
heard faster or slower, in noise and through a telephone's band, with the truth of the clean clip;
vowels of known F0, with and without their lowest harmonics, plain noise, hum and creak stand beside
them. One network learns to wait shortly, one to wait long. The labels take 20 minutes of one
core, once, the rest as long; 5 GB of memory. Resumes from the run's last checkpoint; at the end
`pitch.npz` in the package is replaced. `--judge` trains nothing: the tracker is heard on clips of
training people that gave no example.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from evaluation.corpus import Corpus
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.source_filter import pitch
from menura.engine.source_filter.correlogram import PICTURE, REACH, Correlogram
from menura.engine.source_filter.salience import (
    AHEAD,
    DILATIONS,
    KERNEL,
    LOWEST,
    PATIENT,
    PER_OCTAVE,
    PITCHES,
    RANGE,
    range_told,
)
from menura.engine.source_filter.spectrum import STEP
from training.blocks import Block, rms_norm
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train
from training.pitch_clips import judged_clips, labelled, taught_clips
from training.pitch_sounds import creak, hum, varied, vowel

Array = NDArray[np.float32]

SEED = 7
BLOCK = 32
"""Instants correlated at a time."""
VARIATIONS = 1
"""Times that every clip is heard otherwise, beside as it is."""
VOWELS = 2_500
"""Vowels that are made, and stretches of noise."""
NEAR = 0.09
"""Octaves within which a pitch is the right one."""
WIDTHS = {"quick": 96, "patient": 128}
STEPS = 8_500
BATCH = 24
FRAMES = 320
LEAD = 45
"""Instants that only settle the state."""
BLUR = 0.7
"""Deviation, in pitches, of what is asked for around the truth."""
LEARNING_RATE, FINAL_RATE = 1.5e-3, 3.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.02
AVERAGE = 0.997
ASTRAY, OCTAVE_ASTRAY, UNTOLD = 0.2, 0.2, 0.15
"""How wrong the tracker's own idea of where the voice lies may be: deviation in octaves, and shares
of stretches with one or two octaves more or less and with no idea."""
VALIDATE_EVERY = 250
OUT = Path(pitch.__file__).with_name("pitch.npz")


def heard(samples: Array) -> NDArray[np.float16]:
    """Return the picture of every instant of a clip, (n, PICTURE)."""
    count, late = len(samples) // STEP, REACH // STEP
    blocks = -(-(count + late) // BLOCK)
    padded = np.zeros(blocks * BLOCK * STEP, np.float32)
    padded[: len(samples)] = samples
    correlogram = Correlogram(BLOCK)
    parts = [
        correlogram.push(block).picture.astype(np.float16) for block in padded.reshape(blocks, -1)
    ]
    return np.concatenate(parts)[late : late + count]


def known_range(f0: Array) -> tuple[Array, Array]:
    """Return what a tracker that makes no mistake would know of the voice at each instant."""
    voice = pitch.Range()
    rows = []
    for value in f0:
        rows.append((voice.mean, voice.known))
        if value > 0:
            voice.hear(float(np.log2(value)))
    mean, known = np.array(rows, np.float32).T
    return mean, known


@dataclass(frozen=True, slots=True)
class Example:
    """A clip as the network hears it, per instant.

    picture: (n, PICTURE). f0: in Hz, 0 where unvoiced, (n,). sure: its weight, (n,). mean, known:
    see `known_range`.
    """

    picture: NDArray[np.float16]
    f0: Array
    sure: Array
    mean: Array
    known: Array


def example(samples: Array, f0: Array, sure: Array) -> Example:
    """Return a clip as the network hears it."""
    n = min(len(f0), len(samples) // STEP)
    return Example(heard(samples[: n * STEP]), f0[:n], sure[:n], *known_range(f0[:n]))


def examples_of(
    clips: Iterable[tuple[Array, Array, Array]], made: int, rng: np.random.Generator
) -> list[Example]:
    """Return clips as they are and otherwise, with so many vowels and stretches of noise, and a
    quarter as many of hum and of creak."""
    found = []
    for samples, f0, sure in clips:
        # Harvest alone hears breath and creak, which keep the source's pitch where they are missed.
        told = samples, f0, np.where(f0 > 0, np.float32(1.0), sure)
        found.append(example(*told))
        found += [example(*varied(*told, rng)) for _ in range(VARIATIONS)]
    for _ in range(made):
        found.append(example(*vowel(rng)))
        noise = rng.standard_normal(SAMPLE_RATE // 4).astype(np.float32)
        quiet = np.zeros(len(noise) // STEP, np.float32)
        found.append(example(noise * np.float32(10.0 ** rng.uniform(-5, -1)), quiet, quiet + 1))
    for make in (hum, creak):
        found += [example(*make(rng)) for _ in range(made // 4)]
    return found


class Weigher(nn.Module):
    """One network as `menura.engine.source_filter.salience` runs it.

    ahead: instants that each block hears beyond the one it describes.
    """

    def __init__(self, width: int, ahead: tuple[int, ...]) -> None:
        super().__init__()
        self.enter = nn.Linear(PICTURE + RANGE, width)
        self.blocks = nn.ModuleList(
            Block(width, 2 * width, KERNEL, dilation=dilation, ahead=more)
            for dilation, more in zip(DILATIONS, ahead, strict=True)
        )
        self.leave = nn.Linear(width, PITCHES + 1)

    def forward(self, picture: Tensor, usual: Tensor) -> Tensor:
        """Return logits of the pitches and of none, (batch, time, PITCHES + 1).

        picture: (batch, time, PICTURE). usual: of `range_told`, (batch, time, RANGE).
        """
        x = self.enter(torch.cat((picture, usual), dim=-1))
        for block in self.blocks:
            x, _ = block(nn.functional.pad(x, (0, 0, 0, block.ahead)))
            x = x[:, block.ahead :]
        out: Tensor = self.leave(rms_norm(x))
        return out

    def arrays(self) -> dict[str, NDArray[np.float16]]:
        """Return the weights under the names that the tracker reads, less the network's."""
        held = {
            "enter": self.enter.weight.T,
            "bias": self.enter.bias,
            "leave": self.leave.weight.T,
            "leave_bias": self.leave.bias,
        }
        for index, block in enumerate(self.blocks):
            held |= {
                f"over_time_{index}": block.depthwise.weight[:, 0].T,
                f"over_time_bias_{index}": block.depthwise.bias,
                f"expand_{index}": block.expand.weight.T,
                f"expand_bias_{index}": block.expand.bias,
                f"reduce_{index}": (block.reduce.weight * block.scale[:, None]).T,
                f"reduce_bias_{index}": block.reduce.bias * block.scale,
            }
        return {name: value.detach().numpy().astype(np.float16) for name, value in held.items()}


def asked(f0: Array) -> Array:
    """Return what the network is to say, (n, PITCHES + 1)."""
    places = LOWEST + np.arange(PITCHES) / PER_OCTAVE
    away = (places - np.log2(np.maximum(f0, 1.0))[:, None]) * PER_OCTAVE / BLUR
    near = np.exp(-0.5 * away**2) * (f0 > 0)[:, None]
    near /= near.sum(axis=1, keepdims=True) + 1e-9
    return np.append(near, (f0 <= 0)[:, None], axis=1).astype(np.float32)


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, taught: list[Example], judged: list[Example], run: Path, seed: int) -> None:
        torch.manual_seed(SEED)
        model = nn.ModuleDict({name: Weigher(WIDTHS[name], ahead) for name, ahead in AHEAD.items()})
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE)
        super().__init__("pitch", model, run, pace)
        self.examples = taught
        lengths = np.array([len(each.f0) for each in taught], float)
        self.chance = lengths / lengths.sum()
        self.rng = np.random.default_rng(seed)
        self.judged = judged

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return pictures and usual ranges, each PATIENT instants longer than what is asked, and
        what is asked with its weights."""
        rng, span = self.rng, FRAMES + PATIENT
        picture = np.zeros((BATCH, span, PICTURE), np.float32)
        usual = np.zeros((BATCH, span, RANGE), np.float32)
        wanted = np.zeros((BATCH, FRAMES, PITCHES + 1), np.float32)
        weight = np.zeros((BATCH, FRAMES), np.float32)
        for row, index in enumerate(rng.choice(len(self.examples), BATCH, p=self.chance)):
            clip = self.examples[index]
            count = len(clip.f0)
            first = int(rng.integers(-20, max(1, count - FRAMES + 60)))
            here, end = max(0, first), min(count, first + span)
            part = slice(here, end)
            picture[row, here - first : end - first] = clip.picture[part]
            if rng.random() > UNTOLD:
                astray = rng.normal(0.0, ASTRAY)
                astray += (rng.random() < OCTAVE_ASTRAY) * rng.choice([-2.0, -1.0, 1.0, 2.0])
                told = range_told(clip.mean[part] + np.float32(astray), clip.known[part])
                usual[row, here - first : end - first] = told
            end = min(count, first + FRAMES)
            wanted[row, here - first : end - first] = asked(clip.f0[here:end])
            weight[row, here - first : end - first] = clip.sure[here:end]
            if first > 0:
                weight[row, :LEAD] = 0.0
        arrays = (picture, usual, wanted, weight)
        return tuple(torch.from_numpy(array) for array in arrays)

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        told, losses = self.batch(), {}
        for name, rows in (("quick", slice(0, None, 2)), ("patient", slice(1, None, 2))):
            picture, usual, wanted, weight = (part[rows] for part in told)
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.model[name](picture, usual).float()[:, :FRAMES]
            entropy = -(wanted * torch.log_softmax(logits, dim=-1)).sum(dim=-1) * weight
            losses[name] = entropy.sum() / weight.sum()
        self.descend(losses["quick"] + losses["patient"], steps)
        return {name: loss.item() for name, loss in losses.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return, for judged people, the shares of voiced instants whose likeliest pitch is right,
        and of instants without a voice that are taken for voice."""
        found: dict[str, list[float]] = {}
        with averaged(self.model, self.average):
            for clip in self.judged:
                picture = torch.from_numpy(clip.picture.astype(np.float32))[None]
                usual = torch.from_numpy(range_told(clip.mean, clip.known))[None]
                for name, network in self.model.items():
                    said = network(picture, usual)[0]
                    best = said.argmax(dim=-1).numpy()
                    off = LOWEST + best / PER_OCTAVE - np.log2(np.maximum(clip.f0, 1.0))
                    right = (best < PITCHES) & (np.abs(off) < NEAR)
                    found.setdefault(f"{name}_right", []).append(right[clip.f0 > 0].mean())
                    silent = (clip.f0 == 0) & (clip.sure == 1)
                    found.setdefault(f"{name}_false", []).append((best < PITCHES)[silent].mean())
        return {name: float(np.nanmean(values)) for name, values in found.items()}

    def write(self, out: Path) -> None:
        """Write the averaged weights as the tracker reads them."""
        with averaged(self.model, self.average):
            held = {
                f"{name}_{key}": value
                for name, network in self.model.items()
                for key, value in network.arrays().items()
            }
            np.savez(out, **held)


def tracked(samples: Array, level: int) -> Array:
    """Return F0 in Hz per 5 ms as a stream of this latency level hears it."""
    latency = LATENCY_PROFILES[level]
    late, count = latency.look_ahead // STEP, len(samples) // STEP
    tracker = pitch.PitchTracker(latency.chunk // STEP, late - REACH // STEP)
    blocks = -(-(count + late) * STEP // latency.chunk)
    padded = np.zeros(blocks * latency.chunk, np.float32)
    padded[: count * STEP] = samples[: count * STEP]
    f0 = np.concatenate([tracker.push(block) for block in padded.reshape(blocks, -1)])
    return f0[late : late + count]


def judge(clips: list[tuple[Array, Array, Array]], level: int) -> str:
    """Compare with what Harvest and DIO agree on, in shares of the instants that they call voiced.

    False voice is a share of the instants that they call unvoiced.
    """
    heard, told, sure = (
        np.concatenate(part)
        for part in zip(
            *((tracked(s, level)[: len(f0)], f0[: len(s) // STEP], w) for s, f0, w in clips),
            strict=True,
        )
    )
    voiced, silent = (told > 0) & (sure == 1), (told == 0) & (sure == 1)
    off = np.log2(np.maximum(heard, 1.0) / np.maximum(told, 1.0))
    wrong = voiced & (heard > 0) & (np.abs(off) > np.log2(1.2))
    shares = {
        "missed": np.mean(heard[voiced] == 0),
        "off by 20 %": wrong.sum() / voiced.sum(),
        "an octave down": (wrong & (off < -0.7)).sum() / voiced.sum(),
        "an octave up": (wrong & (off > 0.7)).sum() / voiced.sum(),
        "false voice": np.mean(heard[silent] > 0),
    }
    return f"level {level}: " + ", ".join(f"{n} {100 * v:.1f} %" for n, v in shares.items())


def main() -> None:
    """Train until the steps are done and replace the package's weights, or judge them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="Folder that keeps the truth.")
    parser.add_argument("--out", type=Path, default=Path("../runs/pitch"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--judge", action="store_true", help="Judge the tracker, train nothing.")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    corpus = Corpus(options.corpus)
    judged = [labelled(corpus, clip, options.cache) for clip in judged_clips(corpus)]
    if options.judge:
        print(judge(judged, 3), judge(judged, 0), sep="\n")
        return
    taught = (
        labelled(corpus, clip, options.cache)
        for clip in track(taught_clips(corpus), "what Harvest hears")
    )
    examples = examples_of(taught, VOWELS, np.random.default_rng(SEED))
    trainer = Trainer(examples, [example(*clip) for clip in judged], options.out, fresh_seed())
    trainer.resume()
    if train(trainer, options.steps, options.out, VALIDATE_EVERY):
        trainer.write(OUT)


if __name__ == "__main__":
    run(main)
