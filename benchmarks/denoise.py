"""Compare noise suppressors on real speech with added noise: the table of docs/noise.md.

    python -m benchmarks.denoise --corpus ../shared/corpus

Every candidate is aligned by its measured delay before it is scored.
"""

import argparse
import io
import itertools
import json
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.suppressors import RATE, Candidate, Signal, candidates

SNRS = (0.0, 5.0, 10.0, 15.0)

CLIPS = (
    "librispeech/2952-407-0000.opus",
    "librispeech/7511-102419-0000.opus",
    "librispeech/5322-7678-0000_1.opus",
    "librispeech/6531-61334-0000.opus",
    "s2i/56c99f2c-9e95-448b-b327-53690389ed05.opus",
    "s2i/5dc0751e-251b-45a3-a04e-8909890535c7.opus",
    "nathalie/nl_rhasspy_1085.opus",
    "kerstin/de_rhasspy-0936.opus",
    "flemishguy/nl_rhasspy_1002_1601817789.opus",
    "ljspeech/LJ001-0025.opus",
)
"""Quiet natural recordings of ten speakers, both sexes, three languages, 7 to 12 kHz wide."""

BABBLE = (
    "kerstin/de_rhasspy-1009.opus",
    "kerstin/de_rhasspy-1238.opus",
    "kerstin/de_rhasspy-0279.opus",
    "librispeech/5390-24512-0000.opus",
    "librispeech/248-130644-0000.opus",
    "flemishguy/nl_rhasspy_865_1601891117.opus",
    "nathalie/nl_rhasspy_529.opus",
    "ljspeech/LJ001-0022.opus",
)
"""Eight further clips that talk at once in the background."""


