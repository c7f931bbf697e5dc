"""How far what nobody minds moves the phone errors of the two recognisers.

python -m evaluation.recogniser_trials
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.progress import track

from evaluation import world
from evaluation.command_line import run
from evaluation.corpus import Corpus, Samples
from evaluation.pairs import corpus_pairs
from evaluation.recogniser import error_rate
from evaluation.referees import Bench
from menura.engine.interface import LATENCY_PROFILES, ConversionSettings
from menura.engine.source_filter import SourceFilterEngine
from menura.engine.stream import ConversionStream


def noisy(samples: Samples, decibels: float) -> Samples:
    """Return speech in white noise so many decibels below it."""
    noise = np.random.default_rng(1).standard_normal(len(samples))
    rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2)) * 10.0 ** (-decibels / 20.0)
    return (samples + rms * noise).astype(np.float32)


def turned(samples: Samples) -> Samples:
    """Return speech with its phase turned, a quarter of a turn at the highest frequency."""
    spectrum = np.fft.rfft(samples)
    turn = np.exp(-0.5j * np.pi * np.linspace(0.0, 1.0, len(spectrum)))
    return np.fft.irfft(spectrum * turn, len(samples)).astype(np.float32)


def vocoded(samples: Samples, factor: float = 1.0) -> Samples:
    """Return what WORLD makes of its own analysis, with F0 times a factor."""
    f0, envelope, aperiodicity = world.analyse(samples)
    made = world.synthesise(f0 * factor, envelope, aperiodicity, len(samples))
    return made.astype(np.float32)


def copied(samples: Samples) -> Samples:
    """Return what the source-filter engine makes of its own analysis."""
    engine = SourceFilterEngine()
    settings = ConversionSettings(similarity_boost=0.0)
    voice = engine.measure([samples]).voice
    stream = ConversionStream(engine, voice, settings, LATENCY_PROFILES[3])
    return np.concatenate((stream.push(samples), stream.flush()))


TRIALS: dict[str, Callable[[Samples], Samples]] = {
    "phase turned": turned,
    "white noise 60 dB below": lambda samples: noisy(samples, 60.0),
    "white noise 40 dB below": lambda samples: noisy(samples, 40.0),
    "copied by WORLD": vocoded,
    "the same, F0 times 1.3": lambda samples: vocoded(samples, 1.3),
    "copied by the source-filter engine": copied,
}


def main() -> None:
    """Ask both recognisers about every trial and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path("evaluation/cache"))
    options = parser.parse_args()
    bench = Bench(options.cache)
    natural = [pair for pair in corpus_pairs(Corpus(options.corpus)) if pair.group == "natural"]
    sources = list({pair.source.tobytes(): pair.source for pair in natural}.values())
    print(f"| {len(sources)} sources, mean phone error | pocketsphinx | CTC network |")
    print("|---|---|---|")
    for name, change in TRIALS.items():
        errors = []
        for source in track(sources, name, transient=True):
            result = change(source)
            asked = "phones", "ctc_phones"
            errors.append([error_rate(bench.ask(a, source), bench.ask(a, result)) for a in asked])
        ours, theirs = np.mean(errors, axis=0)
        print(f"| {name} | {ours:.3f} | {theirs:.3f} |", flush=True)


if __name__ == "__main__":
    run(main)
