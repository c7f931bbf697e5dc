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
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from evaluation.corpus import Clip, Corpus
from evaluation.prosody import energy_track
from evaluation.world import pyworld
from numpy.typing import NDArray
from rich.progress import track
from scipy.signal import butter, sosfilt
from torch import Tensor, nn

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.source_filter import pitch
from menura.engine.source_filter.correlogram import CEILING, FLOOR, PICTURE, REACH, Correlogram
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
from training.content import held_out
from training.loop import OneNetwork, Pace, averaged, fresh_seed, train

Array = NDArray[np.float32]

TAUGHT = ("librispeech", "s2i")
JUDGED = {"librispeech": 28, "s2i": 12}
SHORTEST, LONGEST = 1.5, 12.0
"""Seconds that a clip must have, and that are heard of it."""
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


def chosen(corpus: Corpus, numbers: dict[str, int], seed: int) -> list[Clip]:
    """One clip each of so many people, none of whom is held out of all training."""
    clips, rng = [], random.Random(seed)
    held = held_out([clip for clip in corpus.clips if clip.split == "train"])
    for name, number in numbers.items():
        people: dict[str, list[Clip]] = {}
        for clip in corpus.clips:
            known = clip.corpus == name and clip.split == "train" and clip.seconds >= 2.5
            if known and clip.person not in held:
                people.setdefault(clip.person, []).append(clip)
        for person in rng.sample(sorted(people), number):
            clips.append(rng.choice(people[person]))
    return clips


def judged_clips(corpus: Corpus) -> list[Clip]:
    """Clips of people that teach neither the tracker nor the expected median."""
    return chosen(corpus, JUDGED, SEED + 1)


def taught_clips(corpus: Corpus) -> list[Clip]:
    """All clips that teach the tracker."""
    without = {clip.person for clip in judged_clips(corpus)}
    without |= held_out([clip for clip in corpus.clips if clip.split == "train"])
    return [
        clip
        for clip in corpus.clips
        if clip.corpus in TAUGHT
        and clip.split == "train"
        and clip.seconds >= SHORTEST
        and clip.person not in without
    ]


