import base64
import json
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from tests.sounds import decoded, seconds_of
from tools import premade_voices as premade_voices_tool

from menura.engine.registry import MODELS, engine_for
from menura.voices.premade import (
    aliases,
    example_clip,
    find_premade,
    measured_premade,
    premade_file,
    premade_voices,
)
from menura.voices.preview import make_preview
from menura.voices.references import Reference, measure

WELL_KNOWN = {
    "JBFqnCBsd6RMkjVDRZzb": "male",
    "21m00Tcm4TlvDq8ikWAM": "female",
    "CwhRBWXzGAHq8TQ4Fs17": "male",
    "IKne3meq5aSn9XLyUdCD": "male",
    "SAz9YHcvj6GT2YYXdXww": "neutral",
    "XB0fDUnXU5powFXDhCwa": "female",
    "XrExE9yKIg1WjnnlVkGX": "female",
    "cgSgspJ2msm6clMCkdW9": "female",
    "iP95p4xoKVk53GoZ742B": "male",
    "onwK4e9ZLuTAKqWW03F9": "male",
    "pqHfZKP75CvOlQylNhV4": "male",
    "EXAVITQu4vr4xnSDxMaL": "female",
    "9BWtsMINqrJLrRacOk9x": "female",
    "FGY2WhTYpPnrIDTdsKH5": "female",
    "N2lVS1w4EtoT3dr4eOWO": "male",
    "TX3LPaxmHKxFdv7VOQHJ": "male",
    "Xb7hH8MSUJpSbSDYk0k2": "female",
    "bIHbv24MWmeRgasZH58o": "male",
    "cjVigY5qzO86Huf0OWal": "male",
    "nPczCjzI2devNBz1zQrb": "male",
    "pFZP5JQG7iQjIQuC4Bku": "female",
}
"""The ids that copied examples use, and the gender each promises."""

PREMADE = list(premade_voices().values())


def test_every_well_known_id_stands_for_a_voice_of_that_gender() -> None:
    assert set(aliases()) == set(WELL_KNOWN)
    for alias, gender in WELL_KNOWN.items():
        premade = find_premade(alias)
        assert premade is not None
        assert premade.voice.labels["gender"] == gender
    assert len(set(aliases().values())) == len(WELL_KNOWN)


def test_the_set_is_varied_and_labelled() -> None:
    assert len(PREMADE) >= 20
    assert len({premade.voice.name for premade in PREMADE}) == len(PREMADE)
    for premade in PREMADE:
        assert re.fullmatch(r"[A-Za-z0-9]{20}", premade.voice.voice_id)
        assert set(premade.voice.labels) == {
            "language", "accent", "gender", "age", "use_case", "description",
        }  # fmt: skip
        assert premade.voice.description
    for label, least in (("gender", 3), ("age", 3), ("language", 3), ("use_case", 4)):
        assert len({premade.voice.labels[label] for premade in PREMADE}) >= least


def test_ids_never_change() -> None:
    """Clients store them."""
    bittern = next(premade for premade in PREMADE if premade.voice.name == "Bittern")
    assert bittern.voice.voice_id == "lPgBMmayLXPNvKZinRNO"


def test_only_licences_that_allow_it() -> None:
    allowed = {"CC-BY-4.0", "CC0-1.0", "public domain"}
    for premade in PREMADE:
        assert premade.licence in allowed
        assert premade.source
        assert premade.attribution


@pytest.mark.parametrize("premade", PREMADE, ids=lambda premade: premade.voice.name)
def test_clips_and_previews_are_there(premade: object) -> None:
    found = find_premade(premade.voice.voice_id)  # type: ignore[attr-defined]
    assert found is not None
    reference = sum(seconds_of(premade_file(name).read_bytes()) for name in found.references)
    assert 10 <= reference <= 60
    preview = premade_file(found.preview).read_bytes()
    example = seconds_of(example_clip(found.voice.labels["gender"]).read_bytes())
    assert abs(seconds_of(preview) - example) < 0.06


def test_the_package_stays_small() -> None:
    size = sum(len(file.read_bytes()) for file in premade_file("").iterdir() if file.is_file())
    assert size < 5_500_000


@pytest.mark.parametrize("model_id", [model["model_id"] for model in MODELS])
def test_shipped_measurements_are_of_the_present_engines(model_id: str) -> None:
    """`python tools/premade_voices.py --measure` renews them."""
    engine = engine_for(model_id)
    for voice_id in premade_voices():
        data = measured_premade(voice_id, engine)
        assert data is not None
        assert engine.load_voice(data).to_bytes() == data


def test_a_shipped_measurement_sounds_like_a_fresh_one() -> None:
    """`python tools/premade_voices.py --measure` renews the shipped ones."""
    engine = engine_for()
    premade = PREMADE[0]
    references = [Reference(name, premade_file(name)) for name in premade.references]
    fresh = measure(engine, references, max_seconds=0, permit=nullcontext).measurement.voice
    data = measured_premade(premade.voice.voice_id, engine)
    assert data is not None
    one, other = (
        decoded(make_preview(engine, voice, "male", nullcontext))
        for voice in (engine.load_voice(data), fresh)
    )
    assert np.corrcoef(one, other)[0, 1] > 0.99


def test_the_tool_that_measures_them_anew_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    premade = PREMADE[0]
    voice_id = premade.voice.voice_id
    monkeypatch.setattr(premade_voices_tool, "TARGET", tmp_path)
    monkeypatch.setattr(premade_voices_tool, "premade_voices", lambda: {voice_id: premade})
    premade_voices_tool.write_measurements()
    measured = json.loads((tmp_path / "measured.json").read_text("utf-8"))
    engine = engine_for()
    data = base64.b64decode(measured[f"{engine.name} {engine.version}"][voice_id])
    engine.load_voice(data)
    assert seconds_of((tmp_path / premade.preview).read_bytes()) > 2


def test_another_version_of_an_engine_finds_no_measurement() -> None:
    class Newer:
        name = engine_for().name
        version = "another"

    assert measured_premade(next(iter(premade_voices())), Newer()) is None  # type: ignore[arg-type]


def test_the_document_names_every_voice_and_alias() -> None:
    document = (Path(__file__).parents[2] / "docs" / "voices.md").read_text(encoding="utf-8")
    for premade in PREMADE:
        row = next(line for line in document.splitlines() if premade.voice.voice_id in line)
        assert row.startswith(f"| {premade.voice.name} |")
        assert f"{premade.voice.labels['language']}, {premade.voice.labels['accent']}" in row
        assert premade.voice.labels["use_case"] in row
    for alias, voice_id in aliases().items():
        row = next(line for line in document.splitlines() if alias in line)
        assert row.endswith(f"| {premade_voices()[voice_id].voice.name} |")


def test_example_clips_hold_speech() -> None:
    for gender in ("male", "female", "neutral", None):
        assert np.abs(decoded(example_clip(gender).read_bytes())).max() >= 0.05
