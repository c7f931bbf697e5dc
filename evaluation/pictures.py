"""Spectrograms with pitch tracks: source, target and results of one pair on one page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.signal import spectrogram

from evaluation.corpus import CORPUS_RATE, Samples
from evaluation.pairs import Pair
from evaluation.referees import Bench

mpl.use("Agg")
from matplotlib import pyplot as plt

SECONDS = 5.0


def draw(bench: Bench, pair: Pair, results: dict[str, Samples], path: Path) -> None:
    """Write one PNG: 0 to 12 kHz, 80 dB range, first 5 s; F0 in white on its own axis."""
    rows = {"source": pair.source, f"target ({pair.target.name})": pair.target.reference, **results}
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(13, 2.4 * len(rows)), sharex=True, layout="constrained"
    )
    for axis, (name, samples) in zip(axes, rows.items(), strict=True):
        heard = samples[: int(SECONDS * CORPUS_RATE)].astype(np.float64)
        frequency, times, power = spectrogram(
            heard, CORPUS_RATE, "hann", 600, 600 - 120, 1024, mode="psd"
        )
        level = 10 * np.log10(power + 1e-14)
        top = level.max()
        axis.pcolormesh(
            times, frequency / 1000, level, vmin=top - 80, vmax=top, cmap="magma", rasterized=True
        )
        axis.set_ylim(0, 12)
        axis.set_ylabel("kHz")
        axis.set_title(name, loc="left", fontsize=9)
        track = np.array(bench.ask("pitch", samples))[: int(SECONDS * 100)]
        pitch = axis.twinx()
        pitch.plot(
            np.arange(len(track)) * 0.01, np.where(track > 0, track, np.nan), color="white", lw=1.4
        )
        pitch.set_ylim(50, 450)
        pitch.set_ylabel("F0, Hz")
    axes[-1].set_xlabel("s")
    figure.savefig(path, dpi=80)
    plt.close(figure)
