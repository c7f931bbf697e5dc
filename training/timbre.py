"""Train the timbre network: the envelope that a voice would give to what was said.

    python -m training.timbre --pack ../packed --content ../runs/content/content.safetensors \\
        --out ../runs/timbre

Everything happens on packed envelopes, so a step costs no waveform. A stretch of a clip is the
target. What the network hears of it is perturbed (tract length, equaliser, noise), or, where other
people said the same, is theirs, aligned in time. The voice is known from other speech of the
target's speaker: rows of code and envelope, among which the network looks up how the voice sounds
in what is being said (attention, Vaswani et al. 2017; the idea of retrieval is kNN-VC's, Baas et
al. 2023). Whole voices are also moved along the tract-length axis, which makes virtual speakers.
Resumes from the run's last checkpoint.
"""

import argparse
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.interface import HOP
from menura.engine.neural import bands
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.controls import CONTROLS, controls_of, hold, steady
from menura.engine.neural.measurement import means_of, speech_level
from menura.engine.neural.mel import MEL_TOP, MELS
from menura.engine.neural.networks import CODE, PATIENT, QUICK
from menura.engine.neural.voice import ROWS
from training.blocks import Block, rms_norm
from training.content import Content, held_out, load_content
from training.data import Clip, Pack, equaliser, perturbed
from training.envelopes import ROW
from training.lessons import LESSON, lessons_of
from training.loop import OneNetwork, Pace, averaged, fresh_seed, keep, train

# Hyper-parameters.
STEPS = 4_500
BATCH = 16
FRAMES = 180
LEAD = 40
"""Frames before the loss begins."""
WIDTH, HIDDEN, BLOCKS, KERNEL = 224, 512, 5, 7
PATIENT_BLOCKS, AHEAD = 8, 2
"""Of the network for where much is waited for: its blocks, each of which sees AHEAD more frames."""
HEADS, KEY = 4, 32
VOICE = 64
VIEWS = 2
"""Perturbed codes made of every clip beforehand, beside the plain one."""
PAIR_SHARE = 0.25
LEARNING_RATE = 1.0e-3
FINAL_RATE = 2.0e-5
WARM_UP = 60
WEIGHT_DECAY = 0.02
CLIP_NORM = 2.0
AVERAGE = 0.997
UNCARRIED = 0.8
"""Share of the items that see nothing of the source's envelope but the code."""
TRACT = 0.17
"""Largest change of the source's tract in nepers; TRACT_ERROR of it is not undone before."""
TRACT_ERROR = 0.06
VIRTUAL = 0.12
"""Largest change of a whole voice's tract in nepers, in half of the items."""
EQUALISER = 0.7
CARRIED_NOISE = 0.25
SILENT = -22.0
"""Log power where there is nothing."""
VALIDATE_EVERY = 250
SEED = 7
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


