"""Who is converted into whom: the fixed list from the corpus, or any folder of clips."""

from __future__ import annotations

import csv
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from evaluation.corpus import CORPUS_RATE, Clip, Corpus, Samples

SEED = 20
SOURCE_SECONDS = (3.0, 9.0)
REFERENCE_SECONDS = 12.0
# Sexes the manifest leaves open, by median pitch of the person's clips.
GUESSED_SEX = {"s2i_g17": "F", "s2i_g41": "M", "arabic_00000016": "M"}


@dataclass(frozen=True)
class Target:
    """A person to convert into.

    reference: what the engine may hear. judged: other speech of the same person, which results are
    compared with; equal to the reference where `held_out` is false.
    """

    name: str
    sex: str | None
    reference: Samples
    judged: Samples
    held_out: bool


@dataclass(frozen=True)
class Pair:
    """One conversion to judge; all samples are mono at 24 kHz."""

    name: str
    group: str
    source: Samples
    source_sex: str | None
    target: Target

    @property
    def kind(self) -> str:
        """ "same", "cross" or "unknown" sex."""
        if self.source_sex is None or self.target.sex is None:
            return "unknown"
        return "same" if self.source_sex == self.target.sex else "cross"


def cut_at_pause(samples: Samples, seconds: float, reach: float = 0.7) -> int:
    """Index of the quietest 50 ms within `reach` seconds of a wished cut."""
    middle, span = int(seconds * CORPUS_RATE), int(reach * CORPUS_RATE)
    window = CORPUS_RATE // 20
    low, high = max(window, middle - span), min(len(samples) - window, middle + span)
    if high <= low:
        return min(len(samples), middle)
    energy = np.convolve(samples[low - window : high] ** 2, np.ones(window), mode="valid")
    return low - window // 2 + int(np.argmin(energy[: high - low]))


def target_of(name: str, sex: str | None, clips: list[Samples]) -> Target:
    """Divide a person's speech into a reference (up to about 12 s) and held-out speech."""
    total = sum(map(len, clips))
    wished = min(REFERENCE_SECONDS, 0.55 * total / CORPUS_RATE)
    if total < 9.0 * CORPUS_RATE:
        whole = np.concatenate(clips)
        return Target(name, sex, whole, whole, held_out=False)
    reference: list[Samples] = []
    rest = list(clips)
    gathered = 0
    while len(rest) > 1 and gathered < 0.85 * wished * CORPUS_RATE:
        gathered += len(rest[0])
        reference.append(rest.pop(0))
    if not reference:
        cut = cut_at_pause(rest[0], wished)
        reference, rest = [rest[0][:cut]], [rest[0][cut:]]
    return Target(name, sex, np.concatenate(reference), np.concatenate(rest), held_out=True)


