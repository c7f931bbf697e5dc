"""The trained networks as onnxruntime sessions: read-only, shared by all streams of a process."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[np.float32]

LOOK_AHEAD = 3
"""Frames that a content code has heard beyond the frame it belongs to."""

SKIP_AHEAD = 1
"""Frames after its own whose mel a frame carries around the content network: the centres lie
nearest."""


@dataclass(frozen=True)
class Networks:
    """The four graphs and what else training decided.

    prior: mean level-free log-mel of speech, (80,). average: mean voice vector, (256,).
    """

    content: onnxruntime.InferenceSession
    decoder: onnxruntime.InferenceSession
    voice: onnxruntime.InferenceSession
    modulation: onnxruntime.InferenceSession
    prior: Array
    average: Array
    content_state: tuple[int, ...]
    decoder_state: tuple[int, ...]
    version: str


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_networks(folder: Path) -> Networks:
    """Return the networks of a folder that `training/export.py` wrote."""
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Networks(
        content=_session(folder / "content.onnx"),
        decoder=_session(folder / "decoder.onnx"),
        voice=_session(folder / "voice.onnx"),
        modulation=_session(folder / "modulation.onnx"),
        prior=np.asarray(facts["prior"], np.float32),
        average=np.asarray(facts["average"], np.float32),
        content_state=tuple(facts["content_state"]),
        decoder_state=tuple(facts["decoder_state"]),
        version=str(facts["version"]),
    )


@cache
def shipped_networks() -> Networks:
    """Return the networks inside the package."""
    with resources.as_file(resources.files("menura.engine.neural") / "weights") as folder:
        return load_networks(folder)
