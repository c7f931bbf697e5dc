"""Predicted naturalness: DistillMOS and DNSMOS, whose weights lie in their wheels.

NISQA is not among them: no package that carries its weights is used here.
"""

from __future__ import annotations

import contextlib
import io
import sys
import types
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr
import torch

from evaluation.corpus import CORPUS_RATE, Samples

RATE = 16000
DNSMOS_SECONDS = 9.01


def _at_speech_level(samples: Samples) -> Samples:
    wave = soxr.resample(samples, CORPUS_RATE, RATE)
    level = float(np.sqrt(np.mean(wave**2) + 1e-12))
    return np.asarray(np.clip(wave * (0.05 / max(level, 1e-4)), -1.0, 1.0), dtype=np.float32)


@cache
def _distillmos() -> Any:
    # The package imports torchaudio, whose only builds need CUDA, for its command line alone.
    if find_spec("torchaudio") is None:
        sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    from distillmos import ConvTransformerSQAModel  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()):
        return ConvTransformerSQAModel().eval()


def distillmos(samples: Samples) -> float:
    """DistillMOS (Stahl and Gamper 2025), 1 to 5, of a 24 kHz clip."""
    with torch.inference_mode():
        return float(_distillmos()(torch.from_numpy(_at_speech_level(samples))[None]).item())


@cache
def _dnsmos() -> onnxruntime.InferenceSession:
    found = find_spec("speechmos")
    assert found is not None
    assert found.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = Path(found.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def dnsmos(samples: Samples) -> tuple[float, float, float]:
    """DNSMOS P.835 (Reddy et al. 2022): speech, background, overall, 1 to 5, of a 24 kHz clip.

    The raw scores go through the second-degree polynomials published with the model.
    """
    wave = _at_speech_level(samples)
    size = int(DNSMOS_SECONDS * RATE)
    while len(wave) < size:
        wave = np.concatenate([wave, wave])
    starts = range(0, len(wave) - size + 1, RATE)
    raw = np.mean(
        [_dnsmos().run(None, {"input_1": wave[None, s : s + size]})[0][0] for s in starts], axis=0
    )
    speech = np.polyval([-0.08397278, 1.22083953, 0.0052439], raw[0])
    background = np.polyval([-0.13166888, 1.60915514, -0.39604546], raw[1])
    overall = np.polyval([-0.06766283, 1.11546468, 0.04602535], raw[2])
    return float(speech), float(background), float(overall)
