"""Pack the corpus once: int16 samples and F0 of every clip in three flat files, resumable.

    python -m training.prepare --corpus ../shared/corpus --out ../packed

Writes `waves.i16` (24 kHz), `f0.f32` (10 ms frames, 0 where unvoiced) and `index.jsonl` (one clip a
line, in the order of the files). Run again after an interruption: it goes on after the last whole
clip.

F0 is Praat's autocorrelation method (Boersma 1993), searched around each clip's median of the
manifest.
"""

import argparse
import io
import json
import tarfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import parselmouth
import soundfile
from evaluation.command_line import run
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import HOP, SAMPLE_RATE

SHARE_ALIKE = ("mimic3",)
"""Corpora whose licence asks that derived works be shared alike; left out unless asked for."""
ORDER = (
    "librispeech",
    "t145",
    "s2i",
    "ljspeech",
    "nathalie",
    "flemishguy",
    "kerstin",
    "arabic",
    "wakeword",
    "mimic3",
)
FLOOR_HZ, CEILING_HZ = 60.0, 700.0


def track_f0(
    samples: NDArray[np.float32], frames: int, median: float | None
) -> NDArray[np.float32]:
    """Return F0 in Hz at each frame's centre, 0 where unvoiced, shape (frames,)."""
    floor = max(FLOOR_HZ, median / 2.2) if median else FLOOR_HZ
    ceiling = min(CEILING_HZ, median * 2.4) if median else CEILING_HZ
    sound = parselmouth.Sound(np.pad(samples, 2_400).astype(np.float64), SAMPLE_RATE)
    pitch = sound.to_pitch_ac(
        time_step=HOP / SAMPLE_RATE,
        pitch_floor=floor,
        pitch_ceiling=ceiling,
        voicing_threshold=0.4,
    )
    values, times = pitch.selected_array["frequency"], pitch.xs()
    wanted = (np.arange(frames) * HOP + HOP // 2 + 2_400) / SAMPLE_RATE
    nearest = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    left, right = values[nearest - 1], values[nearest]
    share = (wanted - times[nearest - 1]) / (times[nearest] - times[nearest - 1])
    both = (left > 0) & (right > 0)
    between = np.exp(
        np.log(np.maximum(left, 1)) * (1 - share) + np.log(np.maximum(right, 1)) * share
    )
    return np.where(both, between, np.where(share < 0.5, left, right)).astype(np.float32)


def main() -> None:
    """Pack every clip of the corpora whose licence permits any use of the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    parser.add_argument("--out", type=Path, default=Path("../packed"))
    parser.add_argument("--share-alike", action="store_true", help="also pack share-alike corpora")
    parser.add_argument("--limit", type=int, default=None, help="clips per corpus")
    arguments = parser.parse_args()
    lines = (arguments.corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    wanted = [name for name in ORDER if arguments.share_alike or name not in SHARE_ALIKE]
    queue = []
    for name in wanted:
        queue += [row for row in rows if row["corpus"] == name][: arguments.limit]
    arguments.out.mkdir(parents=True, exist_ok=True)
    index = arguments.out / "index.jsonl"
    done = [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []
    seen = {row["path"] for row in done}
    samples_written = sum(row["samples"] for row in done)
    frames_written = sum(row["frames"] for row in done)
    archives: dict[str, tarfile.TarFile] = {}
    with (
        open(index, "a", encoding="utf-8") as index_file,
        open(arguments.out / "waves.i16", "ab") as waves,
        open(arguments.out / "f0.f32", "ab") as tracks,
        ExitStack() as opened,
    ):
        waves.truncate(samples_written * 2)
        tracks.truncate(frames_written * 4)
        for row in track([row for row in queue if row["path"] not in seen], "packing"):
            tar = row["tar"]
            if tar not in archives:
                archives[tar] = opened.enter_context(tarfile.open(arguments.corpus / tar))
            member = archives[tar].extractfile(row["path"])
            if member is None:
                raise FileNotFoundError(f"{row['path']} is not a file in {tar}")
            samples, rate = soundfile.read(io.BytesIO(member.read()), dtype="float32")
            if rate != SAMPLE_RATE:
                raise ValueError(f"{row['path']} has {rate} Hz, expected {SAMPLE_RATE}")
            frames = len(samples) // HOP
            samples = samples[: frames * HOP]
            f0 = track_f0(samples, frames, row.get("f0_median_hz"))
            waves.write((np.clip(samples, -1, 1) * 32_767).astype(np.int16).tobytes())
            tracks.write(f0.tobytes())
            waves.flush()
            tracks.flush()
            kept = ("path", "corpus", "speaker", "person", "language", "sex", "natural", "split")
            entry = {name: row.get(name) for name in (*kept, "text", "bandwidth_hz")}
            entry |= {"samples": len(samples), "frames": frames}
            index_file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            index_file.flush()


if __name__ == "__main__":
    run(main)
