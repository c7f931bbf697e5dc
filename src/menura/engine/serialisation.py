"""A voice as bytes: a version and one array for each field, without pickle."""

import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


def voice_to_bytes(voice: Any, version: int) -> bytes:
    """Return the fields of a voice, a dataclass of numbers and arrays, as bytes."""
    held = io.BytesIO()
    arrays = {field.name: np.asarray(getattr(voice, field.name)) for field in fields(voice)}
    np.savez_compressed(held, allow_pickle=False, version=np.asarray(version), **arrays)
    return held.getvalue()


def voice_from_bytes(
    data: bytes, kind: type, version: int, shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, float | NDArray[np.float32]]:
    """Return the fields of a voice that `voice_to_bytes` wrote.

    kind: the voice's dataclass. shapes: of its arrays; other fields are numbers. what: its name
    in errors. Raises ValueError on anything else, damaged or of another version.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            found = int(held["version"])
            arrays = {field.name: held[field.name] for field in fields(kind)}
    except Exception as error:
        raise ValueError(f"These bytes hold no {what} voice.") from error
    if found != version:
        raise ValueError(f"Voice version {found} is not {version}; measure the voice anew.")
    for name, array in arrays.items():
        if array.shape != shapes.get(name, ()) or not np.isfinite(array).all():
            raise ValueError(f"The voice's '{name}' is damaged.")
    return {
        name: array.astype(np.float32) if array.shape else float(array)
        for name, array in arrays.items()
    }
