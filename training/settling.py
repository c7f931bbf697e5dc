"""Train the few hundred weights that tell a speaker's median F0 from the first words.

    python -m training.settling --corpus ../shared/corpus --cache ../settling-tracks
    python -m training.settling --corpus ../shared/corpus --cache ../settling-tracks \
        --labels ../pitch-labels --judge

Streams of one to four stretches of 4 to 8 s, mostly of one person, some with a change of speaker,
are heard as the analysis hears them, at the waits of all latency levels. What is learned is what is
judged: the correlation of log F0 before and after taking the expected median away, and how far the
result's median lies off. Only F0 is heard, so minutes of one core suffice. `--judge` trains
nothing: the weights are tried on clips of people that gave no example, against Harvest, beside the
running median and beside the clip's own.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from evaluation.command_line import run
from evaluation.corpus import Clip, Corpus
from numpy.typing import NDArray
from torch import nn

from menura.engine.interface import LATENCY_PROFILES, SAMPLE_RATE
from menura.engine.source_filter import settling
from menura.engine.source_filter.analysis import SourceFilterAnalysis
from menura.engine.source_filter.features import SourceFilterFeatures
from menura.engine.source_filter.settling import INPUTS, PRIOR_PITCH, TICK, Evidence
from menura.engine.source_filter.spectrum import STEP
from menura.engine.source_filter.statistics import SpeakerStatistics
from training.pitch import tracked
from training.pitch_clips import judged_clips, labelled

Array = NDArray[np.float32]

CLIPS = {"librispeech": 9, "s2i": 6, "arabic": 6, "ljspeech": 8, "kerstin": 8, "flemishguy": 8}
"""Clips of each person at most, per corpus."""
LONGEST = 12.0
SHORTEST = 2.5
"""Seconds of a clip that are heard, and that it must have."""
STRETCH = (4.0, 8.0)
"""Seconds of a stretch."""
ROUNDS = 6
PER_ROUND = 3
"""Streams of one person in one round."""
LONG_SHARE = 0.35
"""Share of streams with more than one stretch; every second of those changes its speaker."""
AT_PAUSE = 0.3
"""Share of stretches that begin within a clip, at a pause."""
SHIFT = 0.1
"""Standard deviation in octaves by which streams are moved."""
AFTER_CHANGE = 0.5
"""Weight of a stretch after a change of speaker."""
OFFSET_WEIGHT = {0: 0.07, 1: 0.06, 2: 0.055, 3: 0.046}
"""Correlation that a semitone off the median is worth, per latency level. Where features wait, a
correlation is cheaper to have."""
QUIET_BIAS = 0.015
"""Octaves by which the loud instants, of which voices are measured, lie above all voiced ones."""
HIDDEN = 16
BATCH = 24
EPOCHS = 60
RATE = 5e-3
DECAY = 1e-3
SEED = 7
LEAST_VOICED = 60
"""Voiced instants without which a stretch tells no median: 0.3 s."""
OUT = Path(settling.__file__).with_name("settling.npz")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Voiced instants of a stretch: log2 F0, and the tick that describes each at every level."""

    logs: Array
    ticks: NDArray[np.int64]
    weight: float


@dataclass(frozen=True, slots=True)
class Stream:
    """Inputs per tick (wait left at 0), mean of log2 F0 per tick, stretches."""

    inputs: Array
    means: Array
    stretches: tuple[Stretch, ...]


def tracks(corpus: Corpus, cache: Path, without: frozenset[str]) -> dict[str, list[Array]]:
    """Return F0 in Hz per 5 ms of clips, by person."""
    people: dict[str, list[Array]] = {}
    for clip in corpus.clips:
        number = CLIPS.get(clip.corpus, 0)
        if clip.split != "train" or clip.seconds < SHORTEST or clip.person in without:
            continue
        known = people.setdefault(clip.person, [])
        if len(known) < number:
            known.append(_track(corpus, clip, cache))
    return {person: known for person, known in people.items() if known}


