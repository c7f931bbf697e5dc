"""The trained networks as onnxruntime sessions: read-only, shared by all streams of a process."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from menura.engine.interface import HOP
from menura.engine.source_filter.spectrum import Array

QUICK, PATIENT = 3, 16
"""Frames that a content code has heard beyond the frame it belongs to: where little may be waited
for, and where more can."""
CODE = 64
"""Length of a content code."""


@dataclass(frozen=True)
class TimbreNetwork:
    """One timbre network: its graphs and what is to be known of them.

    keys: a voice's rows to what is compared with codes. modulation: a voice's means to how it
    steers the network. timbre: codes and more to envelopes. ahead: frames that it has heard beyond
    the one it tells of.
    """

    keys: onnxruntime.InferenceSession
    modulation: onnxruntime.InferenceSession
    timbre: onnxruntime.InferenceSession
    state: tuple[int, ...]
    ahead: int


@dataclass(frozen=True)
class Networks:
    """All graphs and what else training decided.

    content: log-mel to codes. quick, patient: timbre networks for where nothing may be waited for,
    and for where it can. prior: mean level-free log-mel of speech, (80,).
    """

    content: onnxruntime.InferenceSession
    quick: TimbreNetwork
    patient: TimbreNetwork
    prior: Array
    content_state: tuple[int, ...]
    version: str

    def timbre(self, chunk: int) -> TimbreNetwork:
        """Return the timbre network for chunks of so many samples: the patient one where it waits
        for just one of them."""
        return self.patient if chunk == self.patient.ahead * HOP else self.quick


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
    timbres = {
        name: TimbreNetwork(
            keys=_session(folder / f"{name}_keys.onnx"),
            modulation=_session(folder / f"{name}_modulation.onnx"),
            timbre=_session(folder / f"{name}_timbre.onnx"),
            state=tuple(facts[name]["state"]),
            ahead=int(facts[name]["ahead"]),
        )
        for name in ("quick", "patient")
    }
    return Networks(
        content=_session(folder / "content.onnx"),
        **timbres,
        prior=np.asarray(facts["prior"], np.float32),
        content_state=tuple(facts["content_state"]),
        version=str(facts["version"]),
    )


@cache
def shipped_networks() -> Networks:
    """Return the networks inside the package."""
    with resources.as_file(resources.files("menura.engine.neural") / "weights") as folder:
        return load_networks(folder)
