"""Where a speaker's median F0 will turn out to lie, estimated from the first seconds of a stream.

A running median glides while it settles: it takes the melody of the first words out of the result,
and it stays too high for long, since sentences begin above their median. A network of some 260
weights (`settling.npz`, by `training.settling`) hears how F0 has gone so far, and says where the
median will lie and how far to believe that: an estimate that moves as little as it can.
"""

from functools import cache
from importlib.resources import files

import numpy as np

from menura.engine.source_filter.spectrum import Array

TICK = 4
"""Instants between two estimates: 20 ms, the shortest block."""
PRIOR_PITCH = float(np.log2(150.0))
"""Median F0 (log2 Hz) that is assumed before anything is heard: between men and women."""
PRIOR_WEIGHT = 24.0
"""Voiced instants (5 ms) that the prior counts for. Medians of speakers lie 5 semitones apart, a
first syllable 3 from its speaker's, and 60 instants say about the same: 60 * 3**2 / 5**2 = 22."""
PAUSE = 100
"""Instants without a voice after which time stands still: 0.5 s."""

_MEMORIES = np.array([40.0, 150.0, 600.0, 6_000.0])
"""Voiced instants over which means are taken: 0.2, 0.75, 3 and 30 s of voice."""
_USUAL_SPREAD = 0.2
_GAP = 24
"""Instants without a voice that end a phrase: 0.12 s."""
INPUTS = 13


class Evidence:
    """What has been heard of a speaker's F0.

    wait: instants for which features wait to be described, up to 128.
    """

    def __init__(self, wait: int) -> None:
        self._wait = wait / 128.0
        self._heard = np.zeros(len(_MEMORIES))
        self._sums = np.zeros(len(_MEMORIES))
        self._squares = 0.0
        self._age = self._phrase = self._last = 0.0
        self._gap = PAUSE

    @property
    def mean(self) -> float:
        """Mean of log2 F0, starting from PRIOR_PITCH."""
        return PRIOR_PITCH + float(self._sums[-1] / (self._heard[-1] + PRIOR_WEIGHT))

    def push(self, f0: Array) -> bool:
        """Hear one tick, (TICK,), and return whether it tells anything: false in long pauses."""
        logs = np.log2(f0[f0 > 0].astype(np.float64)) - PRIOR_PITCH
        count = len(logs)
        if count == 0:
            self._gap += len(f0)
            self._age += len(f0) * (self._gap < PAUSE)
            return self._gap < PAUSE
        if self._gap >= _GAP:
            self._phrase = 0.0
        self._gap = 0
        self._age += len(f0)
        self._phrase += count
        keep = np.exp(-count / _MEMORIES)
        self._heard = self._heard * keep + count
        self._sums = self._sums * keep + logs.sum()
        self._squares = self._squares * keep[-1] + float(logs @ logs)
        self._last = float(logs[-1])
        return True

    def inputs(self) -> Array:
        """Return what the network is told, (INPUTS,)."""
        heard, base = self._heard[-1], self.mean - PRIOR_PITCH
        mean = self._sums[-1] / max(heard, 1e-9)
        squares = PRIOR_WEIGHT * _USUAL_SPREAD**2 + self._squares - heard * mean**2
        spread = np.sqrt(max(squares, 0.0) / (heard + PRIOR_WEIGHT))
        recent = self._sums[:-1] / (self._heard[:-1] + 3.0)
        return np.array(
            [
                self._wait,
                *(heard / (heard + np.array([20.0, 100.0, 400.0]))),
                self._phrase / (self._phrase + 50.0),
                self._age / (self._age + 200.0),
                self._gap / _GAP,
                2.0 * base,
                8.0 * (spread - _USUAL_SPREAD),
                3.0 * (self._last - base),
                *(4.0 * (recent - base)),
            ],
            dtype=np.float32,
        )


@cache
def _weights() -> dict[str, Array]:
    with (files(__package__) / "settling.npz").open("rb") as held, np.load(held) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


class Settling:
    """The expected median of one stream.

    wait: instants for which features wait to be described.
    """

    def __init__(self, wait: int) -> None:
        self._evidence = Evidence(wait)
        self._began = False
        self.median = PRIOR_PITCH
        """Expected median of log2 F0."""

    def push(self, f0: Array) -> None:
        """Hear a block of F0 in Hz, 0 where unvoiced, (n,); n is a multiple of TICK."""
        weights = _weights()
        for start in range(0, len(f0), TICK):
            if not self._evidence.push(f0[start : start + TICK]):
                continue
            hidden = np.tanh(self._evidence.inputs() @ weights["in"] + weights["bias"])
            away, belief = (hidden @ weights["out"] + weights["out_bias"]).tolist()
            share = 1.0 / (1.0 + np.exp(-belief)) if self._began else 1.0
            self._began = True
            self.median += share * (self._evidence.mean + away - self.median)
