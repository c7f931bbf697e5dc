"""Train the few hundred weights by which the pitch tracker weighs its candidates.

    python -m training.pitch --corpus ../shared/corpus --cache ../pitch-labels
    python -m training.pitch --corpus ../shared/corpus --cache ../pitch-labels --judge

The truth is what Harvest (Morise) says of natural clips of the training people, and where it hears
no voice, what DIO agrees on: a weak voice that is missed keeps the source's pitch. Clips are also
heard faster or slower, in noise and through a telephone's band, with the truth of the clean clip;
vowels of known F0, with and without their lowest harmonics, and plain noise stand beside them.
Some minutes of one core. `--judge` trains nothing: the tracker is heard on clips of training people
that gave no example.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import soxr
import torch
from evaluation.corpus import Clip, Corpus
from evaluation.prosody import energy_track
from evaluation.world import pyworld
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt
from torch import nn

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.source_filter import pitch
from menura.engine.source_filter.correlogram import (
    CANDIDATES,
    CEILING,
    FLOOR,
    INSTANT_FEATURES,
    REACH,
    Candidates,
    Correlogram,
)
from menura.engine.source_filter.spectrum import STEP

Array = NDArray[np.float32]

CLIPS = {"librispeech": 48, "s2i": 20}
JUDGED = {"librispeech": 28, "s2i": 12}
SECONDS = 6.0
SEED = 7
BLOCK = 32
NEAR = 0.09
"""Octaves within which a candidate is the right one."""
HIDDEN = 32
VOWELS = 250
OUT = Path(pitch.__file__).with_name("pitch.npz")


def chosen(
    corpus: Corpus, numbers: dict[str, int], seed: int = SEED, without: frozenset[str] = frozenset()
) -> list[Clip]:
    """One clip of each of so many people, none of whom is among `without`."""
    clips, rng = [], random.Random(seed)
    for name, number in numbers.items():
        people: dict[str, list[Clip]] = {}
        for clip in corpus.clips:
            known = clip.corpus == name and clip.split == "train" and clip.seconds >= 2.5
            if known and clip.person not in without:
                people.setdefault(clip.person, []).append(clip)
        for person in rng.sample(sorted(people), number):
            clips.append(rng.choice(people[person]))
    return clips


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
    samples = corpus.read(clip)[: int(SECONDS * SAMPLE_RATE)]
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
    ends = rng.uniform(*np.log2([58.0, 780.0])) + np.array([0.0, glide])
    track = 2.0 ** np.clip(np.linspace(*ends, int(seconds * SAMPLE_RATE)), *np.log2([57.0, 790.0]))
    phase = 2 * np.pi * np.cumsum(track) / SAMPLE_RATE
    formants = (rng.uniform(300, 850), rng.uniform(850, 2_200), rng.uniform(2_300, 3_200))
    if rng.random() < 0.4:
        # The second harmonic outshouts the first: the commonest trap.
        formants = (2.0 * float(track.mean()) + rng.uniform(-40, 40), *formants[1:])
    # A telephone takes the fundamental away, and a period remains.
    lowest = int(rng.integers(2, 6)) if rng.random() < 0.4 else 1
    bend = rng.uniform(0.0, 1.0)
    sound = np.zeros(len(track))
    for harmonic in range(lowest, int(6_000 / track.max()) + 1):
        gain = sum(1.0 / (1.0 + ((harmonic * track - f) / 90.0) ** 2) for f in formants)
        sound += gain * np.cos(harmonic * phase + bend * harmonic**2) / harmonic**0.5
    sound *= 0.2 / np.abs(sound).max()
    sound += 10.0 ** rng.uniform(-4, -2) * rng.standard_normal(len(sound))
    f0 = track[::STEP].astype(np.float32)
    sure = np.full(len(f0), 2.0, np.float32)
    sure[:8] = sure[-8:] = 0.0
    return sound.astype(np.float32), f0, sure


def heard(samples: Array) -> Candidates:
    """Return the candidates of every instant of a clip."""
    count, late = len(samples) // STEP, REACH // STEP
    blocks = -(-(count + late) // BLOCK)
    padded = np.zeros(blocks * BLOCK * STEP, np.float32)
    padded[: len(samples)] = samples
    correlogram = Correlogram(BLOCK)
    parts = [correlogram.push(block) for block in padded.reshape(blocks, -1)]
    names = ("logs", "valid", "features", "instants")
    whole = [np.concatenate([getattr(p, n) for p in parts])[late : late + count] for n in names]
    return Candidates(*whole)


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


Example = tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], Array]


def example(samples: Array, f0: Array, sure: Array, rng: np.random.Generator) -> Example:
    """Return inputs of candidates, of instants, validity, the right answer and its weight."""
    n = min(len(f0), len(samples) // STEP)
    f0, sure = f0[:n], sure[:n].copy()
    found = heard(samples[: n * STEP])
    mean, known = known_range(f0)
    # A tracker makes mistakes: sometimes it believes the voice an octave off.
    astray = rng.normal(0.0, 0.12) + (rng.random() < 0.15) * rng.choice([-1.0, 1.0])
    inputs = pitch.describe(found, (mean + astray).astype(np.float32), known)
    off = np.abs(found.logs - np.log2(np.maximum(f0, 1.0))[:, None])
    off = np.where(found.valid, off, 9.0)
    right = np.where(f0 > 0, off.argmin(axis=1), CANDIDATES)
    # Where the truth is no candidate, nothing can be learned from choosing among the others.
    sure[(f0 > 0) & (off.min(axis=1) > NEAR)] = 0.0
    return inputs, found.instants, found.valid, right, sure


class Weigher(nn.Module):
    """The network as `menura.engine.source_filter.pitch` runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.candidate = nn.Linear(pitch.CANDIDATE_INPUTS, HIDDEN)
        self.candidate_out = nn.Linear(HIDDEN, 1, bias=False)
        self.instant = nn.Linear(INSTANT_FEATURES, HIDDEN)
        self.instant_out = nn.Linear(HIDDEN, 1)

    def forward(
        self, inputs: torch.Tensor, instants: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """Return logits of the candidates and of no voice, (n, CANDIDATES + 1)."""
        voiced = self.candidate_out(torch.relu(self.candidate(inputs)))[..., 0]
        voiced = torch.where(valid, voiced, torch.tensor(-30.0))
        return torch.cat([voiced, self.instant_out(torch.relu(self.instant(instants)))], dim=1)

    def arrays(self) -> dict[str, Array]:
        """Return the weights under the names that the tracker reads."""
        held = {
            "candidate_in": self.candidate.weight.T,
            "candidate_bias": self.candidate.bias,
            "candidate_out": self.candidate_out.weight[0],
            "instant_in": self.instant.weight.T,
            "instant_bias": self.instant.bias,
            "instant_out": self.instant_out.weight[0],
            "unvoiced": self.instant_out.bias[0],
        }
        return {n: v.detach().numpy().astype(np.float32).copy() for n, v in held.items()}


def train(examples: list[Example], steps: int) -> Weigher:
    """Fit the network by listwise cross-entropy."""
    torch.manual_seed(SEED)
    inputs, instants, valid, right, sure = (
        torch.from_numpy(np.concatenate(part)) for part in zip(*examples, strict=True)
    )
    kept = sure > 0
    inputs, instants, valid = inputs[kept], instants[kept], valid[kept]
    right, sure = right[kept], sure[kept]
    model = Weigher()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.randint(len(right), (2_048,))
        loss = nn.functional.cross_entropy(
            model(inputs[rows], instants[rows], valid[rows]), right[rows], reduction="none"
        )
        loss = (loss * sure[rows]).sum() / sure[rows].sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)
    return model


