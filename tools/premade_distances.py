"""How far the premade voices lie from each other, by a speaker encoder that no training used.

    .venv-training/bin/python tools/premade_distances.py

Prints each voice's median F0 and, as cosine similarity of Resemblyzer vectors, its nearest
neighbour: once between the reference recordings, once between the previews, which are all one of
two recordings converted into the voices.
"""

import io
import sys
from pathlib import Path

import numpy as np
import soundfile as sf

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from evaluation.corpus import Samples  # noqa: E402
from evaluation.prosody import pitch_track  # noqa: E402
from evaluation.resemblance import resemblyzer_vector  # noqa: E402

from menura.audio.resample import Resampler  # noqa: E402
from menura.voices.premade import premade_file, premade_voices  # noqa: E402

RATE = 24_000


def read(name: str) -> Samples:
    """Return a clip of the package at 24 kHz."""
    samples, rate = sf.read(io.BytesIO(premade_file(name).read_bytes()), dtype="float32")
    resampler = Resampler(rate, RATE)
    return np.concatenate((resampler.push(samples), resampler.flush()))


def neighbours(vectors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return each vector's nearest other and the matrix of similarities."""
    matrix = np.stack(vectors) @ np.stack(vectors).T
    np.fill_diagonal(matrix, -1)
    return matrix.argmax(axis=1), matrix


def main() -> None:
    """Print the table and the summary."""
    voices = list(premade_voices().values())
    names = [premade.voice.name for premade in voices]
    references = [np.concatenate([read(name) for name in one.references]) for one in voices]
    previews = [read(one.preview) for one in voices]
    pitches = []
    for samples in references:
        track = np.asarray(pitch_track(samples))
        pitches.append(float(np.median(track[track > 0])))
    near, matrix = neighbours([resemblyzer_vector(samples) for samples in references])
    made_near, made_matrix = neighbours([resemblyzer_vector(samples) for samples in previews])
    for at, name in enumerate(names):
        print(
            f"| {name} | {pitches[at]:.0f} | {names[near[at]]} {matrix[at].max():.2f} "
            f"| {names[made_near[at]]} {made_matrix[at].max():.2f} |"
        )
    halves = [
        float(np.dot(*(resemblyzer_vector(read(name)) for name in premade.references[:2])))
        for premade in voices
        if len(premade.references) > 1
    ]
    print(f"two recordings of one speaker: median {np.median(halves):.2f}")
    for title, found in (("references", matrix), ("previews", made_matrix)):
        pairs = found[np.triu_indices(len(names), 1)]
        print(
            f"{title}: similarity of two voices median {np.median(pairs):.2f}, "
            f"5 % above {np.percentile(pairs, 95):.2f}, largest {pairs.max():.2f}"
        )


if __name__ == "__main__":
    main()