class Timbre(nn.Module):
    """Code, carried envelope and controls, in the light of a voice, to the voice's envelope.

    patient: sees `ahead` frames beyond the one that it tells of, else none.
    """

    def __init__(self, patient: bool = False) -> None:
        super().__init__()
        blocks, ahead = (PATIENT_BLOCKS, AHEAD) if patient else (BLOCKS, 0)
        self.ahead = blocks * ahead
        self.query = nn.Linear(CODE + 1, HEADS * KEY)
        self.key = nn.Linear(CODE + 1, HEADS * KEY)
        self.sharpness = nn.Parameter(torch.full((HEADS,), 2.3))
        self.voice = nn.Sequential(nn.Linear(2 * bands.COUNT + 1, VOICE), nn.Tanh())
        self.enter = nn.Linear(CODE + (HEADS + 1) * bands.COUNT + CONTROLS + 1, WIDTH)
        self.blocks = nn.ModuleList(
            Block(WIDTH, HIDDEN, KERNEL + ahead, VOICE, ahead=ahead) for _ in range(blocks)
        )
        self.leave = nn.Linear(WIDTH, bands.COUNT)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.zeros_(self.leave.bias)

    def keys(self, rows: Tensor) -> Tensor:
        """Return keys of reference rows, (batch, rows, heads, key); rows: (batch, rows, 65)."""
        return nn.functional.normalize(self.key(rows).unflatten(-1, (HEADS, KEY)), dim=-1)

    def modulation(self, means: Tensor) -> Tensor:
        """Return all blocks' scales and shifts, (batch, blocks, 2 width); means: (batch, 129)."""
        voice = self.voice(means)
        return torch.stack([block.modulation(voice) for block in self.blocks], dim=1)

    def forward(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        keys: Tensor,
        values: Tensor,
        modulation: Tensor,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return envelopes over the level, (batch, time, 64), and the next states.

        code: (batch, time, 64). carried: the source's envelope, moved to the voice's tract and
        mean, and whether there is one, (batch, time, 65). controls: (batch, time, 13); the last is
        the voicing. keys: of `keys`. values: the rows' envelopes over their level, (batch, rows,
        64).
        """
        found = self.found(code, controls, keys, values)
        return self.formed(code, carried, controls, found, modulation, states)

    def found(self, code: Tensor, controls: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what each head looks up in the voice, (batch, time, heads, 64)."""
        asked = torch.cat((code, controls[..., -1:]), dim=-1)
        query = nn.functional.normalize(self.query(asked).unflatten(-1, (HEADS, KEY)), dim=-1)
        fit = torch.einsum("bthk,brhk->bhtr", query, keys)
        weights = torch.softmax(fit * torch.exp(self.sharpness)[:, None, None], dim=-1)
        return torch.einsum("bhtr,brc->bthc", weights, values)

    def formed(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        found: Tensor,
        modulation: Tensor,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward` does, given what was looked up."""
        x = torch.cat((code, found.flatten(2) * 0.5, carried * 0.5, controls), dim=-1)
        x = self.enter(x)
        if states is None and self.ahead:
            x = torch.cat((x, x[:, -1:].expand(-1, self.ahead, -1)), dim=1)
        following = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if states is None else states[index], modulation[:, index])
            following.append(state)
        if states is None:
            x = x[:, self.ahead :]
        return found.mean(dim=2) + self.leave(rms_norm(x)), following


def begun_with(model: Timbre, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights for a network that computes what a quick one of the given weights does."""
    begun = {}
    for name, value in model.state_dict().items():
        if name not in weights:
            # A block whose answer is nothing.
            begun[name] = torch.zeros_like(value) if ".reduce." in name else value
        else:
            begun[name] = torch.zeros_like(value)
            begun[name][tuple(slice(size) for size in weights[name].shape)] = weights[name]
    return begun


def codes_of(pack: Pack, content: Path, out: Path) -> None:
    """Write the codes of every clip, plain and perturbed in VIEWS ways, to `out` (float16); of the
    perturbed ones every other is read quickly."""
    model, prior = load_content(content)
    total = sum(clip.frames for clip in pack.clips)
    made = np.lib.format.open_memmap(out, "w+", np.float16, (1 + VIEWS, total, CODE))
    rng = np.random.default_rng(SEED)
    for clip in track(pack.clips, "codes"):
        wave, f0 = pack.wave(clip), pack.f0(clip)
        views = [spectra_of.log_mel(spectra_of.power(wave, clip.frames))]
        for view in range(VIEWS):
            low, high = -0.2 + 0.4 * view / VIEWS, -0.2 + 0.4 * (view + 1) / VIEWS
            warp = float(np.round(np.exp(rng.uniform(low, high)) * 40) / 40)
            views.append(perturbed(wave, f0, clip.frames, rng, warp))
        inputs = np.stack([settled(mel, prior) for mel in views])
        patient = np.arange(1 + VIEWS) % 2 == 0
        made[:, clip.start : clip.start + clip.frames] = coded(model, inputs, patient)
    made.flush()


def settled(mel: Array, prior: Array) -> Array:
    """Return what the content network is told of a clip, (frames, MELS + 1): log-mel less its mean
    as it is after a while, for which the clip is heard twice, and the level."""
    running = spectra_of.RunningMean(prior)
    running.push(mel)
    shape, relative = running.push(mel)
    return np.concatenate((shape, relative[:, None]), axis=1)


@torch.no_grad()
def coded(model: Content, heard: Array, patient: NDArray[np.bool_]) -> Array:
    """Return the codes of whole clips, (n, frames, MELS + 1) to (n, frames, CODE).

    patient: which are read PATIENT frames later rather than QUICK, (n,).
    """
    padded = torch.from_numpy(np.pad(heard, ((0, 0), (0, PATIENT), (0, 0)), mode="edge"))
    waits = torch.from_numpy(patient)
    with torch.autocast("cpu", torch.bfloat16):
        code, _ = model(*padded.split((MELS, 1), dim=-1), waits.float())
    return np.asarray(in_place(code.float(), waits).numpy())


def in_place(code: Tensor, patient: Tensor) -> Tensor:
    """Return codes moved to the frames they belong to, (batch, time, CODE) to (batch, time -
    PATIENT, CODE)."""
    count = code.shape[1] - PATIENT
    late, early = code[:, PATIENT:], code[:, QUICK : QUICK + count]
    return torch.where(patient[:, None, None] > 0, late, early)


def aligned(theirs: Array, ours: Array) -> NDArray[np.int64]:
    """Return for each row of `ours` the row of `theirs` that says the same (dynamic time
    warping of codes)."""
    own = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    other = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    cost = 1.0 - own @ other.T
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        best = np.minimum(
            total[row - 1, column - 1],
            np.minimum(total[row - 1, column], total[row, column - 1]) + 0.05,
        )
        total[row, column] = best + cost[row - 1, column - 1]
    path = np.zeros(rows, np.int64)
    row, column = rows, columns
    while row > 0 and column > 0:
        path[row - 1] = column - 1
        before = (total[row - 1, column - 1], total[row - 1, column], total[row, column - 1])
        step = int(np.argmin(before))
        row, column = row - (step != 2), column - (step != 1)
    return path


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
        held = held_out([clip for clip in self.pack.clips if clip.split == "train"])
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
            self._known[clip.path] = made  # type: ignore[assignment]
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
        """Return one training item."""
        rng = self.rng
        partner = None
        if not plain and self.spoken and rng.random() < PAIR_SHARE:
            said = self.of_text[self.spoken[rng.integers(len(self.spoken))]]
            pair = rng.choice(len(said), 2, replace=False)
            clip, partner = said[pair[0]], said[pair[1]]
        else:
            clip = self.clips[rng.choice(len(self.clips), p=self.chance)]
        shape, level, shares, f0, _ = self.known(clip)
        span = FRAMES + LEAD
        first = int(rng.integers(0, max(1, clip.frames - span + 20)))
        frames = min(span, clip.frames - first)
        rows, values, means, median = self.reference(clip, first)
        part = slice(first, first + frames)
        target, heard = shape[part], level[part]
        view = 0 if plain else int(rng.integers(0, VIEWS + 1))
        if partner is None:
            code, source, source_level = self.codes(clip, view)[part], target, heard
            voiced = f0[part] > 0
            usual = shape[(level > -4.0) & (f0 > 0)]
            ratio = 1.0
        else:
            path = np.repeat(2 * aligned(self.codes(partner, 0)[::2], self.codes(clip, 0)[::2]), 2)[
                : clip.frames
            ]
            path = np.minimum(path, partner.frames - 1)[part]
            their_shape, their_level, _, their_f0, _ = self.known(partner)
            code, source = self.codes(partner, view)[path], their_shape[path]
            source_level, voiced = their_level[path], their_f0[path] > 0
            usual = their_shape[(their_level > -4.0) & (their_f0 > 0)]
            theirs = np.median(their_f0[their_f0 > 0]) if np.any(their_f0 > 0) else 150.0
            ratio = float(np.exp(np.clip(0.15 * (median - np.log(theirs)), -0.17, 0.17)))
        virtual = 0.0
        if not plain and rng.random() < 0.5:
            virtual = float(rng.uniform(-VIRTUAL, VIRTUAL))
            moved = np.full(max(frames, ROWS, 2), np.exp(virtual), np.float32)
            target = bands.warped(target, moved[:frames])
            values = bands.warped(values, moved[:ROWS])
            means = bands.warped(means.reshape(2, -1), moved[:2]).ravel()
            median += 1.5 * virtual
        mean = usual.mean(axis=0) if len(usual) else shape.mean(axis=0)
        if not plain:
            off = 0.0 if partner is not None else float(rng.uniform(-TRACT, TRACT))
            error = float(rng.uniform(-TRACT_ERROR, TRACT_ERROR))
            # The source is warped by `off`; the estimate undoes all of it but the error.
            factor = ratio * np.exp(error + virtual) if partner is None else ratio * np.exp(error)
            net = np.full(frames, factor, np.float32)
            if partner is None and abs(off) > 0.05:
                source = bands.warped(source, np.full(frames, np.exp(off), np.float32))
                net = (net / np.exp(off)).astype(np.float32)
                mean = bands.warped(mean[None], np.array([np.exp(off)], np.float32))[0]
            curve = equaliser(rng, EQUALISER)
            # Of the equaliser the mean removal undoes all but what it has not heard yet.
            source = source + curve
            mean = mean + curve + rng.normal(0, 0.15, bands.COUNT) + rng.normal(0, 0.2)
            own = bands.level(source.astype(np.float32))
            source, source_level = source - own[:, None], source_level + own
            source = bands.warped(source.astype(np.float32), net)
            mean = bands.warped(mean[None].astype(np.float32), net[:1])[0]
            source = source + CARRIED_NOISE * rng.random() * rng.standard_normal(source.shape)
            source_level = source_level + float(rng.normal(0, 0.4))
        there = 0.0 if not plain and rng.random() < UNCARRIED else 1.0
        carried = np.clip(source - mean + means[: bands.COUNT], -9.0, 5.0) * there
        carried = np.concatenate((carried, np.full((frames, 1), there)), axis=1)
        held = hold(f0[part], float(np.exp(median)))
        controls = controls_of(held, median, steady(source_level), None, shares[part], voiced)
        top = min(MEL_TOP, 0.95 * clip.bandwidth * np.exp(min(0.0, virtual)))
        weight = np.clip((heard[:, None] + 6.0) / 4.0, 0.03, 1.0) * (top > bands.CENTRES)
        weight[:LEAD] = 0.0
        short = span - frames
        told = self._heard(clip, first, plain)
        out = {
            "code": np.pad(code, ((0, short), (0, 0))),
            "taught": np.pad(self._taught(clip, part), ((0, short), (0, 0))),
            "heard": told["heard"],
            "patient": np.array(told["patient"]),
            # A partner's code lies in the partner's time.
            "live": np.array(bool(told["live"]) and partner is None),
            "carried": np.pad(carried, ((0, short), (0, 0))),
            "controls": np.pad(controls, ((0, short), (0, 0)), constant_values=-3.6),
            "target": np.pad(target, ((0, short), (0, 0))),
            "weight": np.pad(weight, ((0, short), (0, 0))),
            "rows": rows,
            "values": values,
            "means": np.append(means, median - 5.0),
        }
        return {name: np.asarray(value, np.float32) for name, value in out.items()}

    def conversion(self) -> dict[str, Array]:
        """Return an item of one person turned into another, as at run time.

        It has no target, but the source's envelope at the voice's tract length and mean, `kept`;
        who the two are, as `names` numbers them; and, for the frames after LEAD, what Whisper needs
        to hear it: samples, envelope (as it is, over nothing), level over the speech's and its own,
        F0 as converted, 0 where unvoiced, and periodic shares.
        """
        rng = self.rng
        clip = self.clips[rng.choice(len(self.clips), p=self.chance)]
        other = clip
        while other.person == clip.person:
            other = self.clips[rng.choice(len(self.clips), p=self.chance)]
        shape, level, shares, f0, speech = self.known(clip)
        span = FRAMES + LEAD
        first = int(rng.integers(0, max(1, clip.frames - span + 20)))
        part = slice(first, first + min(span, clip.frames - first))
        rows, values, means, median = self.reference(other, -10 * span)
        usual = shape[(level > -4.0) & (f0 > 0)]
        mean = usual.mean(axis=0) if len(usual) else shape.mean(axis=0)
        theirs = float(np.median(f0[f0 > 0])) if np.any(f0 > 0) else 150.0
        slope = 0.15 * (median - np.log(theirs)) + rng.normal(0, 0.03)
        ratio = np.full(part.stop - first, np.exp(np.clip(slope, -0.2, 0.2)), np.float32)
        carried = bands.warped(shape[part] - mean, ratio) + means[: bands.COUNT]
        kept = np.clip(carried, -9.0, 5.0)
        carried = np.append(kept, np.ones((len(ratio), 1)), axis=1)
        held = hold(f0[part], theirs) * float(np.exp(median)) / theirs
        levels = steady(level[part])
        controls = controls_of(held, median, levels, None, shares[part], f0[part] > 0)
        short = span - len(ratio)
        code = np.pad(self.codes(clip, 0)[part], ((0, short), (0, 0)))
        out = {
            "code": code,
            "taught": np.pad(self._taught(clip, part), ((0, short), (0, 0))),
            **self._heard(clip, first, False),
            "carried": np.pad(carried, ((0, short), (0, 0))),
            "kept": np.pad(kept, ((0, short), (0, 0))),
            "controls": np.pad(controls, ((0, short), (0, 0))),
            "rows": rows,
            "values": values,
            "means": np.append(means, median - 5.0),
        }
        out["controls"][len(ratio) :, 2] = -3.6
        after = slice(min(first + LEAD, clip.frames), part.stop)
        short = FRAMES - (after.stop - after.start)
        loud = (level[after] + speech)[:, None]
        wave = self.pack.wave(clip)[after.start * HOP : after.stop * HOP]
        pitch = held * (f0[part] > 0)
        out |= {
            "people": np.array([self.names[clip.person], self.names[other.person]]),
            "wave": np.pad(wave, (0, short * HOP)),
            "absolute": np.pad(shape[after] + loud, ((0, short), (0, 0)), constant_values=SILENT),
            "loud": np.pad(loud[:, 0], (0, short), constant_values=SILENT),
            "relative": np.pad(level[after], (0, short), constant_values=SILENT),
            "pitch": np.pad(pitch[LEAD : LEAD + FRAMES], (0, short)),
            "shares": np.pad(shares[after], ((0, short), (0, 0))),
        }
        out["source"], out["source_level"] = self._speech(clip.person)
        out["theirs"], out["their_level"] = self._speech(other.person)
        return {name: np.asarray(value, np.float32) for name, value in out.items()}

    def part(self, clip: Clip) -> slice:
        """Draw FRAMES of a clip, or all that there are."""
        first = int(self.rng.integers(0, max(1, clip.frames - FRAMES + 1)))
        return slice(first, first + min(FRAMES, clip.frames - first))

    def _stretch(self, clip: Clip, part: slice) -> tuple[Array, Array]:
        """Return a part of a clip's envelopes, (FRAMES, 64), and levels; silence after its end."""
        shape, level, _, _, _ = self.known(clip)
        short = FRAMES - (part.stop - part.start)
        told = np.pad(steady(level[part]), (0, short), constant_values=-3.6)
        return np.pad(shape[part], ((0, short), (0, 0))), told

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
            lessons.append(np.pad(self._taught(clip, part), ((0, short), (0, 0))))
        made = (np.stack(part).astype(np.float32) for part in (shapes, levels, lessons))
        shape, level, lesson = (torch.from_numpy(part) for part in made)
        return shape, level, lesson

    def conversions(self, size: int) -> dict[str, Tensor]:
        """Return `size` conversions stacked."""
        return _stacked([self.conversion() for _ in range(size)])

    def batch(self, size: int, plain: bool = False) -> dict[str, Tensor]:
        """Return `size` items stacked."""
        return _stacked([self.item(plain) for _ in range(size)])


def _stacked(items: list[dict[str, Array]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def distance(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean weighted difference in nepers, of values and of their changes in time."""
    apart = ((result - target).abs() * weight).sum() / weight.sum()
    moved = (result.diff(dim=1) - target.diff(dim=1)).abs() * weight[:, 1:]
    return apart + 0.5 * moved.sum() / weight[:, 1:].sum()


class Trainer(OneNetwork):
    """Everything one run holds."""

    def __init__(self, folder: Path, codes: Path, run: Path, seed: int) -> None:
        torch.manual_seed(SEED)
        self.items = Items(folder, codes, "train", seed)
        held = Items(folder, codes, "valid", 99)
        self.valid = [held.batch(16, plain=True) for _ in range(4)] if held.clips else []
        self.model = Timbre()
        pace = Pace(LEARNING_RATE, FINAL_RATE, WARM_UP, WEIGHT_DECAY, AVERAGE, CLIP_NORM)
        super().__init__("timbre", self.model, run, pace)
        self.heard = 0.0

    def outcome(self, batch: dict[str, Tensor], swap: bool = False) -> Tensor:
        """Return envelopes for a batch. swap: with a neighbour's voice."""
        names = ("rows", "values", "means")
        rows, values, means = (batch[name].roll(1, 0) if swap else batch[name] for name in names)
        with torch.autocast("cpu", torch.bfloat16):
            out, _ = self.model(
                batch["code"],
                batch["carried"],
                batch["controls"],
                self.model.keys(rows),
                values,
                self.model.modulation(means),
            )
        return out.float()

    def advance(self, steps: int) -> dict[str, float]:
        """Take one step and return its figures."""
        batch = self.items.batch(BATCH)
        loss = distance(self.outcome(batch), batch["target"], batch["weight"])
        norm = self.descend(loss, steps)
        self.heard += BATCH * FRAMES / 100
        return {"loss": loss.item(), "norm": norm}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return losses of the averaged weights on unseen speakers: with the right voice, with a
        wrong one, and with nothing carried."""
        figures: dict[str, list[float]] = {"right": [], "wrong": [], "uncarried": []}
        with averaged(self.model, self.average):
            for batch in self.valid:
                bare = dict(batch, carried=torch.zeros_like(batch["carried"]))
                for name, heard, swap in (
                    ("right", batch, False),
                    ("wrong", batch, True),
                    ("uncarried", bare, False),
                ):
                    result = self.outcome(heard, swap)
                    figures[name].append(float(distance(result, batch["target"], batch["weight"])))
        return {f"valid_{name}": float(np.mean(values)) for name, values in figures.items()}

    def save(self) -> None:
        """Write averaged weights, weights and optimiser in place of the last checkpoint."""
        header = {"step": str(self.step), "heard": f"{self.heard:.0f}"}
        full = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "progress": (self.step, self.heard),
        }
        keep(self.run, {"timbre": self.average}, header, full)

    def resume(self, start: Path | None = None) -> None:
        """Continue from the run's checkpoint, or begin with weights of another (safetensors)."""
        last = self.run / "last.pt"
        if last.exists():
            full = torch.load(last, weights_only=True)
            self.model.load_state_dict(full["model"])
            self.average = full["average"]
            self.optimiser.load_state_dict(full["optimiser"])
            self.step, self.heard = full["progress"]
        elif start is not None:
            self.model.load_state_dict(load_file(start))
            self.average = {name: value.clone() for name, value in self.model.state_dict().items()}


def main() -> None:
    """Train until the steps are done; progress on the terminal and in `log.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--content", type=Path, default=Path("../runs/content/content.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("../runs/timbre"))
    parser.add_argument("--weights", type=Path, default=None, help="weights to begin with")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    codes = arguments.out / "codes.npy"
    if not codes.exists():
        codes_of(Pack(arguments.pack), arguments.content, arguments.out / "codes.tmp.npy")
        os.replace(arguments.out / "codes.tmp.npy", codes)
    trainer = Trainer(arguments.pack, codes, arguments.out, fresh_seed())
    trainer.resume(arguments.weights)
    train(trainer, arguments.steps, arguments.out, VALIDATE_EVERY)


if __name__ == "__main__":
    main()
