"""Make labelled speech: free synthesisers read public-domain text, and say when each phone is.

    apt-get install flite festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k \\
        bible-kjv wamerican
    python -m training.speak --out ../spoken

The text is the King James Bible and, since its words are few, random rows of dictionary words. The
voices are those of Carnegie Mellon University (its free licence asks only that the notice be kept).
Writes a pack like `prepare.py`'s, with `labels.i8` (see `phones.py`). Run again after an
interruption: it goes on.
"""

import argparse
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from evaluation.command_line import run
from numpy.typing import NDArray
from rich.progress import track

from menura.engine.interface import HOP, SAMPLE_RATE
from training.phones import frame_labels

FLITE = ("slt", "rms", "awb", "kal16")
FESTIVAL = ("cmu_us_slt_arctic_hts", "kal_diphone", "ked_diphone")
SENTENCES = 900
"""Sentences per voice of flite, of 4.5 s on average; festival, which is slow, speaks a third."""
SEED = 3

Segments = list[tuple[str, float, float]]


def texts(count: int, seed: int) -> list[str]:
    """Return sentences: half verses of the Bible, half random words."""
    rng = random.Random(seed)
    told = subprocess.run(
        ["bible", "-f", "-l", "2000", "Gen1:1-Rev22:21"], capture_output=True, check=True, text=True
    ).stdout
    verses = []
    for line in told.splitlines():
        verse = re.sub(r"[^A-Za-z,.;:?!' ]", "", re.sub(r"^\S+ ", "", line))
        verses += [part.strip() for part in re.split(r"(?<=[:;.?!])", verse)]
    verses = [verse for verse in verses if 4 <= len(verse.split()) <= 16]
    words = Path("/usr/share/dict/words").read_text(encoding="utf-8").split()
    words = [word for word in words if re.fullmatch(r"[a-z]{3,12}", word)]
    return [
        rng.choice(verses)
        if rng.random() < 0.5
        else " ".join(rng.choice(words) for _ in range(rng.randint(4, 9))) + "."
        for _ in range(count)
    ]


def flite(voice: str, text: str, folder: Path) -> Segments:
    """Speak to `folder/speech.wav` and return the phones."""
    said = subprocess.run(
        ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(folder / "speech.wav")],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    segments, start = [], 0.0
    for item in said.split():
        name, end = item.rsplit(":", 1)
        segments.append((name, start, float(end)))
        start = float(end)
    return segments


def festival(voice: str, text: str, folder: Path) -> Segments:
    """Speak to `folder/speech.wav` and return the phones."""
    script = folder / "say.scm"
    script.write_text(
        f"(voice_{voice})\n"
        f'(set! said (utt.synth (Utterance Text "{text}")))\n'
        f'(utt.save.wave said "{folder}/speech.wav" "riff")\n'
        f'(utt.save.segs said "{folder}/phones.txt")\n'
    )
    subprocess.run(["festival", "-b", str(script)], capture_output=True, check=True)
    segments, start = [], 0.0
    for line in (folder / "phones.txt").read_text().splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0] != "separator":
            segments.append((fields[2], start, float(fields[0])))
            start = float(fields[0])
    return segments


def spoken(voice: str, text: str) -> tuple[NDArray[np.float32], Segments]:
    """Return 24 kHz samples at the corpus's level, and the phones."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        segments = (flite if voice in FLITE else festival)(voice, text, folder)
        samples, rate = soundfile.read(folder / "speech.wav", dtype="float32")
    samples = soxr.resample(samples, rate, SAMPLE_RATE)
    loud = np.sqrt(np.mean(samples**2) + 1e-9)
    return (samples * min(0.07 / loud, 0.98 / np.abs(samples).max())).astype(np.float32), segments


def main() -> None:
    """Speak until every voice has said its sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("../spoken"))
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="per voice of flite")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    index = arguments.out / "index.jsonl"
    done = [json.loads(line) for line in index.read_text().splitlines()] if index.exists() else []
    frames_written = sum(row["frames"] for row in done)
    queue = []
    for number, voice in enumerate((*FLITE, *FESTIVAL)):
        wanted = arguments.sentences // (1 if voice in FLITE else 3)
        for count, text in enumerate(texts(wanted, SEED + number)):
            queue.append((f"{voice}/{count}", voice, text))
    random.Random(SEED).shuffle(queue)
    with (
        open(index, "a", encoding="utf-8") as index_file,
        open(arguments.out / "waves.i16", "ab") as waves,
        open(arguments.out / "f0.f32", "ab") as tracks,
        open(arguments.out / "labels.i8", "ab") as labels,
    ):
        waves.truncate(frames_written * HOP * 2)
        tracks.truncate(frames_written * 4)
        labels.truncate(frames_written)
        for path, voice, text in track(queue[len(done) :], "speaking"):
            samples, segments = spoken(voice, text)
            frames = len(samples) // HOP
            waves.write((samples[: frames * HOP] * 32_767).astype(np.int16).tobytes())
            tracks.write(np.zeros(frames, np.float32).tobytes())
            labels.write(frame_labels(segments, frames).tobytes())
            entry = {"path": path, "corpus": "spoken", "speaker": voice, "person": voice}
            entry |= {"language": "en", "sex": None, "natural": False, "split": "train"}
            entry |= {"text": text, "bandwidth_hz": 7900, "frames": frames}
            for file in (waves, tracks, labels):
                file.flush()
            index_file.write(json.dumps(entry | {"samples": frames * HOP}) + "\n")
            index_file.flush()


if __name__ == "__main__":
    run(main)
