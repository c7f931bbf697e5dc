"""Batches: a perturbed source, the controls of the target, a reference of the same voice, the
target itself.

Perturbation happens on the source's power spectra: another vocal-tract length, another pitch,
equalisation, noise, a lost band. The target's wave is never touched, except that whole clips may be
sped up or slowed down, which makes another speaker of it (virtual speakers).
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from menura.engine.neural import features
from menura.engine.neural.excitation import PulseTrain
from menura.engine.neural.features import CENTRE, HOP, MELS, SAMPLE_RATE
from menura.engine.neural.networks import LOOK_AHEAD, SKIP_AHEAD
from menura.engine.neural.tract import moved, tract_ratio

CONTEXT = 40
"""Frames the networks hear before the loss begins."""
SETTLE = 2
"""Frames synthesised before the loss begins, whose filters still ring into it."""
HISTORY = 110
"""Frames of source before that, for the running mean."""
REFERENCE = 320
"""Frames of reference speech per item."""
WARP = 1.25
"""Widest imitated change of vocal-tract length of the source, either way."""
TRACT_ERROR = 0.05
"""How wrong the estimate of that change is, at most, in nepers, where the envelope is carried
around."""
REPITCHED, NOISY, LOST_BAND = 0.35, 0.15, 0.05
"""Shares of items whose source has another pitch, noise, or no upper band."""
EQUALISER = 0.6
"""Deviation of the source's equaliser in nepers of power."""
SPEEDS = (0.88, 1.0, 1.14)
"""Speed factors; each makes its own virtual speaker."""
WEIGHTS = {
    "librispeech": 3.0,
    "s2i": 1.5,
    "t145": 1.2,
    "arabic": 0.4,
    "wakeword": 0.4,
    "ljspeech": 2.0,
    "kerstin": 0.5,
    "nathalie": 0.7,
    "flemishguy": 0.7,
}
"""How often a second of each corpus is heard, relative to its share; 0.5 where a corpus is not
named."""

Array = NDArray[np.float32]


@dataclass
class Clip:
    """One packed clip; see `prepare.py` for the fields."""

    corpus: str
    person: str
    split: str
    text: str | None
    bandwidth: float
    start: int
    frames: int
    path: str


class Pack:
    """The packed corpus, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self._waves = np.memmap(folder / "waves.i16", np.int16, "r")
        self._f0 = np.memmap(folder / "f0.f32", np.float32, "r")
        self.clips: list[Clip] = []
        start = 0
        for line in (folder / "index.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if (start + row["frames"]) * HOP > len(self._waves):
                break
            person = row["person"] or row["speaker"]
            bandwidth = float(row["bandwidth_hz"] or 8_000.0)
            bandwidth = 12_000.0 if bandwidth > 9_000.0 else min(bandwidth, 7_900.0)
            self.clips.append(
                Clip(
                    row["corpus"],
                    person,
                    row["split"],
                    row["text"],
                    bandwidth,
                    start,
                    row["frames"],
                    row["path"],
                )
            )
            start += row["frames"]

    def wave(self, clip: Clip) -> Array:
        """Return a clip's samples."""
        part = self._waves[clip.start * HOP : (clip.start + clip.frames) * HOP]
        return np.asarray(part.astype(np.float32) / 32_767.0)

    def f0(self, clip: Clip) -> Array:
        """Return a clip's F0 in Hz, 0 where unvoiced."""
        return np.asarray(self._f0[clip.start : clip.start + clip.frames])


@dataclass
class Sound:
    """A clip as it is used: samples, F0, bandwidth and voice after any change of speed."""

    wave: Array
    f0: Array
    bandwidth: float
    voice: str

    @property
    def frames(self) -> int:
        """Number of 10 ms frames."""
        return len(self.f0)

    @property
    def median_f0(self) -> float:
        """Median F0 of the voiced frames in Hz; 150 where nothing is voiced."""
        voiced = self.f0[self.f0 > 0]
        return float(np.median(voiced)) if len(voiced) else 150.0


def sounded(pack: Pack, clip: Clip, speed: float = 1.0) -> Sound:
    """Return a clip, played `speed` times as fast (pitch and vocal tract change with it)."""
    wave, f0 = pack.wave(clip), pack.f0(clip)
    if speed == 1.0:
        return Sound(wave, f0, clip.bandwidth, clip.person)
    wave = soxr.resample(wave, SAMPLE_RATE * speed, SAMPLE_RATE, quality="MQ")
    frames = len(wave) // HOP
    place = np.clip(np.rint(np.arange(frames) * speed).astype(int), 0, len(f0) - 1)
    bandwidth = 12_000.0 if clip.bandwidth >= 12_000.0 else min(12_000.0, clip.bandwidth * speed)
    return Sound(wave[: frames * HOP], f0[place] * speed, bandwidth, f"{clip.person}@{speed}")


