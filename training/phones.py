"""The phone classes that the content network is taught: the two halves of 39 English phones, and
silence.

Halves say where in a phone a frame lies: a plosive's closure and burst, a diphthong's two ends.
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.interface import HOP, SAMPLE_RATE

_NAMES = """
AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH
"""
PHONES = tuple(_NAMES.split())
CLASSES = 1 + 2 * len(PHONES)
"""Silence is class 0; phone p (from 0) has the classes 1 + 2 p and 2 + 2 p."""
UNKNOWN = -1
"""Label of a frame of which nothing is known."""

_OTHER_NAMES = {
    "AX": "AH",
    "AXR": "ER",
    "IX": "IH",
    "DX": "T",
    "NX": "N",
    "EL": "L",
    "EM": "M",
    "EN": "N",
    "HV": "HH",
}
_SILENCES = ("PAU", "SIL", "H#", "BRTH", "SSIL")


def phone_of(told: str) -> str:
    """Return a phone's name here, given its name in another phone set of English."""
    upper = told.upper().strip("0123456789")
    return _OTHER_NAMES.get(upper, upper)


def frame_labels(segments: list[tuple[str, float, float]], frames: int) -> NDArray[np.int8]:
    """Return the class at the centre of each 10 ms frame, shape (frames,).

    segments: (phone, start, end) in seconds; names of other phone sets of English are understood,
    and what is not (noise, say) is `UNKNOWN`.
    """
    labels = np.full(frames, UNKNOWN, np.int8)
    hop = HOP / SAMPLE_RATE
    for told, start, end in segments:
        name = phone_of(told)
        first, middle, last = (
            int(np.clip(round(at / hop - 0.5 + 1e-6), 0, frames))
            for at in (start, 0.5 * (start + end), end)
        )
        if name in _SILENCES:
            labels[first:last] = 0
        elif name in PHONES:
            number = PHONES.index(name)
            labels[first:middle] = 1 + 2 * number
            labels[middle:last] = 2 + 2 * number
    return labels
