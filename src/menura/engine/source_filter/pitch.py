"""Streaming F0 tracking: a network weighs candidates, dynamic programming chooses among them.

Candidates are the peaks of the correlogram, what narrow bands follow, and the network's own best
pitches. How likely each is, and no voice, the network says (`salience.py`). The path through
candidates and "unvoiced" is found by the Viterbi algorithm with a bounded look-ahead (after Talkin
1995 and Boersma 1993).
"""

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter import salience
from menura.engine.source_filter.correlogram import CANDIDATES, REACH, Correlogram
from menura.engine.source_filter.spectrum import Array

__all__ = ["REACH", "PitchTracker", "Range"]

_PROPOSED = 2
"""Pitches that the network adds to the candidates."""
_SAME = 0.05
"""Octaves within which a candidate is the one that the network means, and more exact."""
_STATES = CANDIDATES + _PROPOSED + 1
_NEVER = -40.0
"""Log probability of what is no candidate."""
_SETTLED = 100
"""Voiced instants after which it is known where the voice usually lies."""
_MEMORY = 400
"""Voiced instants over which that is averaged: 2 s of voice."""
_JUMP_COST = 10.0
"""Nepers per octave between neighbouring instants."""
_VOICING_COST = 2.0
"""Nepers for a change between voice and none."""
_LEAN = 1.7
"""Nepers by which voice is preferred to none: the periodic share per band tells how much noise an
instant holds, but a voiced instant that is missed keeps the source's pitch."""


class Range:
    """Where a voice usually lies: running mean of log2 F0, and how far it is known, 0 to 1."""

    def __init__(self) -> None:
        self.mean = 0.0
        """Mean of log2 F0; 0 before anything is heard."""
        self._heard = 0

    @property
    def known(self) -> float:
        """How much has been heard of what is needed, 0 to 1."""
        return min(1.0, self._heard / _SETTLED)

    def hear(self, log: float) -> None:
        """Take in one voiced instant."""
        self._heard = min(self._heard + 1, _MEMORY)
        self.mean += (log - self.mean) / self._heard


class PitchTracker:
    """Tracks one stream in blocks of a fixed number of instants.

    look_ahead: instants of future that are heard at least before an instant is decided, QUICK or
    more; from PATIENT on the network waits longer.
    """

    def __init__(self, instants: int, look_ahead: int) -> None:
        self._instants = instants
        self._correlogram = Correlogram(instants)
        self._salience = salience.Salience(instants, look_ahead >= salience.PATIENT)
        self._look_ahead = look_ahead - self._salience.look_ahead
        if self._look_ahead < 0:
            raise ValueError(f"a look-ahead of {look_ahead} instants is too short")
        self._before = self._salience.look_ahead
        self._logs = np.zeros((self._before, CANDIDATES), np.float32)
        self._valid = np.zeros((self._before, CANDIDATES), np.bool_)
        self._range = Range()
        self._cost = np.zeros(_STATES)
        self._cost[:-1] = 1e3
        self._moves = np.full((_STATES, _STATES), _VOICING_COST)
        self._moves[-1, -1] = 0.0
        self._last = np.zeros(_STATES - 1, dtype=np.float32)
        self._trellis: list[tuple[Array, NDArray[np.intp]]] = []

    def push(self, samples: Array) -> Array:
        """Take the next block of 24 kHz samples and return F0 in Hz at as many instants as it
        spans, 0 where unvoiced, (instants,).

        The first instant given out lies `REACH + look_ahead * STEP` samples before the block's
        start; instants before the stream's start are unvoiced.
        """
        found = self._correlogram.push(samples)
        told = self._salience.push(found.picture, self._range.mean, self._range.known)
        self._logs = np.concatenate([self._logs, found.logs])
        self._valid = np.concatenate([self._valid, found.valid])
        count = self._instants
        logs, scores = _weighed(told, self._logs[:count], self._valid[:count])
        self._logs, self._valid = self._logs[count:], self._valid[count:]
        early = min(self._before, count)
        self._before -= early
        for row in range(early, count):
            self._extend(logs[row], scores[row])
        return self._decide()

    def _extend(self, logs: Array, scores: NDArray[np.float64]) -> None:
        self._moves[:-1, :-1] = _JUMP_COST * np.abs(logs[:, None] - self._last[None, :])
        total = self._moves + self._cost
        back = total.argmin(axis=1)
        cost = total.min(axis=1) - scores
        self._cost = cost - cost.min()
        self._last = logs
        self._trellis.append((logs, back))

    def _decide(self) -> Array:
        """Follow the best path back from the newest instant and give out its oldest instants."""
        ready = len(self._trellis) - self._look_ahead
        f0 = np.zeros(self._instants, dtype=np.float32)
        missing = self._instants - ready
        state = int(self._cost.argmin())
        for place in range(len(self._trellis) - 1, -1, -1):
            logs, back = self._trellis[place]
            if place < ready and state < len(logs):
                f0[missing + place] = 2.0 ** logs[state]
            state = int(back[state])
        del self._trellis[: max(0, ready)]
        for value in f0[f0 > 0]:
            self._range.hear(float(np.log2(value)))
        return f0


def _weighed(
    told: Array, logs: Array, valid: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.float64]]:
    """Return all candidates' log2 F0, (n, states - 1), and the log probabilities of them and, last,
    of no voice, (n, states)."""
    proposed, likely = salience.peaks(told, _PROPOSED)
    same = (np.abs(proposed[:, :, None] - logs[:, None, :]) < _SAME) & valid[:, None, :]
    weights = np.where(valid, salience.at(told, logs), _NEVER)
    likely = np.where(same.any(axis=2), _NEVER, np.maximum(likely, _NEVER))
    none = told[:, -1:] - _LEAN
    scores = np.concatenate([weights, likely, none], axis=1, dtype=np.float64)
    return np.concatenate([logs, proposed], axis=1), scores
