"""Silence where a track's timestamps leave a gap, so that sound stays with its picture."""

_TOLERANCE = 0.06
"""Seconds by which timestamps may be ahead of the samples: they are rounded, and they jitter."""

_SMALLEST_STEP = 0.008
"""Seconds by which a frame must begin behind the end of the one before it, to follow a gap.

Timestamps whose clock runs a little fast get ahead too, without anything missing.
"""

_LONGEST_GAP = 3600.0
"""Seconds; a longer gap is a damaged timestamp."""


class Timeline:
    """How far the samples of one track have come, against its timestamps.

    start: seconds at which the whole file begins; None: where the track itself does.
    """

    def __init__(self, start: float | None) -> None:
        self._reached = start
        self._expected = start

    def silence_before(self, start: float | None, size: int, rate: int) -> int:
        """Take in a frame and return the samples of silence that are due before it.

        start: seconds at which the frame begins by its timestamp, None if it has none.
        size: samples of the frame, at `rate` Hz.
        """
        if start is None:
            start = self._expected
        if start is None:
            return 0
        gap = start - (start if self._reached is None else self._reached)
        step = start - (start if self._expected is None else self._expected)
        self._expected = start + size / rate
        if gap > _TOLERANCE and step >= _SMALLEST_STEP:
            self._reached = self._expected
            return round(gap * rate) if gap <= _LONGEST_GAP else 0
        self._reached = start - gap + size / rate
        return 0
