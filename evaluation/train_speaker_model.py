"""Trains the suite's own speaker model on the training people of the corpus.

    python -m evaluation.train_speaker_model --minutes 20

Each person counts three times: as recorded and at 0.9 and 1.1 of the speed, which shifts pitch and
formants together and so makes new people. Minutes are of one core; resumes from its last
checkpoint. At the end the suite's weights are replaced.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.command_line import run
from evaluation.corpus import CORPUS_RATE, Clip, Corpus
from evaluation.speaker_model import BANDS, EMBEDDING, RATE, WEIGHTS, SpeakerNet, mel_power

SPEEDS = (1.0, 0.9, 1.1)
CROP = 200
BATCH = 64
PEAK_RATE = 4e-3
MARGIN, SCALE = 0.15, 30.0
LARGEST_GUESSED_GROUP = 13

Frames = npt.NDArray[np.float16]


def training_clips(corpus: Corpus) -> list[Clip]:
    """Clips of people with at least 6 s. Wake words have no speaker labels; large automatic groups
    of s2i are probably several people."""
    kept = [c for c in corpus.clips if c.split == "train" and c.corpus != "wakeword"]
    count = Counter(c.person for c in kept if c.corpus == "s2i")
    kept = [c for c in kept if c.corpus != "s2i" or count[c.person] <= LARGEST_GUESSED_GROUP]
    seconds: Counter[str] = Counter()
    for clip in kept:
        seconds[clip.person] += math.ceil(clip.seconds)
    return [c for c in kept if seconds[c.person] >= 6]


def pack(corpus: Corpus, clips: list[Clip], folder: Path) -> list[tuple[str, Frames]]:
    """Log-mel frames of every person at every speed, computed once and kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    by_person: dict[str, list[Clip]] = {}
    for clip in clips:
        by_person.setdefault(clip.person, []).append(clip)
    packed = []
    for person, theirs in track(sorted(by_person.items()), "features"):
        chosen = theirs[:: max(1, len(theirs) // 60)]
        for speed in SPEEDS:
            path = folder / f"{person.replace('/', '_')}-{speed}.npy"
            if not path.exists():
                parts = []
                for clip in chosen:
                    wave = soxr.resample(corpus.read(clip), CORPUS_RATE, RATE / speed)
                    power = mel_power(wave)
                    level = 10.0 * np.log10(power.sum(axis=1) + 1e-10)
                    parts.append(np.log(power[level > level.max() - 35.0] + 1e-7))
                part = path.with_suffix(".part")
                with open(part, "wb") as file:
                    np.save(file, np.concatenate(parts).astype(np.float16))
                part.replace(path)
            packed.append((f"{person}@{speed}", np.load(path, mmap_mode="r")))
    return [(name, frames) for name, frames in packed if len(frames) > CROP]


def crop(frames: Frames, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A random stretch, with a random coloured noise floor and coarse blanking of bands."""
    start = rng.integers(0, len(frames) - CROP)
    log_mel = np.asarray(frames[start : start + CROP], dtype=np.float32)
    if rng.random() < 0.7:
        tilt = rng.uniform(-3.0, 1.0) * np.linspace(0.0, 1.0, BANDS)
        wobble = np.interp(np.arange(BANDS), np.linspace(0, BANDS, 6), rng.normal(0.0, 1.0, 6))
        floor = log_mel.max() - rng.uniform(4.0, 14.0) + tilt + wobble
        noise = floor + np.log(rng.gamma(2.0, 0.5, log_mel.shape) + 1e-3)
        log_mel = np.logaddexp(log_mel, noise).astype(np.float32)
    if rng.random() < 0.5:
        width = int(rng.integers(1, 10))
        first = int(rng.integers(0, BANDS - width))
        log_mel[:, first : first + width] = log_mel.mean()
    return log_mel


def margin_loss(vectors: Tensor, centres: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Cross-entropy of naming people, with an additive angular margin.

    vectors: unit vectors, (batch, EMBEDDING). centres: one row each, (people, EMBEDDING). labels:
    whose vectors they are, (batch,).
    """
    cosine = (vectors @ nn.functional.normalize(centres, dim=1).T).clamp(-0.999, 0.999)
    own = cosine.gather(1, labels[:, None])
    with_margin = torch.cos(torch.acos(own) + margin)
    return nn.functional.cross_entropy(
        SCALE * cosine.scatter(1, labels[:, None], with_margin), labels
    )


def train(minutes: float, work: Path, corpus: Corpus) -> None:
    """Train for so many minutes of one core: every two a checkpoint in `work`, at last WEIGHTS."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    people = pack(corpus, training_clips(corpus), work / "frames")
    # A person with much material is drawn more often, but not in proportion.
    weight = np.array([min(len(frames), 6000) ** 0.5 for _, frames in people])
    weight /= weight.sum()
    net = SpeakerNet()
    centres = nn.Parameter(0.1 * torch.randn(len(people), EMBEDDING))
    optimizer = torch.optim.AdamW([*net.parameters(), centres], lr=PEAK_RATE, weight_decay=1e-3)
    checkpoint = work / "checkpoint.pt"
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["net"])
        centres.data.copy_(saved["centres"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent"]
    began = saved_at = time.process_time()
    total, hits, losses = minutes * 60.0, 0.0, 0.0
    net.train()
    while (now := time.process_time() - began + spent) < total:
        done = now / total
        optimizer.param_groups[0]["lr"] = (
            PEAK_RATE * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        )
        chosen = rng.choice(len(people), BATCH, replace=False, p=weight)
        batch = torch.from_numpy(np.stack([crop(people[i][1], rng) for i in chosen]))
        labels = torch.from_numpy(chosen)
        vectors = net(batch)
        loss = margin_loss(vectors, centres, labels, MARGIN * min(1.0, done / 0.3))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            guess = (vectors @ nn.functional.normalize(centres, dim=1).T).argmax(dim=1)
        losses += 0.02 * (loss.item() - losses)
        hits += 0.02 * ((guess == labels).float().mean().item() - hits)
        if step % 50 == 0:
            print(f"{now:6.0f} s step {step} loss {losses:.2f} train hits {hits:.3f}", flush=True)
        if time.process_time() - saved_at > 120.0:
            saved_at = time.process_time()
            state = {
                "net": net.state_dict(),
                "centres": centres.data,
                "step": step,
                "optimizer": optimizer.state_dict(),
                "spent": now,
            }
            part = checkpoint.with_suffix(".part")
            torch.save(state, part)
            part.replace(checkpoint)
    export(net)


def export(net: SpeakerNet) -> None:
    """Write the weights in half precision."""
    save_file(
        {n: v.half() if v.is_floating_point() else v for n, v in net.state_dict().items()}, WEIGHTS
    )


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--work", type=Path, default=Path("evaluation/work/speaker-model"))
    parser.add_argument("--corpus", type=Path, default=None)
    options = parser.parse_args()
    train(options.minutes, options.work, Corpus(options.corpus))


if __name__ == "__main__":
    run(main)
