"""Streaming F0 tracking: normalised cross-correlation and dynamic programming.

Candidates are peaks of the cross-covariance coefficient of two windows one lag apart, centred on
the instant (after Talkin 1995, "A robust algorithm for pitch tracking"). The path through the
candidates, with a state for "unvoiced", is found by the Viterbi algorithm with a bounded
look-ahead; octave and voicing costs follow Boersma 1993.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from menura.engine.interface import SAMPLE_RATE
from menura.engine.source_filter.spectrum import STEP, Array

FLOOR = 55.0
"""Lowest F0 in Hz."""
CEILING = 800.0
"""Highest F0 in Hz."""

_DECIMATION = 3
_RATE = SAMPLE_RATE // _DECIMATION
_STEP = STEP // _DECIMATION
_TAPS = 25
_HIGHPASS_TAPS = 256
_SHORTEST = int(_RATE / CEILING) - 1
_LONGEST = int(np.ceil(_RATE / FLOOR)) + 1
_LAGS = np.arange(_SHORTEST, _LONGEST + 1)
_WIDTH = 160
_OFFSETS = -((_LAGS + _WIDTH) // 2)
_BACK = int(-_OFFSETS.min()) + 1
_CENTRE = _BACK + (_TAPS // 2) // _DECIMATION

REACH = 3 * STEP
"""Samples of future, at 24 kHz, that one instant's candidates need."""

_CANDIDATES = 6
_QUIET = 1e-8
"""Power (-80 dBFS) that is added to both windows, so that silence has no pitch."""
_RELATIVE_QUIET = 3e-6
"""Power that is added, as a share of the running peak (-55 dB), so that room hum has no pitch."""
_PEAK_DECAY = 0.9995
"""Decay of the running peak per instant: 0.4 dB a second."""
_OCTAVE_COST = 0.03
_SUBHARMONIC_COST = 0.12
"""Cost of a lag whose half correlates as well: it spans two periods."""
_AWAY_COST = 0.5
"""Cost per octave beyond 0.7 octaves from where the voice usually lies."""
_SETTLED = 100
"""Voiced instants after which it is known where the voice usually lies."""
_JUMP_COST = 0.8
_VOICING_COST = 0.22
UNVOICED_SCORE = 0.45
"""Correlation under which an instant is rather unvoiced."""


def _lowpass() -> Array:
    n = np.arange(_TAPS) - _TAPS // 2
    cutoff = 3_300 / SAMPLE_RATE
    taps = 2 * cutoff * np.sinc(2 * cutoff * n) * np.hamming(_TAPS)
    return np.asarray(taps / taps.sum(), dtype=np.float32)


_FILTER = _lowpass()


def _highpass() -> Array:
    """Impulse response of a second-order Butterworth high-pass at 80 Hz, newest tap last."""
    w = np.tan(np.pi * 80.0 / _RATE)
    norm = 1.0 / (1.0 + np.sqrt(2.0) * w + w * w)
    b = np.array([norm, -2.0 * norm, norm])
    a1, a2 = 2.0 * (w * w - 1.0) * norm, (1.0 - np.sqrt(2.0) * w + w * w) * norm
    response = np.zeros(_HIGHPASS_TAPS)
    for n in range(_HIGHPASS_TAPS):
        response[n] = b[n] if n < 3 else 0.0
        response[n] -= a1 * response[n - 1] if n > 0 else 0.0
        response[n] -= a2 * response[n - 2] if n > 1 else 0.0
    return response[::-1].astype(np.float32)


_HUM_FILTER = _highpass()


@dataclass(frozen=True, slots=True)
class Pitch:
    """F0 of consecutive instants.

    f0: Hz; 0 where unvoiced. correlation: 0 to 1, how periodic the instant is at best.
    """

    f0: Array
    correlation: Array