class Corpus:
    """Clips of the speech corpus by path, mono at 24 kHz."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        self._tars = {row["path"]: folder / row["tar"] for row in map(json.loads, lines)}

    def read(self, path: str) -> Signal:
        """Return the clip at `path`, shape (n,)."""
        with tarfile.open(self._tars[path]) as archive:
            member = archive.extractfile(path)
            assert member is not None
            container = av.open(io.BytesIO(member.read()))
        resampler = av.AudioResampler("flt", "mono", RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
        return np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float32)


def level(signal: Signal) -> float:
    """Return the RMS."""
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64)) + 1e-20))


def active(clean: Signal, hop: int = 480) -> NDArray[np.bool_]:
    """Tell which 20 ms frames hold speech: those less than 35 dB under the loudest."""
    frames = clean[: len(clean) // hop * hop].reshape(-1, hop)
    decibels = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-20)
    return np.asarray(decibels > np.max(decibels) - 35)


def white(n: int, rng: np.random.Generator) -> Signal:
    """Return white noise."""
    return rng.standard_normal(n).astype(np.float32)


def fan(n: int, rng: np.random.Generator) -> Signal:
    """Return mains hum with harmonics over the rumble and rush of a fan."""
    t = np.arange(n) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * t + rng.uniform(0, 6.28)) / k for k in range(1, 13))
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequencies = np.fft.rfftfreq(n, 1 / RATE)
    rush = np.fft.irfft(spectrum / np.sqrt(1 + (frequencies / 200) ** 2), n)
    return np.asarray(0.3 * hum / np.std(hum) + rush / np.std(rush), np.float32)


def keyboard(n: int, rng: np.random.Generator) -> Signal:
    """Return key presses: about seven short resonant clicks a second over a faint room noise."""
    out = 0.01 * rng.standard_normal(n)
    position = 0.0
    while True:
        position += RATE * float(rng.uniform(0.06, 0.22))
        start = int(position)
        if start >= n:
            return out.astype(np.float32)
        length = min(n - start, int(0.03 * RATE))
        t = np.arange(length) / RATE
        click = rng.standard_normal(length) * np.exp(-t / 0.004)
        ring = np.sin(2 * np.pi * rng.uniform(900, 3500) * t) * np.exp(-t / 0.008)
        out[start : start + length] += rng.uniform(0.5, 1) * (click + ring)


def babble(n: int, rng: np.random.Generator, voices: list[Signal]) -> Signal:
    """Return eight people talking at once."""
    out = np.zeros(n)
    for voice in voices:
        start = int(rng.integers(len(voice)))
        out += np.resize(np.roll(voice, -start), n) / level(voice)
    return out.astype(np.float32)


def mix(clean: Signal, noise: Signal, snr: float) -> Signal:
    """Add noise to speech at `snr` dB, counted over the speech alone."""
    spoken = np.repeat(active(clean), 480)
    speech = level(clean[: len(spoken)][spoken])
    return np.asarray(clean + noise * (speech / level(noise) * 10 ** (-snr / 20)), np.float32)


def si_sdr(estimate: Signal, reference: Signal) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    e, r = estimate.astype(np.float64), reference.astype(np.float64)
    target = np.dot(e, r) / (np.dot(r, r) + 1e-20) * r
    return float(10 * np.log10(np.dot(target, target) / (np.sum((e - target) ** 2) + 1e-20)))


def segmental_snr(estimate: Signal, reference: Signal) -> float:
    """Return the mean SNR of 20 ms speech frames in dB, each limited to -10 to 35 dB."""
    n = len(reference) // 480 * 480
    r = reference[:n].reshape(-1, 480).astype(np.float64)
    e = estimate[:n].reshape(-1, 480).astype(np.float64)
    ratio = np.sum(r**2, axis=1) / (np.sum((r - e) ** 2, axis=1) + 1e-20)
    return float(np.mean(np.clip(10 * np.log10(ratio + 1e-20), -10, 35)[active(reference)]))


def log_spectral_distance(estimate: Signal, reference: Signal) -> float:
    """Return the RMS difference in dB of the log spectra within 50 dB of the top."""

    def spectra(x: Signal) -> NDArray[np.float64]:
        frames = np.lib.stride_tricks.sliding_window_view(x, 960)[::480]
        power = np.abs(np.fft.rfft(frames * np.hanning(960))) ** 2
        return np.asarray(10 * np.log10(power + 1e-12))

    a, b = spectra(reference), spectra(estimate)
    heard = a > np.max(a) - 50
    return float(np.sqrt(np.mean((a - b)[heard] ** 2)))


def pause_drop(estimate: Signal, noisy: Signal, clean: Signal) -> float:
    """Return by how many dB the pauses got quieter."""
    pauses = ~np.repeat(active(clean), 480)
    n = len(pauses)
    return 20 * np.log10(level(noisy[:n][pauses]) / (level(estimate[:n][pauses]) + 1e-6))


def lag(estimate: Signal, reference: Signal) -> int:
    """Return by how many samples the estimate is late, by cross-correlation."""
    n = 1 << (len(estimate) + len(reference)).bit_length()
    spectrum = np.fft.rfft(estimate, n) * np.conj(np.fft.rfft(reference, n))
    correlation = np.fft.irfft(spectrum, n)
    best = int(np.argmax(correlation))
    return best if best < n // 2 else best - n


def apply(candidate: Candidate, signal: Signal) -> tuple[Signal, float]:
    """Return the result at 24 kHz, not aligned, and the CPU seconds the suppressor itself took."""
    x = soxr.resample(signal, RATE, candidate.rate, "VHQ") if candidate.rate != RATE else signal
    start = time.process_time()
    y = candidate.run(np.ascontiguousarray(x, np.float32))
    spent = time.process_time() - start
    back = soxr.resample(y, candidate.rate, RATE, "VHQ") if candidate.rate != RATE else y
    return np.asarray(back, np.float32), spent


def aligned(signal: Signal, late: int, length: int) -> Signal:
    """Return `signal` moved `late` samples earlier and made `length` samples long."""
    moved = signal[late:] if late >= 0 else np.pad(signal, (-late, 0))
    return np.pad(moved, (0, max(0, length - len(moved))))[:length]


Noise = Callable[[int, np.random.Generator], Signal]
"""Makes so many samples of a noise."""


@dataclass
class Scores:
    """What one candidate did to all clips in all noises.

    gains: of SI-SDR in dB, by noise and SNR. segmental: gains of the segmental SNR in dB. pauses:
    by how many dB they got quieter. cost: CPU seconds per second of audio.
    """

    gains: dict[tuple[str, float], list[float]] = field(default_factory=dict)
    segmental: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    cost: float = 0.0

    def gain(self, name: str | None = None, snr: float | None = None) -> float:
        """Return the mean gain, of one noise or at one SNR where that is given."""
        chosen = [
            values
            for (noise, ratio), values in self.gains.items()
            if name in (None, noise) and snr in (None, ratio)
        ]
        return float(np.mean(np.concatenate(chosen)))


def scored(
    candidate: Candidate, clips: list[Signal], noises: dict[str, Noise], late: int
) -> Scores:
    """Let a candidate clean every clip in every noise. late: samples by which it is late."""
    scores = Scores()
    spent = duration = 0.0
    for (name, make), snr in itertools.product(noises.items(), SNRS):
        for index, clip in enumerate(clips):
            rng = np.random.default_rng([index, int(snr), len(name)])
            noisy = mix(clip, make(len(clip), rng), snr)
            y, seconds = apply(candidate, noisy)
            y = aligned(y, late, len(clip))
            spent += seconds
            duration += len(clip) / RATE
            gained = si_sdr(y, clip) - si_sdr(noisy, clip)
            scores.gains.setdefault((name, snr), []).append(gained)
            scores.segmental.append(segmental_snr(y, clip) - segmental_snr(noisy, clip))
            scores.pauses.append(pause_drop(y, noisy, clip))
    scores.cost = spent / duration
    return scores


def row(candidate: Candidate, clips: list[Signal], noises: dict[str, Noise]) -> str:
    """Return a candidate's row of the table."""
    results = [apply(candidate, clip)[0] for clip in clips]
    late = round(float(np.median([lag(y, c) for y, c in zip(results, clips, strict=True)])))
    restored = [(aligned(y, late, len(c)), c) for y, c in zip(results, clips, strict=True)]
    faithful = np.mean([min(si_sdr(y, c), 99) for y, c in restored])
    distance = np.mean([log_spectral_distance(y, c) for y, c in restored])
    scores = scored(candidate, clips, noises, late)
    by_snr = " / ".join(f"{scores.gain(snr=snr):.1f}" for snr in SNRS)
    by_noise = " | ".join(f"{scores.gain(name):.1f}" for name in noises)
    return (
        f"| {candidate.name} | {by_snr} | {by_noise} | {np.mean(scores.segmental):.1f} "
        f"| {np.mean(scores.pauses):.1f} | {faithful:.1f} | {distance:.1f} "
        f"| {1000 * late / RATE:.1f} | {scores.cost:.4f} |"
    )


def main() -> None:
    """Score every candidate and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--only", default="", help="score candidates whose name holds this text")
    options = parser.parse_args()
    if not (options.corpus / "manifest.jsonl").is_file():
        parser.error(f"no speech corpus at {options.corpus}: name it with --corpus")
    corpus = Corpus(options.corpus)
    clips = [corpus.read(path) for path in CLIPS]
    voices = [corpus.read(path) for path in BABBLE]
    noises: dict[str, Noise] = {
        "white": white,
        "fan": fan,
        "babble": lambda n, rng: babble(n, rng, voices),
        "keys": keyboard,
    }
    print(
        "| suppressor | SI-SDR gain at 0 / 5 / 10 / 15 dB | white | fan | babble | keys "
        "| segSNR gain | pauses | clean SI-SDR | clean LSD | late by ms | CPU/s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for candidate in candidates():
        if options.only in candidate.name:
            print(row(candidate, clips, noises), flush=True)


if __name__ == "__main__":
    main()
