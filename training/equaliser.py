"""Learn what usually lies between what an engine renders and the voice it renders.

    python -m training.equaliser --corpus ../shared/corpus

Natural training people are converted into one another; what the equaliser asks for at the end of a
stream, on average, is what it assumes at the beginning of the next. To be run again whenever
networks or synthesis have changed; five minutes.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from evaluation.corpus import Clip, Corpus
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import (
    LATENCY_PROFILES,
    SAMPLE_RATE,
    ConversionSettings,
    UnusableReferenceError,
)
from menura.engine.neural import NeuralEngine
from menura.engine.source_filter import SourceFilterEngine, equaliser
from menura.engine.source_filter.voice import SPECTRUM_BANDS
from training.content import held_out

CORPORA = ("librispeech", "s2i")
PAIRS = 160
SHORTEST = 4.0
LONGEST = 8.0
REFERENCE = 25.0
"""Seconds of a source at least and at most, and of a reference at most."""
LEVEL = 3
SEED = 1
OUT = Path(equaliser.__file__).with_name("equaliser.npz")


def people(corpus: Corpus) -> dict[str, list[Clip]]:
    """Return the clips of every natural person that training may hear."""
    train = [clip for clip in corpus.clips if clip.split == "train"]
    held, known = held_out(train), {}
    for clip in train:
        if clip.corpus in CORPORA and clip.person not in held and clip.seconds > SHORTEST:
            known.setdefault(clip.person, []).append(clip)
    return known


def differences(
    engine: NeuralEngine | SourceFilterEngine, corpus: Corpus, pairs: int
) -> list[NDArray[np.float64]]:
    """Return what the equaliser asks for at the end of each conversion, (SPECTRUM_BANDS,)."""
    known = people(corpus)
    names = random.Random(SEED).sample(sorted(known), len(known))
    latency, found = LATENCY_PROFILES[LEVEL], []
    for number in track(range(pairs), engine.name):
        source, target = names[number % len(names)], names[(7 * number + 3) % len(names)]
        reference = np.concatenate([corpus.read(clip) for clip in known[target][-6:]])
        try:
            voice = engine.measure([reference[: int(REFERENCE * SAMPLE_RATE)]]).voice
        except UnusableReferenceError:
            continue
        samples = corpus.read(known[source][0])[: int(LONGEST * SAMPLE_RATE)]
        analysis = engine.analysis(latency)
        rendering = engine.rendering(voice, ConversionSettings(), SEED, latency)
        rendering.push(analysis.push(samples))
        rendering.push(analysis.flush())
        found.append(rendering.equaliser.apart)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=None)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    corpus, learnt = Corpus(options.corpus), {}
    for engine in (SourceFilterEngine(), NeuralEngine()):
        found = np.stack(differences(engine, corpus, options.pairs))
        left = np.sqrt(np.mean((found - found.mean(axis=0)) ** 2))
        print(f"{engine.name}: {np.sqrt(np.mean(found**2)):.2f} nepers apart, {left:.2f} without")
        learnt[engine.name] = found.mean(axis=0).astype(np.float32)
        assert learnt[engine.name].shape == (SPECTRUM_BANDS,)
    np.savez(options.out, **learnt)


if __name__ == "__main__":
    main()
