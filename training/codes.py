"""The content codes of whole clips, as they lie in time."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from menura.engine.neural import mel as spectra_of
from menura.engine.neural.mel import MELS
from menura.engine.neural.networks import CODE, PATIENT, QUICK
from training.content import Content, load_content
from training.pack import Pack
from training.perturbation import perturbed

VIEWS = 2
"""Perturbed codes made of every clip beforehand, beside the plain one."""
SEED = 7

Array = NDArray[np.float32]


def codes_of(pack: Pack, content: Path, out: Path) -> None:
    """Write the codes of every clip, plain and perturbed in VIEWS ways, to `out` (float16); of the
    perturbed ones every other is read quickly."""
    model, prior = load_content(content)
    total = sum(clip.frames for clip in pack.clips)
    made = np.lib.format.open_memmap(out, "w+", np.float16, (1 + VIEWS, total, CODE))
    rng = np.random.default_rng(SEED)
    for clip in track(pack.clips, "codes"):
        wave, f0 = pack.wave(clip), pack.f0(clip)
        views = [spectra_of.log_mel(spectra_of.power(wave, clip.frames))]
        for view in range(VIEWS):
            low, high = -0.2 + 0.4 * view / VIEWS, -0.2 + 0.4 * (view + 1) / VIEWS
            warp = float(np.round(np.exp(rng.uniform(low, high)) * 40) / 40)
            views.append(perturbed(wave, f0, clip.frames, rng, warp))
        inputs = np.stack([settled(mel, prior) for mel in views])
        patient = np.arange(1 + VIEWS) % 2 == 0
        made[:, clip.start : clip.start + clip.frames] = coded(model, inputs, patient)
    made.flush()


def settled(mel: Array, prior: Array) -> Array:
    """Return what the content network is told of a clip, (frames, MELS + 1): log-mel less its mean
    as it is after a while, for which the clip is heard twice, and the level."""
    running = spectra_of.RunningMean(prior)
    running.push(mel)
    shape, relative = running.push(mel)
    return np.concatenate((shape, relative[:, None]), axis=1)


@torch.no_grad()
def coded(model: Content, heard: Array, patient: NDArray[np.bool_]) -> Array:
    """Return the codes of whole clips, (n, frames, MELS + 1) to (n, frames, CODE).

    patient: which are read PATIENT frames later rather than QUICK, (n,).
    """
    padded = torch.from_numpy(np.pad(heard, ((0, 0), (0, PATIENT), (0, 0)), mode="edge"))
    waits = torch.from_numpy(patient)
    with torch.autocast("cpu", torch.bfloat16):
        code, _ = model(*padded.split((MELS, 1), dim=-1), waits.float())
    return np.asarray(in_place(code.float(), waits).numpy())


def in_place(code: Tensor, patient: Tensor) -> Tensor:
    """Return codes moved to the frames they belong to, (batch, time, CODE) to (batch, time -
    PATIENT, CODE)."""
    count = code.shape[1] - PATIENT
    late, early = code[:, PATIENT:], code[:, QUICK : QUICK + count]
    return torch.where(patient[:, None, None] > 0, late, early)