def truth(samples: Array) -> tuple[Array, Array]:
    """Return F0 in Hz per 5 ms (0 where unvoiced) and how sure that is: 1, 0.5 or 0."""
    wave = soxr.resample(samples, SAMPLE_RATE, 16_000).astype(np.float64)
    wave += 1e-5 * np.random.default_rng(0).standard_normal(len(wave))
    harvest, times = pyworld.harvest(wave, 16_000, f0_floor=60.0, f0_ceil=600.0, frame_period=5.0)
    harvest = pyworld.stonemask(wave, harvest, times, 16_000)
    aperiodicity = pyworld.d4c(wave, harvest, times, 16_000)[:, 1]
    dio, times = pyworld.dio(wave, 16_000, f0_floor=60.0, f0_ceil=600.0, frame_period=5.0)
    dio = pyworld.stonemask(wave, dio, times, 16_000)
    n = min(len(harvest), len(dio), len(samples) // STEP)
    harvest, dio, aperiodicity = harvest[:n], dio[:n], aperiodicity[:n]
    level = np.repeat(energy_track(samples), 2)
    level = np.pad(level, (0, max(0, n - len(level))), mode="edge")[:n]
    voiced = (harvest > 0) & (aperiodicity < 0.999) & (level > level.max() - 45.0)
    ratio = np.log2(np.maximum(harvest, 1.0) / np.maximum(dio, 1.0))
    agreed = voiced & (dio > 0) & (np.abs(ratio) < 0.14)
    sure = np.where(agreed, 1.0, np.where(voiced, 0.5, np.where(dio == 0, 1.0, 0.0)))
    return np.where(voiced, harvest, 0.0).astype(np.float32), sure.astype(np.float32)


def labelled(corpus: Corpus, clip: Clip, cache: Path) -> tuple[Array, Array, Array]:
    """Return a clip's samples and `truth`, which is kept in a folder."""
    samples = corpus.read(clip)[: int(LONGEST * SAMPLE_RATE)]
    kept = cache / f"{clip.key.replace('/', '-')}.npz"
    if not kept.is_file():
        f0, sure = truth(samples)
        np.savez(kept, f0=f0, sure=sure)
    with np.load(kept) as arrays:
        return samples, arrays["f0"], arrays["sure"]


def varied(
    samples: Array, f0: Array, sure: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return a clip at another speed, level, in noise or in a telephone's band."""
    factor = float(2.0 ** rng.uniform(-0.45, 0.6))
    heard = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)
    at = np.minimum((np.arange(len(heard) // STEP) * factor).round().astype(int), len(f0) - 1)
    f0, sure = f0[at] * factor, sure[at].copy()
    sure[(f0 > 0) & ((f0 < FLOOR) | (f0 > CEILING))] = 0.0
    power = float(np.mean(heard**2))
    if rng.random() < 0.3:
        band = butter(2, (300, 3_400), "bandpass", fs=SAMPLE_RATE, output="sos")
        heard = sosfilt(band, heard).astype(np.float32)
    if rng.random() < 0.7:
        noise = rng.standard_normal(len(heard))
        if rng.random() < 0.5:
            noise = sosfilt(butter(1, 500, fs=SAMPLE_RATE, output="sos"), noise)
        noise *= np.sqrt(power / np.mean(noise**2)) * 10.0 ** rng.uniform(-1.8, -0.4)
        heard = heard + noise.astype(np.float32)
    return heard * np.float32(10.0 ** rng.uniform(-1.5, 0.3)), f0, sure


def vowel(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return a sung tone or glide of known F0."""
    seconds = 0.6
    glide = rng.uniform(-0.4, 0.4) * (rng.random() < 0.5)
    # Speech has hardly any of the ends of the range, and what is sung has.
    low, high = ((58.0, 780.0), (56.0, 80.0), (480.0, 795.0))[rng.choice(3, p=(0.5, 0.2, 0.3))]
    ends = rng.uniform(*np.log2([low, high])) + np.array([0.0, glide])
    track = 2.0 ** np.clip(np.linspace(*ends, int(seconds * SAMPLE_RATE)), *np.log2([55.5, 798.0]))
    phase = 2 * np.pi * np.cumsum(track) / SAMPLE_RATE
    formants = (rng.uniform(300, 850), rng.uniform(850, 2_200), rng.uniform(2_300, 3_200))
    if rng.random() < 0.4:
        # The second harmonic outshouts the first: the commonest trap.
        formants = (2.0 * float(track.mean()) + rng.uniform(-40, 40), *formants[1:])
    # A telephone takes the fundamental away, and a period remains.
    lowest = int(rng.integers(2, 6)) if rng.random() < 0.4 else 1
    bend = rng.uniform(0.0, 1.0)
    flat = rng.random() < 0.25
    sound = np.zeros(len(track))
    for harmonic in range(lowest, int(6_000 / track.max()) + 1):
        gain = sum(1.0 / (1.0 + ((harmonic * track - f) / 90.0) ** 2) for f in formants)
        gain = 1.0 if flat else gain / harmonic**0.5
        sound += gain * np.cos(harmonic * phase + bend * harmonic**2)
    sound *= 0.2 / np.abs(sound).max()
    sound += 10.0 ** rng.uniform(-4, -2) * rng.standard_normal(len(sound))
    f0 = track[::STEP].astype(np.float32)
    sure = np.full(len(f0), 2.0, np.float32)
    sure[:8] = sure[-8:] = 0.0
    return sound.astype(np.float32), f0, sure


def creak(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return a fundamental whose period and loudness waver, in a little hiss: no hum, but voice."""
    count, hold = int(0.6 * SAMPLE_RATE), SAMPLE_RATE // 100
    places = np.arange(0, count, hold)
    wander = rng.normal(0.0, rng.uniform(0.03, 0.12), len(places))
    track = rng.uniform(62.0, 220.0) * 2.0 ** np.repeat(wander, hold)[:count]
    loud = np.interp(np.arange(count), places, rng.uniform(0.4, 1.0, len(places)))
    sound = loud * np.cos(2 * np.pi * np.cumsum(track) / SAMPLE_RATE)
    sound *= 10.0 ** rng.uniform(-2.0, -1.0)
    hiss = np.diff(rng.standard_normal(count + 1)) * np.abs(sound).max()
    sound += 10.0 ** rng.uniform(-2.0, -0.8) * hiss
    sure = np.full(count // STEP, 2.0, np.float32)
    sure[:8] = sure[-8:] = 0.0
    told = np.full(count // STEP, np.exp(np.log(track).mean()), np.float32)
    return sound.astype(np.float32), told, sure


def hum(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return the hum of the mains, which is no voice."""
    time = np.arange(int(0.6 * SAMPLE_RATE)) / SAMPLE_RATE
    mains = rng.choice((50.0, 60.0)) * rng.choice((1.0, 2.0)) * rng.uniform(0.995, 1.005)
    sound = 10.0 ** rng.uniform(-3, -1) * rng.standard_normal(len(time))
    for harmonic in range(1, int(rng.integers(2, 12))):
        gain = rng.uniform(0.2, 1.2) / harmonic ** rng.uniform(0.7, 1.5)
        sound += gain * np.sin(2 * np.pi * harmonic * mains * time + rng.uniform(0, 2 * np.pi))
    sound *= 10.0 ** rng.uniform(-3.0, -1.3) / np.sqrt(np.mean(sound**2))
    quiet = np.zeros(len(time) // STEP, np.float32)
    return sound.astype(np.float32), quiet, quiet + 1


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
        self.model = nn.ModuleDict(
            {name: Weigher(WIDTHS[name], ahead) for name, ahead in AHEAD.items()}
        )
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE)
        super().__init__("pitch", self.model, run, pace)
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
        return tuple(torch.from_numpy(array) for array in arrays)  # type: ignore[return-value]

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
    train(trainer, options.steps, options.out, VALIDATE_EVERY)
    trainer.write(OUT)


if __name__ == "__main__":
    main()