def _track(corpus: Corpus, clip: Clip, cache: Path) -> Array:
    kept = cache / f"{clip.key.replace('/', '-')}.npy"
    if not kept.is_file():
        part = kept.with_suffix(".part")
        with open(part, "wb") as file:
            np.save(file, tracked(corpus.read(clip)[: int(LONGEST * SAMPLE_RATE)], 3))
        part.replace(kept)
    return np.asarray(np.load(kept), np.float32)


def described_by(count: int, level: int) -> NDArray[np.int64]:
    """Return for each of so many instants the last one that is heard before it is described."""
    block, wait = LATENCY_PROFILES[level].chunk // STEP, LATENCY_PROFILES[level].settling // STEP
    last = (np.arange(count) // block + 1) * block + wait - 1
    return np.minimum(last, count - 1)


def stream(pieces: list[Array], weights: list[float]) -> Stream:
    """Hear stretches one after the other."""
    f0 = np.concatenate(pieces)
    f0 = f0[: len(f0) // TICK * TICK]
    evidence = Evidence(0)
    inputs, means, ticks = [], [], np.empty(len(f0) // TICK, np.int64)
    for index, tick in enumerate(f0.reshape(-1, TICK)):
        if evidence.push(tick):
            inputs.append(evidence.inputs())
            means.append(evidence.mean)
        ticks[index] = len(inputs) - 1
    heard = np.stack([ticks[described_by(len(f0), level) // TICK] for level in OFFSET_WEIGHT])
    stretches, start = [], 0
    for piece, weight in zip(pieces, weights, strict=True):
        voiced = start + np.flatnonzero(f0[start : start + len(piece)] > 0)
        start += len(piece)
        if len(voiced) >= LEAST_VOICED:
            logs = np.log2(f0[voiced].astype(np.float64)).astype(np.float32)
            stretches.append(Stretch(logs, heard[:, voiced], weight))
    rows = np.array(inputs, np.float32).reshape(-1, INPUTS)
    return Stream(rows, np.array(means, np.float32), tuple(stretches))


def stretch_of(f0: Array, rng: np.random.Generator) -> Array:
    """Return some seconds of a clip, from its start or from a pause."""
    count = int(rng.uniform(*STRETCH) * SAMPLE_RATE / STEP)
    if len(f0) <= count or rng.random() > AT_PAUSE:
        return f0[:count]
    start = int(rng.integers(0, len(f0) - count))
    pauses = np.flatnonzero(f0[start:] == 0)
    start += int(pauses[0]) if len(pauses) else 0
    return f0[start : start + count]


def streams(people: dict[str, list[Array]], rng: np.random.Generator) -> list[Stream]:
    """Draw streams of everybody's clips, some with a change of speaker."""
    made, names = [], sorted(people)

    def some(person: str, number: int) -> list[Array]:
        known = people[person]
        return [stretch_of(known[i], rng) for i in rng.permutation(len(known))[:number]]

    for person in names * ROUNDS:
        for first in some(person, PER_ROUND):
            pieces, weights = [first], [1.0]
            if rng.random() < LONG_SHARE:
                pieces += some(person, int(rng.integers(1, 3)))
                weights = [1.0] * len(pieces)
                if rng.random() < 0.5:
                    other = some(names[int(rng.integers(len(names)))], 2)
                    pieces += other
                    weights += [AFTER_CHANGE] * len(other)
            factor = np.float32(2.0 ** np.clip(rng.normal(0.0, SHIFT), -0.3, 0.3))
            heard = stream([piece * factor for piece in pieces], weights)
            if heard.stretches:
                made.append(heard)
    return made


class Expecting(nn.Module):
    """The network as `menura.engine.source_filter.settling` runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(INPUTS, HIDDEN)
        self.out = nn.Linear(HIDDEN, 2)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0, -2.0]))

    def forward(self, inputs: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        """Return the expected median per tick, (streams, ticks)."""
        away, belief = self.out(torch.tanh(self.inside(inputs))).unbind(-1)
        share = torch.sigmoid(belief)
        share = torch.cat([torch.ones_like(share[:, :1]), share[:, 1:]], dim=1)
        return _leaky(1.0 - share, share * (means + away - PRIOR_PITCH)) + PRIOR_PITCH

    def arrays(self) -> dict[str, Array]:
        """Return the weights under the names that the engine reads."""
        held = {
            "in": self.inside.weight.T,
            "bias": self.inside.bias,
            "out": self.out.weight.T,
            "out_bias": self.out.bias,
        }
        return {n: v.detach().numpy().astype(np.float32).copy() for n, v in held.items()}


def _leaky(keep: torch.Tensor, add: torch.Tensor) -> torch.Tensor:
    """Return x[t] = keep[t] * x[t - 1] + add[t] along the last axis, in log2(ticks) steps."""
    step = 1
    while step < keep.shape[1]:
        late = add[:, step:] + keep[:, step:] * add[:, :-step]
        add = torch.cat([add[:, :step], late], dim=1)
        keep = torch.cat([keep[:, :step], keep[:, step:] * keep[:, :-step]], dim=1)
        step *= 2
    return add


@dataclass(frozen=True, slots=True)
class Batch:
    """Streams padded to one length, and their stretches padded to one length.

    of: the stream of each stretch. logs, voiced: (stretches, n). ticks: (levels, stretches, n).
    """

    inputs: torch.Tensor
    means: torch.Tensor
    of: torch.Tensor
    logs: torch.Tensor
    voiced: torch.Tensor
    ticks: torch.Tensor
    weights: torch.Tensor


def batch(heard: list[Stream]) -> Batch:
    """Return streams and their stretches padded to the longest."""
    ticks = max(len(one.means) for one in heard)
    inputs = np.zeros((len(heard), ticks, INPUTS), np.float32)
    # One more, which no tick reaches: what is assumed before anything is heard.
    means = np.full((len(heard), ticks), PRIOR_PITCH, np.float32)
    parts = [(row, part) for row, one in enumerate(heard) for part in one.stretches]
    longest = max(len(part.logs) for _, part in parts)
    logs = np.zeros((len(parts), longest), np.float32)
    at = np.zeros((len(OFFSET_WEIGHT), len(parts), longest), np.int64)
    voiced = np.zeros((len(parts), longest), np.bool_)
    for row, one in enumerate(heard):
        inputs[row, : len(one.means)], means[row, : len(one.means)] = one.inputs, one.means
    for row, (_, part) in enumerate(parts):
        count = len(part.logs)
        logs[row, :count], at[:, row, :count], voiced[row, :count] = part.logs, part.ticks, True
    made = (inputs, means, np.array([row for row, _ in parts]), logs, voiced, at)
    weights = torch.tensor([part.weight for _, part in parts])
    return Batch(*(torch.from_numpy(array) for array in made), weights)


def loss(model: Expecting, b: Batch, index: int, level: int) -> torch.Tensor:
    """Correlation lost, and semitones off the median, as heard at one latency level."""
    inputs = b.inputs.clone()
    inputs[:, :, 0] = LATENCY_PROFILES[level].settling / STEP / 128
    medians = model(inputs, b.means)
    medians = torch.cat([medians, torch.full_like(medians[:, :1], PRIOR_PITCH)], dim=1)
    at = torch.where(b.ticks[index] < 0, medians.shape[1] - 1, b.ticks[index])
    count = b.voiced.sum(dim=1, keepdim=True)
    left = b.logs - medians[b.of[:, None], at]
    before, after = (
        (x - (x * b.voiced).sum(dim=1, keepdim=True) / count) * b.voiced for x in (b.logs, left)
    )
    power = (before**2).sum(dim=1) * (after**2).sum(dim=1)
    correlation = (before * after).sum(dim=1) / torch.sqrt(power + 1e-9)
    median = torch.where(b.voiced, left, torch.nan).nanmedian(dim=1).values
    off = torch.sqrt((12.0 * (median + QUIET_BIAS)) ** 2 + 0.04)
    each = 1.0 - correlation + OFFSET_WEIGHT[level] * off
    return (b.weights * each).sum() / b.weights.sum()


def train(heard: list[Stream], epochs: int) -> Expecting:
    """Return a network that has learnt from streams; the loss on the terminal."""
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    ordered = sorted(heard, key=lambda one: len(one.means))
    batches = [batch(ordered[i : i + BATCH]) for i in range(0, len(ordered), BATCH)]
    model = Expecting()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, epochs * len(batches))
    for epoch in range(epochs):
        rng.shuffle(batches)
        total = 0.0
        for b in batches:
            losses = [loss(model, b, i, level) for i, level in enumerate(OFFSET_WEIGHT)]
            mean = torch.stack(losses).mean()
            optimiser.zero_grad()
            mean.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += mean.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {total / len(batches):.4f}", flush=True)
    return model


def heard_at(level: int, samples: Array) -> tuple[Array, dict[str, Array]]:
    """Return F0 of a clip, and per instant what was taken for its median, by three ways."""
    latency = LATENCY_PROFILES[level]
    analysis = SourceFilterAnalysis(latency)
    features = SourceFilterFeatures.joined([analysis.push(samples), analysis.flush()])
    known, running = SpeakerStatistics(), []
    block = latency.chunk // STEP
    for start in range(0, len(features.f0), block):
        rows = slice(start, start + block)
        envelope = features.envelope[rows].astype(np.float32)
        known.push(features.f0[rows], features.periodicity[rows], envelope)
        running.append(known.pitch[0])
    own = np.median(np.log2(features.f0[features.f0 > 0]))
    ways = {
        "running median": np.array(running)[described_by(len(features.f0), level) // block],
        "this": features.pitch[:, 0],
        "the clip's own": np.full(len(features.f0), own, np.float32),
    }
    return features.f0, ways


def judge(corpus: Corpus, labels: Path, level: int) -> str:
    """Compare with Harvest: correlation of log F0, and semitones off, medians and means."""
    found: dict[str, list[tuple[float, float]]] = {}
    for clip in judged_clips(corpus):
        samples, told, _ = labelled(corpus, clip, labels)
        f0, ways = heard_at(level, samples)
        count = min(len(f0), len(told))
        both = (f0[:count] > 0) & (told[:count] > 0)
        logs = np.log2(np.maximum(f0, 1.0))
        for name, medians in ways.items():
            left = logs - medians
            likeness = np.corrcoef(np.log(told[:count][both]), left[:count][both])[0, 1]
            off = 12.0 * abs(float(np.median(left[f0 > 0])) + QUIET_BIAS)
            found.setdefault(name, []).append((float(likeness), off))
    lines = []
    for name, rows in found.items():
        (likeness, off), (mean, mean_off) = np.median(rows, axis=0), np.mean(rows, axis=0)
        lines.append(
            f"level {level}, {name}: correlation {likeness:.3f} (mean {mean:.3f}), "
            f"off {off:.2f} st (mean {mean_off:.2f})"
        )
    return "\n".join(lines)


def main() -> None:
    """Train and replace the package's weights, or judge them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--cache", type=Path, required=True, help="Folder that keeps F0.")
    parser.add_argument("--labels", type=Path, help="Folder that keeps what Harvest says.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--judge", action="store_true", help="Judge the weights, train nothing.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = Corpus(options.corpus)
    if options.judge:
        if options.labels is None:
            parser.error("--judge needs --labels")
        print(judge(corpus, options.labels, 3), judge(corpus, options.labels, 0), sep="\n")
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    people = tracks(corpus, options.cache, frozenset(c.person for c in judged_clips(corpus)))
    heard = streams(people, np.random.default_rng(SEED))
    print(f"{len(people)} people, {len(heard)} streams", flush=True)
    np.savez(options.out, **train(heard, options.epochs).arrays())


if __name__ == "__main__":
    run(main)
