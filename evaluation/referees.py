"""What each referee says of one clip, kept on disk by the hash of the clip's samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.corpus import Samples
from evaluation.ctc_phones import ctc_phones_of
from evaluation.naturalness import distillmos, dnsmos
from evaluation.phones import phones_of
from evaluation.prosody import pitch_track
from evaluation.resemblance import own_vector, resemblyzer_vector
from evaluation.speaker_model import WEIGHTS
from evaluation.words import words_of


def _lists(referee: Callable[[Samples], Any]) -> Callable[[Samples], Any]:
    def plain(samples: Samples) -> Any:
        said = referee(samples)
        return said.tolist() if isinstance(said, np.ndarray) else said

    return plain


# The version changes when a referee's figures would.
REFEREES: dict[str, tuple[Callable[[Samples], Any], str]] = {
    "resemblyzer": (_lists(resemblyzer_vector), "1"),
    "own": (_lists(own_vector), hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:8]),
    "phones": (phones_of, "2"),
    "ctc_phones": (ctc_phones_of, "1"),
    "words": (words_of, "1"),
    "pitch": (_lists(pitch_track), "1"),
    "distillmos": (distillmos, "1"),
    "dnsmos": (dnsmos, "1"),
}


class Bench:
    """Asks referees, each once per clip.

    cache: folder that keeps their answers; deleting it only costs time.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def ask(self, referee: str, samples: Samples) -> Any:
        """What a referee of REFEREES says of a 24 kHz clip, as JSON holds it."""
        judge, version = REFEREES[referee]
        data = np.ascontiguousarray(np.round(samples * 32768.0).astype(np.int32))
        digest = hashlib.sha256(data.tobytes()).hexdigest()[:24]
        path = self.cache / f"{referee}-{version}" / digest[:2] / f"{digest}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        said = judge(samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: the run may be interrupted.
        part = path.with_suffix(".part")
        part.write_text(json.dumps(said), encoding="utf-8")
        part.replace(path)
        return said
