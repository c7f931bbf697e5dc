"""Pack every frame's envelope in bands and periodic shares: `envelope.f16` beside the waves.

    python -m training.envelopes --pack ../packed

One row of 72 per 10 ms frame, at its centre: 64 bands of log power, 8 periodic shares, as the
source-filter engine measures them, at the packed F0. Run again after an interruption: it goes on.
"""

import argparse
from pathlib import Path

import numpy as np
from evaluation.command_line import run
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import HOP
from menura.engine.neural.bands import BANK
from menura.engine.source_filter import envelope, periodicity
from training.pack import Pack

ROW = BANK.shape[1] + periodicity.BANDS
_PIECE = 400


def described(wave: NDArray[np.float32], f0: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return bands and periodic shares of each frame, shape (frames, 72)."""
    reach = max(envelope.REACH, periodicity.REACH)
    padded = np.pad(wave, (reach, reach + HOP))
    centres = reach + HOP // 2 + HOP * np.arange(len(f0))
    rows = []
    for start in range(0, len(f0), _PIECE):
        part = slice(start, start + _PIECE)
        logs = envelope.envelopes(padded, centres[part], f0[part])
        shares, _ = periodicity.periodicities(padded, centres[part], f0[part])
        rows.append(np.concatenate((logs @ BANK, shares), axis=1).astype(np.float16))
    return np.concatenate(rows)


def main() -> None:
    """Describe every clip of the pack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pack", type=Path, default=Path("../packed"))
    arguments = parser.parse_args()
    pack = Pack(arguments.pack)
    out = arguments.pack / "envelope.f16"
    done = out.stat().st_size // (2 * ROW) if out.exists() else 0
    with open(out, "ab") as file:
        left = [clip for clip in pack.clips if clip.start + clip.frames > done]
        file.truncate((left[0].start if left else done) * 2 * ROW)
        for clip in track(left, "envelopes"):
            file.write(described(pack.wave(clip), pack.f0(clip)).tobytes())
            file.flush()


if __name__ == "__main__":
    run(main)
