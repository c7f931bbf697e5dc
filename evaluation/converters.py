"""What is judged: baselines, Menura's engines, any Python function, any folder of results."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation import world
from evaluation.corpus import Samples
from evaluation.pairs import Pair, read_clip
from menura.engine.interface import (
    LATENCY_PROFILES,
    RECORDING,
    ConversionSettings,
    Engine,
    LatencyProfile,
    Voice,
)
from menura.engine.neural import NeuralEngine
from menura.engine.registry import engine_for
from menura.engine.stream import ConversionStream

BASELINES = ("source", "natural", "world")


class LeftOutError(Exception):
    """This converter has nothing to say to this pair; the text says why."""


@dataclass(frozen=True)
class Converter:
    """A named conversion.

    signature: changes when its results would, so that kept results are never stale; None when
    they must not be kept.
    """

    name: str
    signature: str | None
    convert: Callable[[Pair], Samples]


def _digest(paths: Iterator[Path] | list[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file() and path.suffix not in {".pyc", ".part"}:
            total.update(path.name.encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


ALIASES = {"source_filter": "menura_source_filter_v1"}


LIVE = LATENCY_PROFILES[3]
"""How an engine streams unless told otherwise: in chunks of 20 ms."""


def _streamed(
    engine: Engine, label: str, latency: LatencyProfile, weights: Path | None = None
) -> Converter:
    voices: dict[str, Voice] = {}

    def convert(pair: Pair) -> Samples:
        if pair.target.name not in voices:
            voices[pair.target.name] = engine.measure([pair.target.reference]).voice
        voice = voices[pair.target.name]
        stream = ConversionStream(engine, voice, ConversionSettings(), latency, seed=1)
        parts = [
            stream.push(pair.source[start : start + latency.chunk])
            for start in range(0, len(pair.source), latency.chunk)
        ]
        return np.concatenate([*parts, stream.flush()])

    if latency is not LIVE:
        label = f"{label}@{'whole' if latency is RECORDING else latency.level}"
    # Engines share parts, so a change to any of them counts.
    package = Path(inspect.getfile(type(engine))).parent.parent
    kept = f"{label}-{_digest([*package.rglob('*'), *(weights.rglob('*') if weights else [])])}"
    return Converter(label, kept, convert)


def _engine(name: str, latency: LatencyProfile) -> Converter:
    if name == "neural" or name.startswith("neural="):
        folder = Path(name.partition("=")[2]) if "=" in name else None
        label = f"neural-{folder.name}" if folder else name
        return _streamed(NeuralEngine(folder), label, latency, folder)
    return _streamed(engine_for(ALIASES.get(name, name)), name, latency)


def _other_speech(pair: Pair) -> Samples:
    if not pair.target.held_out:
        raise LeftOutError(f"{pair.target.name} has too little speech for a natural comparison")
    return pair.target.reference


def _python(spec: str, latency: LatencyProfile) -> Converter:
    module, _, name = spec.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise ImportError(f"{module} has no {name}")
    if isinstance(found, type):
        return _streamed(found(), name, latency)
    return Converter(
        spec.replace(":", "."),
        None,
        lambda pair: np.asarray(found(pair.source, pair.target.reference), dtype=np.float32),
    )


def converter(name: str, latency: LatencyProfile = LIVE) -> Converter:
    """By name: `source`, `natural`, `world`, `source_filter`, `neural`, `neural=FOLDER` (weights
    exported there), any model id, or `module:name`.

    The latter is a class that makes an engine, or a function that is called with source and
    reference (24 kHz) and gives the result; its results are not kept.

    latency: how an engine streams. Raises ImportError, FileNotFoundError or ModelNotFound for a
    name that nothing answers to.
    """
    if name == "source":
        return Converter(name, None, lambda pair: pair.source)
    if name == "natural":
        return Converter(name, None, _other_speech)
    if name == "world":
        signature = f"world-{_digest([Path(world.__file__)])}"
        return Converter(
            name, signature, lambda pair: world.convert(pair.source, pair.target.reference)
        )
    return _python(name, latency) if ":" in name else _engine(name, latency)


def from_folder(folder: Path, name: str) -> Converter:
    """Results made elsewhere, `<pair>.wav` each. Raises FileNotFoundError for no such folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")

    def read(pair: Pair) -> Samples:
        for suffix in (".wav", ".flac", ".ogg", ".mp3"):
            path = folder / f"{pair.name}{suffix}"
            if path.is_file():
                return read_clip(path)
        raise LeftOutError(f"no {pair.name}.wav in {folder}")

    return Converter(name, None, read)