def speech_frames(mel: Array) -> NDArray[np.bool_]:
    """Return which frames are speech: within 5 nepers of power of the loudest twentieth."""
    level = features.level_of(mel)
    return np.asarray(level > np.percentile(level, 95) - features.SPEECH_RANGE)


def reference_of(wave: Array, f0: Array) -> tuple[Array, Array]:
    """Return level-free log-mel of the speech frames, (n, 80), and their statistics, (162,)."""
    mel = features.log_mel(features.power(wave, len(wave) // HOP))
    speech = mel[features.speech_frames(mel)]
    shape = speech - features.level_of(speech)[:, None]
    voiced = np.log(np.maximum(f0[f0 > 0], 1.0))
    pitch = (float(np.median(voiced)), float(np.std(voiced))) if len(voiced) else (5.0, 0.2)
    statistics = np.concatenate(
        ((shape.mean(axis=0) + 6.0) * 0.5, shape.std(axis=0) - 1.5, (pitch[0] - 5.0, pitch[1]))
    )
    return shape, statistics.astype(np.float32)


def repitch(spectra: Array, f0: Array, factor: float) -> Array:
    """Return power spectra with the harmonics of `factor` times F0 under the same envelope."""
    bins = features.FFT // 2 + 1
    hertz = np.arange(bins) * SAMPLE_RATE / features.FFT
    width = np.maximum(f0, 60.0)[:, None]
    total = np.concatenate((np.zeros((len(spectra), 1)), np.cumsum(spectra, axis=1)), axis=1)
    step = SAMPLE_RATE / features.FFT

    def integral(at: NDArray[np.float64]) -> NDArray[np.float64]:
        place = np.clip(at / step + 0.5, 0.0, bins - 1e-3)
        whole = place.astype(int)
        rows = np.arange(len(spectra))[:, None]
        low = total[rows, whole]
        return np.asarray(low + (total[rows, whole + 1] - low) * (place - whole))

    smooth = (integral(hertz + width / 2) - integral(hertz - width / 2)) / (width / step)
    wanted = f0[:, None] * factor
    away = (
        np.abs(hertz / np.maximum(wanted, 1.0) - np.rint(hertz / np.maximum(wanted, 1.0))) * wanted
    )
    lobe = np.where(away < 80.0, np.cos(np.pi * np.minimum(away, 80.0) / 160.0) ** 4, 0.0) + 1e-3
    lobe = lobe * wanted / 60.0
    return np.asarray(
        np.where(f0[:, None] > 0, np.maximum(smooth, 0) * lobe, spectra).astype(np.float32)
    )


def perturbed(wave: Array, f0: Array, frames: int, rng: np.random.Generator, warp: float) -> Array:
    """Return log-mel of a wave as if another person had spoken it elsewhere, shape (frames, 80).

    warp: vocal-tract length that is imitated; formants and pitch fall by this factor.
    """
    spectra = features.power(wave, frames, warp)
    if rng.random() < REPITCHED:
        spectra = repitch(spectra, f0, float(np.exp2(rng.uniform(-10, 10) / 12)))
    if rng.random() < NOISY:
        level = np.percentile(spectra.sum(axis=1), 95) / 513 * 10 ** (-rng.uniform(10, 40) / 10)
        tilt = np.exp(np.interp(np.arange(513), np.linspace(0, 512, 5), rng.normal(0, 1.2, 5)))
        noise = level * tilt / tilt.mean() * rng.exponential(1.0, spectra.shape)
        spectra = spectra + noise.astype(np.float32)
    if rng.random() < LOST_BAND:
        cut = rng.uniform(3_300, 7_000) * features.FFT / SAMPLE_RATE * warp
        spectra = spectra * (1e-4 + 1.0 / (1.0 + (np.arange(513) / cut) ** 40)).astype(np.float32)
    mel = features.log_mel(spectra, warp)
    knots = int(rng.integers(4, 8))
    heights = rng.normal(0, EQUALISER, knots)
    curve = np.interp(np.arange(MELS), np.linspace(0, MELS - 1, knots), heights)
    return np.asarray((mel + curve + rng.normal(0, 1.0)).astype(np.float32))


def cepstra(mel: Array) -> Array:
    """Return 14 normalised cepstra per frame for alignment, shape (frames, 14)."""
    basis = np.cos(np.pi / MELS * (np.arange(MELS)[:, None] + 0.5) * np.arange(14))
    out = mel @ basis
    speech = features.speech_frames(mel)
    out = (out - out[speech].mean(axis=0)) / (out[speech].std(axis=0) + 1e-3)
    out[:, 0] *= 2.0
    return np.asarray(np.clip(out, -4, 4).astype(np.float32))


def align(theirs: Array, ours: Array) -> NDArray[np.int64]:
    """Return for each frame of `ours` the frame of `theirs` that says the same (dynamic time
    warping)."""
    rows, columns = len(ours), len(theirs)
    cost = np.maximum((ours**2).sum(1)[:, None] + (theirs**2).sum(1)[None] - 2 * ours @ theirs.T, 0)
    cost = np.sqrt(cost)
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        best = np.minimum(
            total[row - 1, column - 1] + cost[row - 1, column - 1],
            np.minimum(total[row - 1, column], total[row, column - 1])
            + 1.1 * cost[row - 1, column - 1],
        )
        total[row, column] = best + 0.5 * (np.abs(row / rows - column / columns) > 0.15)
    path = np.zeros(rows, np.int64)
    row, column = rows, columns
    while row > 0 and column > 0:
        path[row - 1] = column - 1
        step = int(
            np.argmin((total[row - 1, column - 1], total[row - 1, column], total[row, column - 1]))
        )
        row, column = row - (step != 2), column - (step != 1)
    return path


class Batches:
    """Draws batches for ever. split: `train` or `valid`."""

    def __init__(
        self, pack: Pack, split: str, loss_frames: int, pair_share: float, prior: Array, seed: int
    ) -> None:
        self.pack = pack
        self._references: dict[tuple[str, float], tuple[Array, Array]] = {}
        self._aligned: dict[str, Array] = {}
        self.loss_frames = loss_frames
        self.pair_share = pair_share
        self.prior = prior
        self.rng = np.random.default_rng(seed)
        self.clips = [
            clip
            for clip in pack.clips
            if clip.split == split and clip.frames > loss_frames // 2 + 40
        ]
        weight = np.array([clip.frames * WEIGHTS.get(clip.corpus, 0.5) for clip in self.clips])
        self.chance = weight / weight.sum()
        self.of_person: dict[str, list[Clip]] = defaultdict(list)
        self.of_text: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            self.of_person[clip.person].append(clip)
            if clip.text and clip.corpus in ("t145", "wakeword"):
                self.of_text[f"{clip.corpus} {clip.text}"].append(clip)
        self.of_text = {text: clips for text, clips in self.of_text.items() if len(clips) > 1}
        persons = sorted({clip.person for clip in self.clips if clip.corpus != "wakeword"})
        names = [
            name if speed == 1.0 else f"{name}@{speed}" for name in persons for speed in SPEEDS
        ]
        self.speakers = {name: index for index, name in enumerate(names)}

    def _target(self) -> tuple[Clip, Clip | None]:
        if self.of_text and self.rng.random() < self.pair_share:
            spoken = list(self.of_text)
            chances = np.array([4.0 if text.startswith("t145") else 1.0 for text in spoken])
            text = spoken[self.rng.choice(len(spoken), p=chances / chances.sum())]
            first, second = self.rng.choice(len(self.of_text[text]), 2, replace=False)
            return self.of_text[text][first], self.of_text[text][second]
        return self.clips[self.rng.choice(len(self.clips), p=self.chance)], None

    def _reference(self, clip: Clip, speed: float) -> tuple[Array, Array]:
        key = (clip.path, speed)
        if key not in self._references:
            sound = sounded(self.pack, clip, speed)
            shape, statistics = reference_of(sound.wave, sound.f0)
            self._references[key] = shape.astype(np.float16), statistics
        shape, statistics = self._references[key]
        start = int(self.rng.integers(0, max(1, len(shape) - REFERENCE + 1)))
        repeats = -(-REFERENCE // len(shape))
        cut = np.tile(shape, (repeats, 1))[start : start + REFERENCE].astype(np.float32)
        return cut, statistics

    def _for_alignment(self, clip: Clip) -> Array:
        if clip.path not in self._aligned:
            mel = features.log_mel(features.power(self.pack.wave(clip), clip.frames))
            self._aligned[clip.path] = cepstra(mel)[::2]
        return self._aligned[clip.path]

    def item(self, plain: bool = False) -> dict[str, Any]:
        """Return one training item as arrays. plain: nothing is perturbed (for validation)."""
        rng, span = self.rng, CONTEXT + self.loss_frames + LOOK_AHEAD
        clip, partner = self._target()
        steady = plain or partner is not None
        speed = 1.0 if steady else float(rng.choice(SPEEDS, p=(0.2, 0.6, 0.2)))
        target = sounded(self.pack, clip, speed)
        short = max(0, span + 4 - target.frames)
        if short:
            target.wave = np.pad(target.wave, (0, short * HOP))
            target.f0 = np.pad(target.f0, (0, short))
        first = int(rng.integers(0, target.frames - span - 2))
        begin = max(0, first - HISTORY)
        stop = first + span
        clean = features.log_mel(
            features.power(target.wave[begin * HOP : stop * HOP], stop - begin)
        )
        if partner is None:
            heard, track = target.wave[begin * HOP : stop * HOP], target.f0[begin:stop]
            path, tract = np.arange(first - begin, stop - begin), 1.0
        else:
            other = sounded(self.pack, partner)
            path = np.repeat(2 * align(self._for_alignment(partner), self._for_alignment(clip)), 2)
            path[1::2] += 1
            path = np.minimum(np.pad(path, (0, span), mode="edge"), other.frames - 1)[first:stop]
            start, end = max(0, int(path.min()) - HISTORY), int(path.max()) + 1
            heard, track = other.wave[start * HOP : end * HOP], other.f0[start:end]
            path, tract = path - start, tract_ratio(other.median_f0, target.median_f0)
        widest = np.log(WARP)
        warp = float(np.round(np.exp(rng.uniform(-widest, widest)) * 40) / 40)
        mel = clean if plain else perturbed(heard, track, len(track), rng, warp)
        shape, relative = features.RunningMean(self.prior).push(mel)
        shape, relative = shape[path], relative[path]
        around = (shape - relative[:, None])[SKIP_AHEAD : SKIP_AHEAD + span - LOOK_AHEAD]
        if not plain:
            ratio = warp * tract * float(np.exp(rng.uniform(-TRACT_ERROR, TRACT_ERROR)))
            around = moved(around, np.full(len(around), ratio, np.float32))
        _, loudness = features.RunningMean(self.prior).push(clean)
        level = (features.level_of(clean) - loudness)[first - begin :]
        owners = self.of_person[clip.person]
        others = [owner for owner in owners if owner.path != clip.path] or owners
        source = others[int(rng.integers(len(others)))]
        reference, statistics = self._reference(source, speed)
        frames = span - LOOK_AHEAD
        voiced = features.hold(target.f0, target.median_f0)[first : first + frames + 1]
        if not plain and rng.random() < 0.02:
            voiced = voiced * float(rng.choice((0.5, 2.0)))
        spectra = features.centred_power(target.wave, frames, first)
        own = features.energy(target.wave, frames, first)
        pitch = np.log(voiced[:frames])
        median = statistics[-2] + 5.0
        gentle = own - level[:frames] + 4.5
        steering = np.stack(
            (pitch - 5.0, pitch - median, gentle * 0.3, np.diff(gentle, prepend=gentle[0])), axis=1
        )
        steering = np.concatenate(
            (steering, features.periodicity(spectra, voiced[:frames])), axis=1
        )
        lead = CONTEXT - SETTLE
        train = PulseTrain(float(rng.random())).push(voiced[lead - 1 :])
        origin = (first + CONTEXT) * HOP + CENTRE
        wave = target.wave[origin : origin + (self.loss_frames - 2) * HOP]
        return {
            "mel": shape,
            "relative": relative[:, None],
            "carried": around,
            "steering": steering.astype(np.float32),
            "energy": own[:, None],
            "reference": reference,
            "statistics": statistics,
            "pulses": train,
            "noise": rng.standard_normal(len(train)).astype(np.float32),
            "wave": wave,
            "bandwidth": np.float32(target.bandwidth),
            "speaker": np.int64(self.speakers.get(target.voice, -1)),
        }

    def batch(self, size: int, plain: bool = False) -> dict[str, Array]:
        """Return `size` items stacked."""
        items = [self.item(plain) for _ in range(size)]
        return {name: np.stack([item[name] for item in items]) for name in items[0]}


def average_mel(pack: Pack, clips: int = 200, seed: int = 0) -> Array:
    """Return the mean level-free log-mel of the corpus's speech, shape (80,)."""
    rng = np.random.default_rng(seed)
    train = [clip for clip in pack.clips if clip.split == "train"]
    means = []
    for index in rng.choice(len(train), min(clips, len(train)), replace=False):
        mel = features.log_mel(features.power(pack.wave(train[index]), train[index].frames))
        speech = mel[features.speech_frames(mel)]
        means.append((speech - features.level_of(speech)[:, None]).mean(axis=0))
    return np.asarray(np.mean(means, axis=0).astype(np.float32))