def corpus_pairs(corpus: Corpus) -> list[Pair]:
    """The fixed list: natural English pairs first, then Arabic, then synthetic voices.

    Only people of the `valid` split. Each source clip has 3 to 9 s; longer ones are cut at a pause.
    """
    people: dict[tuple[str, str], list[Clip]] = {}
    for clip in corpus.clips:
        if clip.split == "valid" and clip.corpus != "wakeword":
            people.setdefault((clip.corpus, clip.person), []).append(clip)
    rng = random.Random(SEED)
    natural = [k for k in sorted(people) if k[0] in {"librispeech", "s2i"}]
    arabic = [k for k in sorted(people) if k[0] == "arabic"]
    synthetic = [k for k in sorted(people) if k[0] in {"t145", "mimic3"}]

    def sex(key: tuple[str, str]) -> str | None:
        return people[key][0].sex or GUESSED_SEX.get(key[1])

    def seconds(key: tuple[str, str]) -> float:
        return sum(c.seconds for c in people[key])

    def wanted(
        sources: list[tuple[str, str]], targets: list[tuple[str, str]], number: int
    ) -> list[tuple[tuple[str, str], tuple[str, str]]]:
        """Draw pairs so that kinds alternate and nobody is used much more often than others."""
        able = [(s, t) for s in sources for t in targets if s[1] != t[1] and seconds(t) >= 10.0]
        rng.shuffle(able)
        used: Counter[tuple[str, tuple[str, str]]] = Counter()
        chosen = []
        for turn in range(number):
            alike = turn % 2 == 0
            pool = [p for p in able if p not in chosen and (sex(p[0]) == sex(p[1])) == alike]
            pool = pool or [p for p in able if p not in chosen]
            if not pool:
                break
            pick = min(pool, key=lambda p: used["source", p[0]] + used["target", p[1]])
            used.update(zip(("source", "target"), pick, strict=True))
            chosen.append(pick)
        return chosen

    # Sources take turns among a person's clips, so that more than one sentence is heard.
    turns: Counter[tuple[str, str]] = Counter()
    targets: dict[tuple[str, str], Target] = {}

    def build(group: str, source: tuple[str, str], target: tuple[str, str]) -> Pair:
        clips = [c for c in people[source] if c.seconds >= SOURCE_SECONDS[0]]
        turn = turns[source]
        turns[source] += 1
        samples = corpus.read(clips[turn % len(clips)])
        if len(samples) > SOURCE_SECONDS[1] * CORPUS_RATE:
            samples = samples[: cut_at_pause(samples, 7.5)]
        if target not in targets:
            read = [corpus.read(c) for c in people[target]]
            targets[target] = target_of(target[1], sex(target), read)
        number = f".{turn}" if turn else ""
        name = f"{source[1]}{number}__{target[1]}"
        return Pair(name, group, samples, sex(source), targets[target])

    pairs = [build("natural", s, t) for s, t in wanted(natural, natural, 40)]
    pairs += [build("arabic", s, t) for s, t in wanted(arabic, natural, 4)]
    pairs += [build("arabic", s, t) for s, t in wanted(natural, arabic, 2)]
    pairs += [build("synthetic", s, t) for s, t in wanted(natural, synthetic, 10)]
    pairs += [build("synthetic", s, t) for s, t in wanted(synthetic, natural, 4)]
    return pairs


def read_clip(path: Path) -> Samples:
    """Any file that libsndfile reads, as mono float32 at 24 kHz."""
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != CORPUS_RATE:
        mono = soxr.resample(mono, rate, CORPUS_RATE)
    return np.asarray(mono, dtype=np.float32)


def folder_pairs(folder: Path) -> list[Pair]:
    """Pairs of `sources/*.wav` and `targets/*.wav` in a folder.

    With a `pairs.csv` (columns source, target and, where known, source_sex, target_sex, group:
    file names without suffix) those; otherwise every source with every target, in a seeded order.
    A target of more than 9 s is divided into reference and held-out speech.

    Raises FileNotFoundError when the folder holds no clips, or lacks one that the list names.
    """
    sources = {p.stem: p for p in sorted((folder / "sources").glob("*.*"))}
    targets = {p.stem: p for p in sorted((folder / "targets").glob("*.*"))}
    if not sources or not targets:
        raise FileNotFoundError(f"{folder} needs clips in sources/ and in targets/")
    listing = folder / "pairs.csv"
    if listing.is_file():
        with listing.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    else:
        rows = [{"source": s, "target": t} for s in sources for t in targets if s != t]
        random.Random(SEED).shuffle(rows)
    pairs, known = [], {}
    for row in rows:
        name = row["target"]
        for part, clips, stem in (("sources", sources, row["source"]), ("targets", targets, name)):
            if stem not in clips:
                raise FileNotFoundError(f"{listing} names {stem!r}, which is not in {part}/")
        if name not in known:
            known[name] = target_of(name, row.get("target_sex") or None, [read_clip(targets[name])])
        pairs.append(
            Pair(
                f"{row['source']}__{name}",
                row.get("group") or "folder",
                read_clip(sources[row["source"]]),
                row.get("source_sex") or None,
                known[name],
            )
        )
    return pairs


def write_pairs(pairs: list[Pair], folder: Path) -> None:
    """Write sources, references and a list, for converters that run elsewhere."""
    for part in ("sources", "references"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["pair", "group", "kind", "source", "reference", "result"])
        for pair in pairs:
            source, reference = f"sources/{pair.name}.wav", f"references/{pair.target.name}.wav"
            sf.write(folder / source, pair.source, CORPUS_RATE)
            sf.write(folder / reference, pair.target.reference, CORPUS_RATE)
            writer.writerow(
                [pair.name, pair.group, pair.kind, source, reference, f"{pair.name}.wav"]
            )
