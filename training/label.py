"""Label the English clips of a pack with phones, by a recogniser: `labels.i8` beside the waves.

    python -m training.label --pack ../packed

Clips with a text are aligned to it; what was said in the others is recognised first (pocketsphinx
with the acoustic model, dictionary and language model of its wheel). Words whose phones fit badly
stay unknown. Run again after an interruption: it goes on.
"""

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
import pocketsphinx
import soxr
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import HOP, SAMPLE_RATE
from training.phones import UNKNOWN, frame_labels

RATE = 16_000
WORST_FIT = -26.0
"""Score per frame under which a word's phones are not believed."""
CORPORA = ("librispeech", "s2i", "t145", "ljspeech", "wakeword")


class Labeller:
    """Recogniser and aligner of English."""

    def __init__(self) -> None:
        model = os.path.join(pocketsphinx.get_model_path(), "en-us")
        self._dictionary = os.path.join(model, "cmudict-en-us.dict")
        self._decoder = pocketsphinx.Decoder(
            hmm=os.path.join(model, "en-us"),
            lm=os.path.join(model, "en-us.lm.bin"),
            dict=self._dictionary,
            loglevel="FATAL",
        )
        with open(self._dictionary, encoding="utf-8") as held:
            self._words = {line.split()[0] for line in held}

    def labels(self, wave: NDArray[np.float32], text: str | None, frames: int) -> NDArray[np.int8]:
        """Return a class per frame of 24 kHz samples, `UNKNOWN` where unsure, shape (frames,)."""
        samples = soxr.resample(wave, SAMPLE_RATE, RATE)
        samples *= 0.07 / max(float(np.sqrt(np.mean(samples**2))), 1e-4)
        raw = (np.clip(samples, -1, 1) * 32_767).astype(np.int16).tobytes()
        unknown = np.full(frames, UNKNOWN, np.int8)
        words = re.sub(r"[^a-z' ]", " ", text.lower()).split() if text else self._heard(raw)
        if not words or any(word not in self._words for word in words):
            return unknown
        try:
            self._decoder.set_align_text(" ".join(words))
            self._hear(raw)
            self._decoder.set_alignment()
            self._hear(raw)
            aligned = self._decoder.get_alignment()
        except RuntimeError:
            return unknown
        finally:
            self._decoder.activate_search("_default")
        segments = []
        for word in aligned or ():
            phones = list(word)
            length = sum(phone.duration for phone in phones)
            fits = sum(phone.score for phone in phones) / max(1, length) > WORST_FIT
            segments += [
                (
                    phone.name if fits else "?",
                    phone.start / 100,
                    (phone.start + phone.duration) / 100,
                )
                for phone in phones
            ]
        return frame_labels(segments, frames)

    def _hear(self, raw: bytes) -> None:
        # Cepstral means adapt from clip to clip: without this the order would matter.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(raw, full_utt=True)
        finally:
            self._decoder.end_utt()

    def _heard(self, raw: bytes) -> list[str]:
        self._hear(raw)
        told = self._decoder.hyp()
        return told.hypstr.split() if told else []


def main() -> None:
    """Label every English clip of the pack's train split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    arguments = parser.parse_args()
    lines = (arguments.pack / "index.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    waves = np.memmap(arguments.pack / "waves.i16", np.int16, "r")
    starts = np.cumsum([0] + [row["frames"] for row in rows])
    out = arguments.pack / "labels.i8"
    done = out.stat().st_size if out.exists() else 0
    first = int(np.searchsorted(starts, done, "right")) - 1
    labeller = Labeller()
    with open(out, "ab") as labels:
        labels.truncate(int(starts[first]))
        for number in track(range(first, len(rows)), "labelling"):
            row, frames = rows[number], rows[number]["frames"]
            found = np.full(frames, UNKNOWN, np.int8)
            if row["corpus"] in CORPORA and row["split"] == "train":
                start = int(starts[number]) * HOP
                wave = waves[start : start + frames * HOP].astype(np.float32) / 32_768
                found = labeller.labels(wave, row["text"], frames)
            labels.write(found.tobytes())
            labels.flush()


if __name__ == "__main__":
    main()
