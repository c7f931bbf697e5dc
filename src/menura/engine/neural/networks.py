"""The trained networks as onnxruntime sessions: read-only, shared by all streams of a process."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from menura.engine.source_filter.spectrum import Array

QUICK, PATIENT = 3, 16
"""Frames that a content code has heard beyond the frame it belongs to: where little may be waited
for, and where more can."""
CODE = 64
"""Length of a content code."""


@dataclass(frozen=True)
class Networks:
    """The four graphs and what else training decided.

    content: log-mel to codes. keys: a voice's rows to what is compared with codes. modulation: a
    voice's means to how it steers the timbre network. timbre: codes and more to envelopes.
    prior: mean level-free log-mel of speech, (80,).
    """

    content: onnxruntime.InferenceSession
    keys: onnxruntime.InferenceSession
    modulation: onnxruntime.InferenceSession
    timbre: onnxruntime.InferenceSession
    prior: Array
    content_state: tuple[int, ...]
    timbre_state: tuple[int, ...]
    version: str


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_networks(folder: Path) -> Networks:
    """Return the networks of a folder that `training/export.py` wrote."""
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Networks(
        content=_session(folder / "content.onnx"),
        keys=_session(folder / "keys.onnx"),
        modulation=_session(folder / "modulation.onnx"),
        timbre=_session(folder / "timbre.onnx"),
        prior=np.asarray(facts["prior"], np.float32),
        content_state=tuple(facts["content_state"]),
        timbre_state=tuple(facts["timbre_state"]),
        version=str(facts["version"]),
    )


@cache
def shipped_networks() -> Networks:
    """Return the networks inside the package."""
    with resources.as_file(resources.files("menura.engine.neural") / "weights") as folder:
        return load_networks(folder)
