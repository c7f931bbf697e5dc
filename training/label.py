"""Label the English clips of a pack with phones, by a recogniser: `labels.i8` beside the waves.

    python -m training.label --pack ../packed

Clips with a text, their own or what `teacher.py` wrote down, are aligned to it (pocketsphinx with
the acoustic model and dictionary of its wheel; flite says how other words are pronounced). Words
whose phones fit badly stay unknown. Run again after an interruption: it goes on.
"""

import argparse
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pocketsphinx
import soxr
from evaluation.command_line import run
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import SAMPLE_RATE
from training.pack import Pack
from training.phones import PHONES, UNKNOWN, frame_labels, phone_of

RATE = 16_000
WORST_FIT = -26.0
"""Score per frame under which a word's phones are not believed."""
Segment = tuple[str, int, int, float]
"""A phone, its first frame, the one after its last, and its score."""

CORPORA = ("librispeech", "s2i", "t145", "ljspeech", "wakeword")


@cache
def pronounced(word: str) -> str | None:
    """Return the phones of a word or number as flite says it, or None where it says nothing."""
    said = subprocess.run(
        ["flite", "-ps", "-t", word, "-o", "none"], capture_output=True, check=True, text=True
    ).stdout
    found = [phone_of(name) for name in said.split()]
    return " ".join(name for name in found if name in PHONES) or None


class Labeller:
    """Aligner of English."""

    def __init__(self) -> None:
        model = os.path.join(pocketsphinx.get_model_path(), "en-us")
        self._decoder = pocketsphinx.Decoder(
            hmm=os.path.join(model, "en-us"),
            dict=os.path.join(model, "cmudict-en-us.dict"),
            lm=None,
            loglevel="FATAL",
        )
        for phone in PHONES:
            self._decoder.add_word(f"phone-{phone.lower()}", phone)

    def _known(self, word: str) -> bool:
        if self._decoder.lookup_word(word) is None:
            phones = pronounced(word)
            if phones is None:
                return False
            self._decoder.add_word(word, phones)
        return True

    def labels(self, wave: NDArray[np.float32], text: str, frames: int) -> NDArray[np.int8]:
        """Return a class per frame of 24 kHz samples, `UNKNOWN` where unsure, shape (frames,)."""
        samples = soxr.resample(wave, SAMPLE_RATE, RATE)
        samples *= 0.07 / max(float(np.sqrt(np.mean(samples**2))), 1e-4)
        raw = (np.clip(samples, -1, 1) * 32_767).astype(np.int16).tobytes()
        unknown = np.full(frames, UNKNOWN, np.int8)
        words = re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("\u2019", "'")).split()
        words = [word for word in (word.strip("'") for word in words) if word]
        if not words or not all(self._known(word) for word in words):
            return unknown
        segments = []
        for phones in self._aligned(raw, words):
            length = sum(last - first for _, first, last, _ in phones)
            fits = sum(score for *_, score in phones) / max(1, length) > WORST_FIT
            segments += [
                (name if fits else "?", first / 100, last / 100) for name, first, last, _ in phones
            ]
        return frame_labels(segments, frames)

    def _aligned(self, raw: bytes, words: list[str]) -> list[list[Segment]]:
        """Return the phones of each word and pause, nothing where the words do not fit."""
        try:
            self._decoder.set_align_text(" ".join(words))
            self._hear(raw)
            said = [part.word for part in self._decoder.seg() or ()]
        except RuntimeError:
            return []
        try:
            self._decoder.set_alignment()
            self._hear(raw)
            return [
                [(p.name, p.start, p.start + p.duration, p.score) for p in word]
                for word in self._decoder.get_alignment() or ()
            ]
        except RuntimeError:
            # The aligner of phones gives up on a fifth of the clips; then each phone is a word.
            return self._spelt(raw, said)

    def _spelt(self, raw: bytes, said: list[str]) -> list[list[Segment]]:
        spelt = [(self._decoder.lookup_word(word) or "SIL").split() for word in said]
        spoken = [phones for phones in spelt if phones != ["SIL"]]
        try:
            self._decoder.set_align_text(" ".join(f"phone-{p.lower()}" for w in spoken for p in w))
            self._hear(raw)
            heard = list(self._decoder.seg() or ())
        except RuntimeError:
            return []
        found: list[list[Segment]] = []
        left = 0
        for part in heard:
            name = part.word.removeprefix("phone-").upper()
            segment = (name, part.start_frame, part.end_frame + 1, part.ascore)
            if name not in PHONES:
                found.append([("SIL", *segment[1:])])
                continue
            if not left:
                found.append([])
                left = len(spoken.pop(0))
            found[-1].append(segment)
            left -= 1
        return found

    def _hear(self, raw: bytes) -> None:
        # Cepstral means adapt from clip to clip: without this the order would matter.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(raw, full_utt=True)
        finally:
            self._decoder.end_utt()


def main() -> None:
    """Label every English clip of the pack's train split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    arguments = parser.parse_args()
    texts = json.loads((arguments.pack / "texts.json").read_text(encoding="utf-8"))
    pack = Pack(arguments.pack)
    out = arguments.pack / "labels.i8"
    done = out.stat().st_size if out.exists() else 0
    left = [clip for clip in pack.clips if clip.start + clip.frames > done]
    labeller = Labeller()
    with open(out, "ab") as labels:
        labels.truncate(left[0].start if left else done)
        for clip in track(left, "labelling"):
            found = np.full(clip.frames, UNKNOWN, np.int8)
            text = clip.text or texts.get(clip.path)
            if clip.corpus in CORPORA and clip.split == "train" and text:
                found = labeller.labels(pack.wave(clip), text, clip.frames)
            labels.write(found.tobytes())
            labels.flush()


if __name__ == "__main__":
    run(main)
