"""What is judged: baselines, Menura's engines, any Python function, any folder of results."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation import world
from evaluation.corpus import Samples
from evaluation.pairs import Pair, read_clip

ROOT = Path(__file__).resolve().parent.parent
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


def _engine(name: str, level: int) -> Converter:
    from menura.engine.interface import LATENCY_PROFILES, ConversionSettings  # noqa: PLC0415
    from menura.engine.registry import engine_for  # noqa: PLC0415

    engine = engine_for(name)
    latency = LATENCY_PROFILES[level]
    voices: dict[str, object] = {}

    def convert(pair: Pair) -> Samples:
        if pair.target.name not in voices:
            voices[pair.target.name] = engine.measure([pair.target.reference]).voice
        voice = voices[pair.target.name]
        analysis = engine.analysis(latency)
        rendering = engine.rendering(voice, ConversionSettings(), 1, latency)  # type: ignore[arg-type]
        parts = []
        for start in range(0, len(pair.source), latency.chunk):
            features = analysis.push(pair.source[start : start + latency.chunk])
            parts.append(rendering.push(features))
        parts += [rendering.push(analysis.flush()), rendering.flush(len(pair.source))]
        return np.concatenate(parts).astype(np.float32)

    folder = ROOT / "src" / "menura" / "engine"
    label = name if level == 3 else f"{name}@{level}"
    return Converter(label, f"{label}-{_digest(folder.rglob('*'))}", convert)


def _other_speech(pair: Pair) -> Samples:
    if not pair.target.held_out:
        raise LeftOutError(f"{pair.target.name} has too little speech for a natural comparison")
    return pair.target.reference


def _function(spec: str) -> Converter:
    module, _, name = spec.partition(":")
    function = getattr(importlib.import_module(module), name)
    return Converter(
        spec.replace(":", "."),
        None,
        lambda pair: np.asarray(function(pair.source, pair.target.reference), dtype=np.float32),
    )


def _folder(folder: Path, name: str) -> Converter:
    def read(pair: Pair) -> Samples:
        for suffix in (".wav", ".flac", ".ogg", ".mp3"):
            path = folder / f"{pair.name}{suffix}"
            if path.is_file():
                return read_clip(path)
        raise LeftOutError(f"no {pair.name}.wav in {folder}")

    return Converter(name, None, read)


def converter(name: str, level: int = 3) -> Converter:
    """By name: `source`, `natural`, `world`, an engine's model id (`source_filter`, ...), or
    `module:function`, called with source and reference (24 kHz) and giving the result.

    level: 0 to 4, the latency level at which an engine streams. Raises ImportError, KeyError or
    the registry's own error for a name that nothing answers to.
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
    return _function(name) if ":" in name else _engine(name, level)


def from_folder(folder: Path, name: str) -> Converter:
    """Results made elsewhere, `<pair>.wav` each."""
    return _folder(folder, name)