class PitchTracker:
    """Tracks one stream in blocks of a fixed number of instants.

    look_ahead: instants of future the path may see before an instant is decided.
    unvoiced_score: correlation under which an instant is rather unvoiced; lower hears more voice.
    """

    def __init__(
        self, instants: int, look_ahead: int, unvoiced_score: float = UNVOICED_SCORE
    ) -> None:
        self._unvoiced_score = unvoiced_score
        self._instants = instants
        self._look_ahead = look_ahead
        self._tail = np.zeros(_TAPS - 1, dtype=np.float32)
        self._raw = np.zeros(_HIGHPASS_TAPS - 1, dtype=np.float32)
        self._peak = 0.0
        self._usual = 0.0
        self._heard = 0
        self._low = np.zeros(_BACK + REACH // _DECIMATION, dtype=np.float32)
        self._cost = np.zeros(_CANDIDATES + 1)
        self._log = np.zeros(_CANDIDATES + 1)
        self._trellis: list[tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.intp]]] = []
        self._cost[:-1] = 1e3

    def push(self, samples: Array) -> Pitch:
        """Take the next block of 24 kHz samples and return as many instants as it spans.

        The first instant given out lies `REACH + look_ahead * STEP` samples before the block's
        start; instants before the stream's start are unvoiced.
        """
        self._take(samples)
        logs, scores = self._candidates()
        f0 = np.zeros(self._instants, dtype=np.float32)
        correlation = np.zeros(self._instants, dtype=np.float32)
        for instant in range(self._instants):
            self._extend(logs[instant], scores[instant])
            if len(self._trellis) > self._look_ahead:
                f0[instant], correlation[instant] = self._decide()
        return Pitch(f0, correlation)

    def _take(self, samples: Array) -> None:
        padded = np.concatenate([self._tail, samples])
        self._tail = padded[-(_TAPS - 1) :].copy()
        windows = sliding_window_view(padded, _TAPS)[::_DECIMATION]
        raw = np.concatenate([self._raw, windows @ _FILTER])
        self._raw = raw[-(_HIGHPASS_TAPS - 1) :]
        kept = _BACK + REACH // _DECIMATION
        self._low = np.concatenate(
            [self._low[-kept:], sliding_window_view(raw, _HIGHPASS_TAPS) @ _HUM_FILTER]
        )

    def _candidates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = self._low.astype(np.float64)
        starts = _CENTRE + _STEP * np.arange(self._instants)[:, None] + _OFFSETS[None, :]
        span = len(low)
        padded = np.concatenate([low, np.zeros(_LONGEST)])
        products = sliding_window_view(padded, span)[_SHORTEST : _LONGEST + 1] * low[:span]
        sums = np.zeros((len(_LAGS), span + 1))
        np.cumsum(products, axis=1, out=sums[:, 1:])
        rows = np.arange(len(_LAGS))[None, :]
        cross = sums[rows, starts + _WIDTH] - sums[rows, starts]
        first = np.concatenate([[0.0], np.cumsum(low)])
        second = np.concatenate([[0.0], np.cumsum(low * low)])
        left = first[starts + _WIDTH] - first[starts]
        right = first[starts + _LAGS + _WIDTH] - first[starts + _LAGS]
        left_power = second[starts + _WIDTH] - second[starts] - left * left / _WIDTH
        right_power = (
            second[starts + _LAGS + _WIDTH] - second[starts + _LAGS] - right * right / _WIDTH
        )
        power = float((second[starts[:, 0] + _WIDTH] - second[starts[:, 0]]).max()) / _WIDTH
        self._peak = max(self._peak * _PEAK_DECAY**self._instants, power)
        quiet = _WIDTH * (_QUIET + _RELATIVE_QUIET * self._peak)
        ratio = (cross - left * right / _WIDTH) / np.sqrt(
            np.maximum(left_power + quiet, quiet) * np.maximum(right_power + quiet, quiet)
        )
        middle = ratio[:, 1:-1]
        peaks = (middle > ratio[:, :-2]) & (middle >= ratio[:, 2:]) & (middle > 0.25)
        ranked = np.where(peaks, middle - _OCTAVE_COST * np.log2(_LAGS[1:-1] / _SHORTEST), -1.0)
        best = np.argpartition(-ranked, _CANDIDATES, axis=1)[:, :_CANDIDATES] + 1
        before = np.take_along_axis(ratio, best - 1, axis=1)
        at = np.take_along_axis(ratio, best, axis=1)
        after = np.take_along_axis(ratio, best + 1, axis=1)
        curve = before - 2 * at + after
        valid = np.take_along_axis(ranked, best - 1, axis=1) > -1.0
        shift = np.where(valid, 0.5 * (before - after) / np.where(valid, curve, 1.0), 0.0)
        lags = _LAGS[best] + shift
        peak = at - 0.25 * (before - after) * shift
        half = np.maximum(np.rint(lags / 2).astype(np.intp) - _SHORTEST, 0)
        repeats = np.take_along_axis(ratio, half, axis=1) / np.maximum(at, 0.25)
        repeats = np.where(lags >= 2 * _SHORTEST, np.clip((repeats - 0.85) / 0.15, 0.0, 1.0), 0.0)
        return np.log2(_RATE / lags), np.where(valid, peak - _SUBHARMONIC_COST * repeats, -9.0)

    def _extend(self, logs: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
        jumps = _JUMP_COST * np.abs(logs[:, None] - self._log[None, :-1])
        moves = np.full((_CANDIDATES + 1, _CANDIDATES + 1), _VOICING_COST)
        moves[:-1, :-1] = jumps
        moves[-1, -1] = 0.0
        total = moves + self._cost[None, :]
        back = total.argmin(axis=1)
        cost = total[np.arange(_CANDIDATES + 1), back]
        away = np.maximum(np.abs(logs - self._usual) - 0.7, 0.0)
        away *= _AWAY_COST * min(1.0, self._heard / _SETTLED)
        cost[:-1] -= scores + _OCTAVE_COST * logs - away
        cost[-1] -= self._unvoiced_score + _OCTAVE_COST * np.log2(150.0)
        self._cost = cost - cost.min()
        self._log[:-1] = logs
        self._trellis.append((logs, scores.astype(np.float32), back))

    def _decide(self) -> tuple[float, float]:
        state = int(self._cost.argmin())
        for _, _, back in reversed(self._trellis[1:]):
            state = int(back[state])
        logs, scores, _ = self._trellis.pop(0)
        strongest = float(np.clip(scores.max(), 0.0, 1.0))
        if state == _CANDIDATES:
            return 0.0, strongest
        self._heard += 1
        self._usual += max(0.01, 1.0 / self._heard) * (float(logs[state]) - self._usual)
        return float(2.0 ** logs[state]), float(np.clip(scores[state], 0.0, 1.0))