def tracked(samples: Array, level: int) -> Array:
    """Return F0 in Hz per 5 ms as a stream of this latency level hears it."""
    latency = LATENCY_PROFILES[level]
    late, count = latency.look_ahead // STEP, len(samples) // STEP
    tracker = pitch.PitchTracker(latency.chunk // STEP, late - REACH // STEP)
    blocks = -(-(count + late) * STEP // latency.chunk)
    padded = np.zeros(blocks * latency.chunk, np.float32)
    padded[: count * STEP] = samples[: count * STEP]
    f0 = np.concatenate([tracker.push(block).f0 for block in padded.reshape(blocks, -1)])
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="Folder that keeps the truth.")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--judge", action="store_true", help="Judge the tracker, train nothing.")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    corpus, rng = Corpus(options.corpus), np.random.default_rng(SEED)
    training = chosen(corpus, CLIPS)
    if options.judge:
        others = chosen(corpus, JUDGED, SEED + 1, frozenset(clip.person for clip in training))
        clips = [labelled(corpus, clip, options.cache) for clip in others]
        print(judge(clips, 3), judge(clips, 0), sep="\n")
        return
    examples = []
    for clip in training:
        samples, f0, sure = labelled(corpus, clip, options.cache)
        # Harvest alone hears breath and creak, which keep the source's pitch where they are missed.
        told = samples, f0, np.where(f0 > 0, np.float32(1.0), sure)
        examples.append(example(*told, rng))
        examples.append(example(*varied(*told, rng), rng))
    for _ in range(VOWELS):
        examples.append(example(*vowel(rng), rng))
        noise = rng.standard_normal(SAMPLE_RATE // 4).astype(np.float32)
        quiet = np.zeros(len(noise) // STEP, np.float32)
        examples.append(
            example(noise * np.float32(10.0 ** rng.uniform(-5, -1)), quiet, quiet + 1, rng)
        )
    print(f"{len(examples)} clips, {sum(len(e[3]) for e in examples)} instants", flush=True)
    np.savez(options.out, **train(examples, options.steps).arrays())


if __name__ == "__main__":
    main()
