"""How likely F0 is to lie at each pitch, estimated by small networks that hear its context too.

The correlations of one instant leave open which octave is meant and whether a weak sound is voiced;
what came before and comes after settles most of it. A convolutional network names one of PITCHES
pitches or none, as CREPE does (Kim et al. 2018) from waveforms, when it has heard a stated number
of instants more: there is one for a short wait and one for a long one (`pitch.npz`, by
`training.pitch`).
"""

from functools import cache
from importlib.resources import files

import numpy as np

from menura.engine.source_filter.spectrum import Array

PITCHES = 94
PER_OCTAVE = 24
LOWEST = float(np.log2(55.0))
"""Log2 Hz of the lowest pitch."""
RANGE = 24
"""Numbers that tell where the voice usually lies."""

KERNEL, DILATIONS = 7, (1, 2, 4, 8)
"""Of the convolutions over time, in instants."""
AHEAD = {"quick": (3, 0, 0, 0), "patient": (3, 6, 12, 24)}
"""Instants that each of those hears beyond the one it describes, in either network."""
QUICK, PATIENT = sum(AHEAD["quick"]), sum(AHEAD["patient"])
"""Instants that have been heard beyond the one that is judged: 15 and 225 ms."""

_RANGE_PLACES = np.linspace(LOWEST, LOWEST + PITCHES / PER_OCTAVE, RANGE, dtype=np.float32)
_RANGE_WIDTH = 0.17


def range_told(mean: Array, known: Array) -> Array:
    """Return how the network is told where a voice usually lies, (n, RANGE).

    mean: of log2 F0, (n,). known: how far that is known, 0 to 1, (n,).
    """
    away = (_RANGE_PLACES - mean[:, None]) / _RANGE_WIDTH
    return np.asarray(known[:, None] * np.exp(-0.5 * away**2), np.float32)


@cache
def _weights(network: str) -> dict[str, Array]:
    with (files(__package__) / "pitch.npz").open("rb") as held, np.load(held) as arrays:
        return {
            name.removeprefix(f"{network}_"): arrays[name].astype(np.float32)
            for name in arrays.files
            if name.startswith(network)
        }


def _norm(x: Array) -> Array:
    power = (x * x).sum(axis=1, keepdims=True) / np.float32(x.shape[1])
    return np.asarray(x / np.sqrt(power + np.float32(1e-4)))


class Salience:
    """The network of one stream, in blocks of a fixed number of instants.

    patient: whether it hears PATIENT instants more rather than QUICK.
    """

    def __init__(self, instants: int, patient: bool) -> None:
        name = "patient" if patient else "quick"
        self._weights = _weights(name)
        self._ahead = AHEAD[name]
        self.look_ahead = sum(self._ahead)
        """Instants by which what `push` returns lags behind what it takes."""
        self._taps = [
            np.arange(instants)[:, None] + dilation * np.arange(KERNEL) for dilation in DILATIONS
        ]
        width = len(self._weights["bias"])
        self._before = [
            np.zeros((dilation * (KERNEL - 1), width), np.float32) for dilation in DILATIONS
        ]
        self._heard = 0

    def push(self, picture: Array, mean: float, known: float) -> Array:
        """Return log probabilities of the pitches and, last, of none, (n, PITCHES + 1).

        picture: see `Candidates`, (n, PICTURE). mean, known: see `range_told`.
        """
        w, count = self._weights, len(picture)
        usual = range_told(np.array([mean], np.float32), np.array([known], np.float32))
        told = [picture, np.repeat(usual, count, axis=0)]
        x = np.concatenate(told, axis=1) @ w["enter"] + w["bias"]
        first = self._heard
        for index, (taps, ahead) in enumerate(zip(self._taps, self._ahead, strict=True)):
            before = self._before[index]
            heard = np.concatenate([before, x])
            self._before[index] = heard[count:]
            y = (heard[taps] * w[f"over_time_{index}"]).sum(axis=1) + w[f"over_time_bias_{index}"]
            y = _norm(y) @ w[f"expand_{index}"] + w[f"expand_bias_{index}"]
            y = y / (1.0 + np.exp(-np.maximum(y, -60.0)))
            described = heard[len(before) - ahead :][:count]
            x = described + y @ w[f"reduce_{index}"] + w[f"reduce_bias_{index}"]
            first -= ahead
            if first < 0:
                # Before the stream there was nothing, and so the network was trained.
                x[:-first] = 0.0
        self._heard = min(self._heard + count, self.look_ahead)
        out = _norm(x) @ w["leave"] + w["leave_bias"]
        out = out - out.max(axis=1, keepdims=True)
        return np.asarray(out - np.log(np.exp(out).sum(axis=1, keepdims=True)))


def peaks(told: Array, number: int) -> tuple[Array, Array]:
    """Return log2 Hz and log probability of the likeliest pitches, (n, number) each, -inf where
    there are fewer. told: of `Salience.push`."""
    voiced = told[:, :PITCHES]
    middle = voiced[:, 1:-1]
    high = (middle > voiced[:, :-2]) & (middle >= voiced[:, 2:])
    at = np.argsort(np.where(high, -middle, np.inf), axis=1)[:, :number] + 1
    rows = np.arange(len(told))[:, None]
    before, here, after = voiced[rows, at - 1], voiced[rows, at], voiced[rows, at + 1]
    there = high[rows, at - 1]
    bend = np.where(there, before - 2.0 * here + after, -1.0)
    shift = np.where(there, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0.0)
    logs = LOWEST + (at + np.clip(shift, -0.5, 0.5)) / PER_OCTAVE
    return logs.astype(np.float32), np.where(there, here, -np.inf)


def at(told: Array, logs: Array) -> Array:
    """Return log probabilities of pitches given in log2 Hz, (n, k) to (n, k)."""
    place = np.clip((logs - LOWEST) * PER_OCTAVE, 0.0, PITCHES - 1.001)
    low = place.astype(np.intp)
    part = place - low
    rows = np.arange(len(told))[:, None]
    return np.asarray(told[rows, low] * (1.0 - part) + told[rows, low + 1] * part)
