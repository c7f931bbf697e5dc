"""What comes out when noise goes in, and what noise under speech costs.

python -m evaluation.robustness --engine source_filter --pairs 6
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track
from scipy.signal import lfilter

from evaluation.command_line import run
from evaluation.converters import Converter, converter
from evaluation.corpus import CORPUS_RATE, Corpus, Samples
from evaluation.pairs import Pair, corpus_pairs
from evaluation.prosody import pitch_track, speech_level
from evaluation.recogniser import error_rate
from evaluation.referees import Bench
from evaluation.words import words_in
from menura.engine.interface import LATENCY_PROFILES

SECONDS = 6.0
SNR_DB = 10.0


def _level(samples: npt.NDArray[np.float64], dbfs: float) -> Samples:
    rms = float(np.sqrt(np.mean(samples**2)))
    return np.asarray(samples * (10.0 ** (dbfs / 20.0) / max(rms, 1e-12)), dtype=np.float32)


def pink(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise that falls by about 3 dB an octave (three-pole filter of Kellet)."""
    white = rng.standard_normal(count)
    poles = np.array([0.99765, 0.96300, 0.57000])
    gains = np.array([0.0990460, 0.2965164, 1.0526913])
    parts = [lfilter([g], [1.0, -p], white) for p, g in zip(poles, gains, strict=True)]
    return np.asarray(np.sum(parts, axis=0) + 0.1848 * white)


def noises(seed: int = 7) -> dict[str, Samples]:
    """Inputs in which nobody speaks; mono, 24 kHz, 6 s each."""
    rng = np.random.default_rng(seed)
    count = int(SECONDS * CORPUS_RATE)
    time = np.arange(count) / CORPUS_RATE
    hum = np.sum([np.sin(2 * np.pi * 50 * k * time + k) / k for k in (1, 2, 3, 4, 6, 8)], axis=0)
    music = np.zeros(count)
    for beat in range(int(SECONDS / 0.5)):
        start = int(beat * 0.5 * CORPUS_RATE)
        root = 110.0 * 2.0 ** (rng.choice([0, 3, 5, 7, 10, 12]) / 12)
        since = time[: count - start]
        for interval in (1.0, 1.26, 1.5):
            for k in range(1, 7):
                tone = np.sin(2 * np.pi * root * interval * k * since) / k
                music[start:] += tone * np.exp(-4.0 * since)
    keys = np.zeros(count)
    for at in rng.integers(0, count - 1200, 40):
        keys[at : at + 1200] += rng.standard_normal(1200) * np.exp(-np.arange(1200) / 120.0)
    return {
        "silence": np.zeros(count, dtype=np.float32),
        "room noise": _level(pink(count, rng), -55.0),
        "loud noise": _level(pink(count, rng), -35.0),
        "hum": _level(hum, -35.0),
        "music": _level(music, -25.0),
        "keyboard": _level(keys, -35.0),
    }


def with_noise(samples: Samples, seed: int) -> Samples:
    """Speech with pink noise 10 dB under its speech level."""
    noise = pink(len(samples), np.random.default_rng(seed))
    return samples + _level(noise, speech_level(samples) - SNR_DB)


def _rms_db(samples: Samples) -> float:
    return float(10.0 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12))


def noise_table(judged: Converter, pair: Pair) -> list[str]:
    """Level in and out, voiced share and words found, per kind of noise."""
    lines = [
        "| in | level in, dBFS | level out, dBFS | voiced in | voiced out | words in | words out |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, noise in track(noises().items(), "noises"):
        source = replace(pair, name=f"noise-{name.replace(' ', '-')}", source=noise)
        result = judged.convert(source)
        voiced = [np.mean(pitch_track(x) > 0) if x.any() else 0.0 for x in (noise, result)]
        words = [len(words_in(x)) for x in (noise, result)]
        lines.append(
            f"| {name} | {_rms_db(noise):.0f} | {_rms_db(result):.0f} | {voiced[0]:.2f} | "
            f"{voiced[1]:.2f} | {words[0]} | {words[1]} |"
        )
    return lines


def noisy_speech(judged: Converter, bench: Bench, pairs: list[Pair]) -> list[str]:
    """How many points of phone error 10 dB noise costs the source, and the converter."""
    own, converted = [], []
    for number, pair in enumerate(track(pairs, "speech in noise")):
        noisy = replace(pair, source=with_noise(pair.source, number))
        truth = bench.ask("phones", pair.source)
        own.append(error_rate(truth, bench.ask("phones", noisy.source)))
        clean_error = error_rate(truth, bench.ask("phones", judged.convert(pair)))
        noisy_error = error_rate(truth, bench.ask("phones", judged.convert(noisy)))
        converted.append((clean_error, noisy_error))
    clean, noise = np.array(converted).T
    extra = float(np.mean(noise - clean) - np.mean(own))
    return [
        "| speech at 10 dB SNR, mean of phone errors against the clean source | |",
        "|---|---|",
        f"| the noisy source itself | {np.mean(own):.3f} |",
        f"| converted, clean source | {np.mean(clean):.3f} |",
        f"| converted, noisy source | {np.mean(noise):.3f} |",
        f"| lost by conversion beyond the source's own loss (bar: at most 0.05) | {extra:+.3f} |",
    ]


def main(
    engine: Annotated[str, typer.Option(help="As for `python -m evaluation`.")],
    pairs: Annotated[int, typer.Option(help="Number of natural pairs for speech in noise.")] = 6,
    corpus: Annotated[Path | None, typer.Option(help="Corpus folder.")] = None,
    level: Annotated[int, typer.Option(min=0, max=4, help="Latency level.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Also write the tables there.")] = None,
    cache: Annotated[Path, typer.Option(help="Where answers are kept.")] = Path("evaluation/cache"),
) -> None:
    """Judge what a converter makes of noise."""
    torch.set_num_threads(1)
    os.nice(5)
    chosen = corpus_pairs(Corpus(corpus))[:pairs]
    judged = converter(engine, LATENCY_PROFILES[level])
    lines = [f"# {engine} and noise", "", *noise_table(judged, chosen[0]), ""]
    lines += noisy_speech(judged, Bench(cache), chosen)
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(lambda: typer.run(main))
