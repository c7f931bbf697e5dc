"""What the timbre network and its critics are shown: stretches of packed envelopes.

A stretch of a clip is the target. What a network hears of it is perturbed (tract length, equaliser,
noise), or, where other people said the same, is theirs, aligned in time. The voice is known from
other speech of the target's speaker. Whole voices are also moved along the tract-length axis, which
makes virtual speakers.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from menura.engine.interface import HOP
from menura.engine.neural import bands
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.controls import (
    SILENT_LEVEL,
    carried_of,
    controls_of,
    hold,
    means_told,
    steady,
)
from menura.engine.neural.measurement import means_of, speech_level
from menura.engine.neural.mel import MEL_TOP, MELS
from menura.engine.neural.networks import CODE, PATIENT
from menura.engine.neural.voice import ROWS
from training.alignment import aligned
from training.codes import VIEWS, coded, settled
from training.content import Content
from training.envelopes import ROW
from training.lessons import LESSON, lessons_of
from training.pack import Clip, Pack, held_out
from training.perturbation import equaliser, perturbed

FRAMES = 180
LEAD = 40
"""Frames before the loss begins."""
PAIR_SHARE = 0.25
"""Share of the items in which somebody else says the same."""
UNCARRIED = 0.8
"""Share of the items that see nothing of the source's envelope but the code."""
TRACT = 0.17
"""Largest change of the source's tract in nepers; TRACT_ERROR of it is not undone before."""
TRACT_ERROR = 0.06
VIRTUAL = 0.12
"""Largest change of a whole voice's tract in nepers, in half of the items."""
EQUALISER = 0.7
CARRIED_NOISE = 0.25
"""Deviations of the equaliser's knots and, at most, of noise on the envelope carried, in nepers."""
SILENT = -22.0
"""Log power where there is nothing."""
WEIGHTS = {
    "librispeech": 3.0,
    "s2i": 1.5,
    "t145": 1.2,
    "arabic": 0.5,
    "wakeword": 0.5,
    "ljspeech": 2.0,
    "kerstin": 0.3,
    "nathalie": 0.4,
    "flemishguy": 0.4,
}
"""How often a second of each corpus is heard, relative to its share."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Said:
    """What a stretch says, and how, frame for frame.

    code: (n, CODE). shape: envelope over its level, (n, 64). level: over the speech's, (n,).
    voiced: (n,). mean: the speaker's mean envelope over the level, (64,). ratio: by which the
    speaker's formants are to be moved to the voice's; None: it is the voice's own speech.
    """

    code: Array
    shape: Array
    level: Array
    voiced: NDArray[np.bool_]
    mean: Array
    ratio: float | None = None


class Items:
    """Draws batches for ever. split: `train` or `valid`; people held out of training count as the
    latter. prior: what the content network's running mean starts from; where it is given, items
    also bring what that network hears, for codes made anew."""

    def __init__(
        self,
        folder: Path,
        codes: Path | None,
        split: str,
        seed: int,
        prior: Array | None = None,
        patient: float = 0.5,
    ) -> None:
        self.pack = Pack(folder)
        self.rng = np.random.default_rng(seed)
        rows = np.memmap(folder / "envelope.f16", np.float16, "r")
        self._rows = rows.reshape(-1, ROW)
        self._codes = None if codes is None else np.load(codes, mmap_mode="r")
        self._prior = prior
        self._patient = patient
        self._lessons = lessons_of(folder)
        self._fresh: NDArray[np.float16] | None = None
        least = FRAMES + 10 if split == "train" else 120
        held = held_out(self.pack.clips)
        clips = [
            clip
            for clip in self.pack.clips
            if clip.frames > 70
            and (clip.split == "train" and clip.person not in held) == (split == "train")
        ]
        self.of_person: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            self.of_person[clip.person].append(clip)
        self.clips = [
            clip
            for clip in clips
            if clip.frames > least
            or (clip.corpus == "wakeword" and len(self.of_person[clip.person]) > 1)
        ]
        weight = np.array([clip.frames * WEIGHTS.get(clip.corpus, 0.5) for clip in self.clips])
        self.chance = weight / weight.sum()
        spoken: dict[str, float] = defaultdict(float)
        for clip, share in zip(self.clips, self.chance, strict=True):
            spoken[clip.person] += share
        # The share of a clip in what its speaker says: equal chances for people.
        self._share = self.chance / np.array([spoken[clip.person] for clip in self.clips])
        people = sorted({clip.person for clip in self.clips})
        self.names = {person: number for number, person in enumerate(people)}
        self.of_text: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            if clip.text and clip.corpus == "t145":
                self.of_text[clip.text].append(clip)
        self.spoken = [text for text, said in self.of_text.items() if len(said) > 1]
        self._known: dict[str, tuple[Array, Array, Array, Array, float]] = {}

    def known(self, clip: Clip) -> tuple[Array, Array, Array, Array, float]:
        """Return a clip's envelope over the level, level over the speech's, periodic shares, F0 and
        the speech's level."""
        if clip.path not in self._known:
            part = self._rows[clip.start : clip.start + clip.frames].astype(np.float32)
            envelope, shares = part[:, : bands.COUNT], part[:, bands.COUNT :]
            level = bands.level(envelope)
            speech = speech_level(level)
            made = (
                (envelope - level[:, None]).astype(np.float16),
                (level - speech).astype(np.float32),
                shares.astype(np.float16),
                self.pack.f0(clip),
                speech,
            )
            self._known[clip.path] = made
        shape, level, shares, f0, speech = self._known[clip.path]
        return shape.astype(np.float32), level, shares.astype(np.float32), f0, speech

    def codes(self, clip: Clip, view: int) -> Array:
        """Return a clip's codes, (frames, 64). view: 0 plain, else perturbed; codes made anew are
        all plain."""
        if self._fresh is not None:
            return self._fresh[clip.start : clip.start + clip.frames].astype(np.float32)
        if self._codes is None:
            raise ValueError("no codes were given")
        return np.asarray(self._codes[view, clip.start : clip.start + clip.frames], np.float32)

    def _taught(self, clip: Clip, part: slice) -> Array:
        """Return the lessons of a part of a clip, zeros where there are none."""
        if self._lessons is None:
            return np.zeros((part.stop - part.start, LESSON), np.float32)
        start = clip.start
        return np.asarray(self._lessons[start + part.start : start + part.stop], np.float32)

    def _heard(self, clip: Clip, first: int, plain: bool) -> dict[str, Array | bool]:
        """Return what the content network is told of an item, silence after its end, that the code
        is to be made of it, and whether patiently; nothing and False without a prior."""
        span = FRAMES + LEAD + PATIENT
        if self._prior is None:
            nothing = np.zeros((span, MELS + 1), np.float32)
            return {"heard": nothing, "live": False, "patient": False}
        patient = bool(self.rng.random() < self._patient)
        frames = min(span, clip.frames - first)
        wave = self.pack.wave(clip)[first * HOP : (first + frames) * HOP]
        wave = np.pad(wave, (0, (span - frames) * HOP))
        if plain:
            mel = spectra_of.log_mel(spectra_of.power(wave, span))
        else:
            f0 = np.pad(self.pack.f0(clip)[first : first + frames], (0, span - frames))
            warp = float(np.round(np.exp(self.rng.uniform(-0.22, 0.22)) * 40) / 40)
            mel = perturbed(wave, f0, span, self.rng, warp)
        if self.rng.random() < 0.5:
            heard = settled(mel, self._prior)
        else:
            shape, relative = spectra_of.RunningMean(self._prior).push(mel)
            heard = np.concatenate((shape, relative[:, None]), axis=1)
        return {"heard": heard, "live": True, "patient": patient}

    def refresh(self, model: Content) -> None:
        """Give all clips the codes that a network gives them now."""
        if self._prior is None:
            raise ValueError("without a prior no codes can be made")
        if self._fresh is None:
            self._fresh = np.zeros((len(self._rows), CODE), np.float16)
        for clip in track([clip for clips in self.of_person.values() for clip in clips], "codes"):
            mel = spectra_of.log_mel(spectra_of.power(self.pack.wave(clip), clip.frames))
            code = coded(model, settled(mel, self._prior)[None], np.array([True]))[0]
            self._fresh[clip.start : clip.start + clip.frames] = code

    def reference(self, clip: Clip, first: int) -> tuple[Array, Array, Array, float]:
        """Return rows, (ROWS, 65), their envelopes, (ROWS, 64), the means, (128,), and the median
        of log F0, of other speech of the same speaker."""
        owners = self.of_person[clip.person]
        others = [owner for owner in owners if owner.path != clip.path]
        parts, heard = [], 0
        if others:
            for index in self.rng.permutation(len(others)):
                parts.append((others[index], np.ones(others[index].frames, bool)))
                heard += others[index].frames
                if heard > 1_200:
                    break
        if heard < 500 and not (others and clip.frames < 400):
            away = np.abs(np.arange(clip.frames) - first - LEAD - FRAMES // 2) > FRAMES // 2 + 20
            parts.append((clip, away if heard + away.sum() > 60 else ~away))
        codes, shapes, voicing, pitch = [], [], [], []
        for part, usable in parts:
            shape, level, _, f0, _ = self.known(part)
            # The voice is measured from speech as it is, or from speech that was perturbed alike.
            chosen = usable & (level > -5.0)
            chosen = chosen if chosen.any() else np.ones_like(chosen)
            codes.append(self.codes(part, 0)[chosen])
            shapes.append(shape[chosen])
            voicing.append((f0 > 0)[chosen])
            pitch.append(np.log(f0[chosen & (f0 > 0)]))
        code, shape = np.concatenate(codes), np.concatenate(shapes)
        voiced = np.concatenate(voicing).astype(np.float32)
        median = float(np.median(np.concatenate(pitch))) if len(np.concatenate(pitch)) else 5.0
        means = means_of(shape, voiced > 0.5)
        some = self.rng.choice(len(code), ROWS, replace=len(code) < ROWS)
        rows = np.concatenate((code, voiced[:, None]), axis=1)[some]
        return rows, shape[some], means, median

    def item(self, plain: bool) -> dict[str, Array]:
        """Return one training item. plain: unperturbed."""
        rng = self.rng
        clip, partner = self._drawn_pair(plain)
        shape, level, shares, f0, _ = self.known(clip)
        part = self._span(clip)
        frames, short = part.stop - part.start, FRAMES + LEAD - (part.stop - part.start)
        rows, values, means, median = self.reference(clip, part.start)
        target = shape[part]
        view = 0 if plain else int(rng.integers(0, VIEWS + 1))
        if partner is None:
            code = self.codes(clip, view)[part]
            said = _Said(code, target, level[part], f0[part] > 0, _usual(shape, level, f0))
        else:
            said = self._said_by(partner, clip, part, view, median)
        virtual = 0.0
        if not plain and rng.random() < 0.5:
            virtual = float(rng.uniform(-VIRTUAL, VIRTUAL))
            moved = np.full(max(frames, ROWS, 2), np.exp(virtual), np.float32)
            target = bands.warped(target, moved[:frames])
            values = bands.warped(values, moved[:ROWS])
            means = bands.warped(means.reshape(2, -1), moved[:2]).ravel()
            median += 1.5 * virtual
        if not plain:
            said = self._disguised(said, virtual)
        there = 0.0 if not plain and rng.random() < UNCARRIED else 1.0
        carried = carried_of(said.shape - said.mean + means[: bands.COUNT]) * there
        held = hold(f0[part], float(np.exp(median)))
        controls = controls_of(held, median, steady(said.level), None, shares[part], said.voiced)
        top = min(MEL_TOP, 0.95 * clip.bandwidth * np.exp(min(0.0, virtual)))
        weight = np.clip((level[part, None] + 6.0) / 4.0, 0.03, 1.0) * (top > bands.CENTRES)
        weight[:LEAD] = 0.0
        told = self._heard(clip, part.start, plain)
        # A partner's code lies in the partner's time.
        told["live"] = bool(told["live"]) and partner is None
        return _as_arrays(
            told
            | {
                "code": _padded(said.code, short),
                "taught": _padded(self._taught(clip, part), short),
                "carried": _padded(carried, short),
                "controls": _padded(controls, short, SILENT_LEVEL),
                "target": _padded(target, short),
                "weight": _padded(weight, short),
                "rows": rows,
                "values": values,
                "means": means_told(means, median),
            }
        )

    def _drawn_pair(self, plain: bool) -> tuple[Clip, Clip | None]:
        """Draw a clip and, sometimes, another in which somebody else says the same."""
        rng = self.rng
        if not plain and self.spoken and rng.random() < PAIR_SHARE:
            said = self.of_text[self.spoken[rng.integers(len(self.spoken))]]
            pair = rng.choice(len(said), 2, replace=False)
            return said[pair[0]], said[pair[1]]
        return self.clips[rng.choice(len(self.clips), p=self.chance)], None

    def _span(self, clip: Clip) -> slice:
        """Draw LEAD + FRAMES of a clip, or somewhat fewer at its end."""
        span = FRAMES + LEAD
        first = int(self.rng.integers(0, max(1, clip.frames - span + 20)))
        return slice(first, first + min(span, clip.frames - first))

    def _said_by(self, partner: Clip, clip: Clip, part: slice, view: int, median: float) -> _Said:
        """Return what a partner says, in the time of a part of a clip. median: of the log of the
        clip's F0."""
        half = aligned(self.codes(partner, 0)[::2], self.codes(clip, 0)[::2])
        path = np.repeat(2 * half, 2)[: clip.frames]
        path = np.minimum(path, partner.frames - 1)[part]
        shape, level, _, f0, _ = self.known(partner)
        ratio = float(np.exp(np.clip(0.15 * (median - np.log(_median_f0(f0))), -0.17, 0.17)))
        code = self.codes(partner, view)[path]
        return _Said(code, shape[path], level[path], f0[path] > 0, _usual(shape, level, f0), ratio)

    def _disguised(self, said: _Said, virtual: float) -> _Said:
        """Return what was said as if it were heard elsewhere, and from another tract, of whose
        length an estimate is off. virtual: nepers by which the voice's own tract was moved."""
        rng, own = self.rng, said.ratio is None
        # The source is warped by `off`; the estimate undoes all of it but the error.
        off = float(rng.uniform(-TRACT, TRACT)) if own else 0.0
        error = float(rng.uniform(-TRACT_ERROR, TRACT_ERROR))
        factor = np.exp(error + virtual) if said.ratio is None else said.ratio * np.exp(error)
        shape, mean, frames = said.shape, said.mean, len(said.shape)
        net = np.full(frames, factor, np.float32)
        if abs(off) > 0.05:
            shape = bands.warped(shape, np.full(frames, np.exp(off), np.float32))
            net = (net / np.exp(off)).astype(np.float32)
            mean = bands.warped(mean[None], np.array([np.exp(off)], np.float32))[0]
        curve = equaliser(rng, EQUALISER)
        # Of the equaliser the mean removal undoes all but what it has not heard yet.
        shape = shape + curve
        mean = mean + curve + rng.normal(0, 0.15, bands.COUNT) + rng.normal(0, 0.2)
        louder = bands.level(shape.astype(np.float32))
        shape = bands.warped((shape - louder[:, None]).astype(np.float32), net)
        mean = bands.warped(mean[None].astype(np.float32), net[:1])[0]
        shape = shape + CARRIED_NOISE * rng.random() * rng.standard_normal(shape.shape)
        level = said.level + louder + float(rng.normal(0, 0.4))
        return replace(said, shape=shape, level=level, mean=mean)

    def conversion(self) -> dict[str, Array]:
        """Return an item of one person turned into another, as at run time.

        It has no target, but the source's envelope at the voice's tract length and mean, `kept`;
        who the two are, as `names` numbers them; and what `_audible` gives.
        """
        rng = self.rng
        clip = self.clips[rng.choice(len(self.clips), p=self.chance)]
        other = clip
        while other.person == clip.person:
            other = self.clips[rng.choice(len(self.clips), p=self.chance)]
        shape, level, shares, f0, _ = self.known(clip)
        part = self._span(clip)
        frames, short = part.stop - part.start, FRAMES + LEAD - (part.stop - part.start)
        rows, values, means, median = self.reference(other, -10 * (FRAMES + LEAD))
        theirs = _median_f0(f0)
        slope = 0.15 * (median - np.log(theirs)) + rng.normal(0, 0.03)
        ratio = np.full(frames, np.exp(np.clip(slope, -0.2, 0.2)), np.float32)
        mean = _usual(shape, level, f0)
        carried = carried_of(bands.warped(shape[part] - mean, ratio) + means[: bands.COUNT])
        held = hold(f0[part], theirs) * float(np.exp(median)) / theirs
        voiced = f0[part] > 0
        controls = controls_of(held, median, steady(level[part]), None, shares[part], voiced)
        controls = _padded(controls, short)
        controls[frames:, 2] = SILENT_LEVEL
        out = {
            "code": _padded(self.codes(clip, 0)[part], short),
            "taught": _padded(self._taught(clip, part), short),
            **self._heard(clip, part.start, False),
            "carried": _padded(carried, short),
            "kept": _padded(carried[:, : bands.COUNT], short),
            "controls": controls,
            "rows": rows,
            "values": values,
            "means": means_told(means, median),
            "people": np.array([self.names[clip.person], self.names[other.person]]),
            **self._audible(clip, part, held * voiced),
        }
        out["source"], out["source_level"] = self._speech(clip.person)
        out["theirs"], out["their_level"] = self._speech(other.person)
        return _as_arrays(out)

    def _audible(self, clip: Clip, part: slice, pitch: Array) -> dict[str, Array]:
        """Return what Whisper needs to hear the frames of a conversion after LEAD: samples,
        envelope (as it is, over nothing), level over the speech's and its own, F0 as converted and
        periodic shares. pitch: F0 of the part, 0 where unvoiced."""
        shape, level, shares, _, speech = self.known(clip)
        after = slice(min(part.start + LEAD, clip.frames), part.stop)
        short = FRAMES - (after.stop - after.start)
        loud = (level[after] + speech)[:, None]
        wave = self.pack.wave(clip)[after.start * HOP : after.stop * HOP]
        return {
            "wave": _padded(wave, short * HOP),
            "absolute": _padded(shape[after] + loud, short, SILENT),
            "loud": _padded(loud[:, 0], short, SILENT),
            "relative": _padded(level[after], short, SILENT),
            "pitch": _padded(pitch[LEAD : LEAD + FRAMES], short),
            "shares": _padded(shares[after], short),
        }

    def part(self, clip: Clip) -> slice:
        """Draw FRAMES of a clip, or all that there are."""
        first = int(self.rng.integers(0, max(1, clip.frames - FRAMES + 1)))
        return slice(first, first + min(FRAMES, clip.frames - first))

    def _stretch(self, clip: Clip, part: slice) -> tuple[Array, Array]:
        """Return a part of a clip's envelopes, (FRAMES, 64), and levels; silence after its end."""
        shape, level, _, _, _ = self.known(clip)
        short = FRAMES - (part.stop - part.start)
        return _padded(shape[part], short), _padded(steady(level[part]), short, SILENT_LEVEL)

    def _speech(self, person: str) -> tuple[Array, Array]:
        """Return two stretches of what somebody says, (2 FRAMES, 64), and their levels."""
        said = self.of_person[person]
        drawn = self.rng.choice(len(said), 2, replace=len(said) < 2)
        clips = [said[index] for index in drawn]
        parts = [self._stretch(clip, self.part(clip)) for clip in clips]
        shapes, levels = zip(*parts, strict=True)
        return np.concatenate(shapes), np.concatenate(levels)

    def drawn(self, size: int, evenly: bool = False) -> list[Clip]:
        """Draw clips. evenly: rather by people than by how long they speak."""
        chance = np.sqrt(self.chance * self._share) if evenly else self.chance
        drawn = self.rng.choice(len(self.clips), size, p=chance / chance.sum())
        return [self.clips[index] for index in drawn]

    def people(self, size: int, evenly: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return stretches of `size` people's clips, (size, FRAMES, 64), their levels and the
        people's numbers; see `names`. evenly: as for `drawn`."""
        clips = self.drawn(size, evenly)
        parts = [self._stretch(clip, self.part(clip)) for clip in clips]
        numbers = [self.names[clip.person] for clip in clips]
        shapes, levels = (np.stack(part) for part in zip(*parts, strict=True))
        return torch.from_numpy(shapes), torch.from_numpy(levels), torch.tensor(numbers)

    def readings(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return stretches of clips, (size, FRAMES, 64), their levels and lessons."""
        shapes, levels, lessons = [], [], []
        for clip in self.drawn(size):
            part = self.part(clip)
            shape, level = self._stretch(clip, part)
            shapes.append(shape)
            levels.append(level)
            short = FRAMES - (part.stop - part.start)
            lessons.append(_padded(self._taught(clip, part), short))
        made = (np.stack(part).astype(np.float32) for part in (shapes, levels, lessons))
        shape, level, lesson = (torch.from_numpy(part) for part in made)
        return shape, level, lesson

    def conversions(self, size: int) -> dict[str, Tensor]:
        """Return `size` conversions stacked."""
        return _stacked([self.conversion() for _ in range(size)])

    def batch(self, size: int, plain: bool = False) -> dict[str, Tensor]:
        """Return `size` items stacked."""
        return _stacked([self.item(plain) for _ in range(size)])


def _usual(shape: Array, level: Array, f0: Array) -> Array:
    """Return the mean envelope of a clip's loud voiced frames, of all if there are none, (64,)."""
    loud = shape[(level > -4.0) & (f0 > 0)]
    return np.asarray((loud if len(loud) else shape).mean(axis=0))


def _median_f0(f0: Array) -> float:
    """Return the median of F0 in Hz, 150 where nothing is voiced."""
    return float(np.median(f0[f0 > 0])) if np.any(f0 > 0) else 150.0


def _padded(rows: Array, short: int, value: float = 0.0) -> Array:
    """Return rows with so many more at the end, all of one value."""
    return np.pad(rows, [(0, short)] + [(0, 0)] * (rows.ndim - 1), constant_values=value)


def _as_arrays(item: dict[str, Array | bool]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float32) for name, value in item.items()}


def _stacked(items: list[dict[str, Array]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
