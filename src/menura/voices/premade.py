"""The voices that come with Menura: cards, reference clips and previews in the package."""

import base64
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from menura.engine.interface import Engine
from menura.voices.voice import Voice

_FOLDER = files("menura.voices") / "premade"


@dataclass(frozen=True, slots=True)
class Premade:
    """A premade voice and where it comes from."""

    voice: Voice
    aliases: tuple[str, ...]
    references: tuple[str, ...]
    preview: str
    source: str
    speaker: str
    licence: str
    attribution: str


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((_FOLDER / "premade.json").read_text(encoding="utf-8"))
    return document


@cache
def premade_voices() -> dict[str, Premade]:
    """Return every premade voice by its id, in the order they are listed."""
    return {
        entry["voice_id"]: Premade(
            voice=Voice(
                voice_id=entry["voice_id"],
                own_id=entry["voice_id"],
                name=entry["name"],
                category="premade",
                description=entry["description"],
                labels=entry["labels"],
            ),
            aliases=tuple(entry["aliases"]),
            references=tuple(clip["file"] for clip in entry["references"]),
            preview=entry["preview"],
            source=entry["source"],
            speaker=entry["speaker"],
            licence=entry["licence"],
            attribution=entry["attribution"],
        )
        for entry in _document()["voices"]
    }


@cache
def aliases() -> dict[str, str]:
    """Return the ids that clients know by heart and the premade voice each stands for."""
    return {
        alias: voice_id
        for voice_id, premade in premade_voices().items()
        for alias in premade.aliases
    }


def own_id(voice_id: str) -> str:
    """Return the one id that a voice is listed under."""
    return aliases().get(voice_id, voice_id)


def ids_of(voice_id: str) -> tuple[str, ...]:
    """Return all ids under which that voice is known, its own and its aliases."""
    premade = find_premade(voice_id)
    return (voice_id,) if premade is None else (premade.voice.own_id, *premade.aliases)


def find_premade(voice_id: str) -> Premade | None:
    """Return the premade voice of that id or alias."""
    return premade_voices().get(own_id(voice_id))


@cache
def _measured() -> dict[str, dict[str, str]]:
    measured: dict[str, dict[str, str]] = json.loads(
        (_FOLDER / "measured.json").read_text(encoding="utf-8")
    )
    return measured


def measured_premade(voice_id: str, engine: Engine) -> bytes | None:
    """Return a premade voice as this version of an engine measured it when Menura was built.

    None for another version; then it has to be measured from the reference clips.
    """
    voices = _measured().get(f"{engine.name} {engine.version}", {})
    return base64.b64decode(voices[voice_id]) if voice_id in voices else None


def premade_file(name: str) -> Traversable:
    """Return a clip of the package."""
    return _FOLDER / name


def example_clip(gender: str | None) -> Traversable:
    """Return the recording that previews are converted from, for a voice of that gender."""
    examples = _document()["examples"]
    return premade_file(examples["male" if gender == "male" else "female"]["file"])
