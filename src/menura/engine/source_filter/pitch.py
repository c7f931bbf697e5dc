"""Streaming F0 tracking: weighed candidates and dynamic programming.

A network of a few hundred weights says how likely each candidate of the correlogram is, and how
likely it is that there is no voice. The path through candidates and "unvoiced" is found by the
Viterbi algorithm with a bounded look-ahead (after Talkin 1995 and Boersma 1993).
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from menura.engine.source_filter.correlogram import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    INSTANT_FEATURES,
    REACH,
    Candidates,
    Correlogram,
)
from menura.engine.source_filter.spectrum import Array

__all__ = ["CANDIDATE_INPUTS", "REACH", "Pitch", "PitchTracker", "Range", "describe"]

CANDIDATE_INPUTS = CANDIDATE_FEATURES + INSTANT_FEATURES + 3
"""What the network is told about each candidate."""

_SETTLED = 100
"""Voiced instants after which it is known where the voice usually lies."""
_MEMORY = 400
"""Voiced instants over which that is averaged: 2 s of voice."""
_JUMP_COST = 10.0
"""Nepers per octave between neighbouring instants."""
_VOICING_COST = 4.0
"""Nepers for a change between voice and none."""
_LEAN = 2.0
"""Nepers by which voice is preferred to none: the periodic share per band tells how much noise an
instant holds, but a voiced instant that is missed keeps the source's pitch."""


@lru_cache(maxsize=1)
def _weights() -> dict[str, Array]:
    with (files(__package__) / "pitch.npz").open("rb") as held, np.load(held) as arrays:
        return {name: arrays[name] for name in arrays.files}


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


def describe(candidates: Candidates, mean: Array, known: Array) -> Array:
    """Return the network's inputs, (n, CANDIDATES, CANDIDATE_INPUTS).

    mean, known: the voice's `Range` at each instant, (n,).
    """
    away = known[:, None] * (candidates.logs - mean[:, None])
    shape = away.shape
    return np.concatenate(
        [
            candidates.features,
            np.broadcast_to(candidates.instants[:, None], (*shape, INSTANT_FEATURES)),
            away[:, :, None],
            np.abs(away)[:, :, None],
            np.broadcast_to(known[:, None, None], (*shape, 1)),
        ],
        axis=2,
        dtype=np.float32,
    )


def _scores(candidates: Candidates, mean: float, known: float) -> NDArray[np.float64]:
    """Return log probabilities of the candidates and, last, of no voice: (n, CANDIDATES + 1)."""
    w = _weights()
    n = len(candidates.logs)
    inputs = describe(candidates, np.full(n, mean, np.float32), np.full(n, known, np.float32))
    hidden = np.maximum(inputs @ w["candidate_in"] + w["candidate_bias"], 0.0)
    voiced = hidden @ w["candidate_out"]
    hidden = np.maximum(candidates.instants @ w["instant_in"] + w["instant_bias"], 0.0)
    unvoiced = hidden @ w["instant_out"] + w["unvoiced"]
    logits = np.concatenate([np.where(candidates.valid, voiced, -30.0), unvoiced[:, None]], axis=1)
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True)
class Pitch:
    """F0 of consecutive instants in Hz; 0 where unvoiced."""

    f0: Array


class PitchTracker:
    """Tracks one stream in blocks of a fixed number of instants.

    look_ahead: instants of future the path sees at least before an instant is decided.
    """

    def __init__(self, instants: int, look_ahead: int) -> None:
        self._instants = instants
        self._look_ahead = look_ahead
        self._correlogram = Correlogram(instants)
        self._range = Range()
        self._cost = np.zeros(CANDIDATES + 1)
        self._cost[:-1] = 1e3
        self._moves = np.full((CANDIDATES + 1, CANDIDATES + 1), _VOICING_COST)
        self._moves[-1, -1] = 0.0
        self._last = np.zeros(CANDIDATES, dtype=np.float32)
        self._trellis: list[tuple[Array, NDArray[np.intp]]] = []

    def push(self, samples: Array) -> Pitch:
        """Take the next block of 24 kHz samples and return as many instants as it spans.

        The first instant given out lies `REACH + look_ahead * STEP` samples before the block's
        start; instants before the stream's start are unvoiced.
        """
        candidates = self._correlogram.push(samples)
        scores = _scores(candidates, self._range.mean, self._range.known)
        scores[:, -1] -= _LEAN
        for logs, score in zip(candidates.logs, scores, strict=True):
            self._extend(logs, score)
        return Pitch(self._decide())

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
            if place < ready and state < CANDIDATES:
                f0[missing + place] = 2.0 ** logs[state]
            state = int(back[state])
        del self._trellis[: max(0, ready)]
        for value in f0[f0 > 0]:
            self._range.hear(float(np.log2(value)))
        return f0
