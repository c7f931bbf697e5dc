"""Reads clips of the speech corpus (one tar per source, one manifest line per clip)."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

Samples = npt.NDArray[np.float32]

DEFAULT_CORPUS = Path(__file__).resolve().parent.parent.parent / "shared" / "corpus"
CORPUS_RATE = 24000


@dataclass(frozen=True)
class Clip:
    """One line of the manifest; `seconds` is the length, `sex` is M, F or unknown (None)."""

    path: str
    tar: str
    corpus: str
    person: str
    language: str
    sex: str | None
    seconds: float
    natural: bool
    split: str
    text: str | None

    @property
    def key(self) -> str:
        """Name that no other clip has."""
        return f"{self.corpus}/{Path(self.path).stem}"


class Corpus:
    """Random access to the clips of a corpus folder.

    Raises FileNotFoundError when `root` has no manifest.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path(os.environ.get("MENURA_CORPUS", DEFAULT_CORPUS))
        manifest = self.root / "manifest.jsonl"
        if not manifest.is_file():
            raise FileNotFoundError(
                f"no speech corpus at {self.root}: name it with --corpus or MENURA_CORPUS"
            )
        lines = manifest.read_text(encoding="utf-8").splitlines()
        self.clips = [_clip(json.loads(line)) for line in lines]
        self._tars: dict[str, tarfile.TarFile] = {}

    def read(self, clip: Clip) -> Samples:
        """Samples of a clip: mono float32 at 24 kHz."""
        tar = self._tars.get(clip.tar)
        if tar is None:
            tar = self._tars[clip.tar] = tarfile.open(  # noqa: SIM115 - stays open for the next clip
                self.root / clip.tar
            )
        member = tar.extractfile(clip.path)
        if member is None:
            raise FileNotFoundError(f"{clip.path} is not a file in {clip.tar}")
        samples, rate = sf.read(io.BytesIO(member.read()), dtype="float32")
        if rate != CORPUS_RATE:
            raise ValueError(f"{clip.path} has {rate} Hz, expected {CORPUS_RATE}")
        return np.asarray(samples, dtype=np.float32)


def _clip(row: dict[str, Any]) -> Clip:
    return Clip(**{name: row.get(name) for name in Clip.__dataclass_fields__})
