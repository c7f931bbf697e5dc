"""Rebuild the premade voices from the speech corpus: references, `premade.json` and previews.

    python tools/premade_voices.py [--corpus FOLDER]   all of it
    python tools/premade_voices.py --measure           after a change of an engine: no corpus needed

Only recordings whose licence allows it are taken: LibriSpeech (CC BY 4.0), the LJ Speech Dataset
(public domain) and the Rhasspy voices kerstin, nathalie and flemishguy (CC0), all from the part of
the corpus meant for training. The clips are copied byte for byte. A preview is an example clip
converted by Menura itself into the voice.
"""

import argparse
import base64
import hashlib
import json
import os
import string
import tarfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from menura.engine.registry import MODELS, engine_for
from menura.voices.premade import premade_file, premade_voices
from menura.voices.preview import make_preview
from menura.voices.references import Reference, measure

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "menura" / "voices" / "premade"
SECONDS = 20.0
"""Reference wanted of one voice, where the corpus has as much."""

SOURCES = {
    "librispeech": (
        "LibriSpeech ASR corpus, openslr.org/12",
        "CC-BY-4.0",
        "(c) 2014 Vassil Panayotov",
    ),
    "ljspeech": ("The LJ Speech Dataset", "public domain", "K. Ito and L. Johnson"),
    "kerstin": ("rhasspy/dataset-voice-kerstin", "CC0-1.0", "Rhasspy project and volunteers"),
    "nathalie": ("rhasspy/dataset-voice-nathalie", "CC0-1.0", "Rhasspy project and volunteers"),
    "flemishguy": ("rhasspy/dataset-voice-flemishguy", "CC0-1.0", "Rhasspy project and volunteers"),
}

EXAMPLES = {"female": "ljspeech/LJ001-0028", "male": "librispeech/481-123719-0000"}
"""Clips that previews are made from."""

NOT_TAKEN = {"ljspeech/LJ001-0025", *EXAMPLES.values()}
"""Clips that serve elsewhere as something to be converted."""


@dataclass(frozen=True)
class Choice:
    """One voice: its speaker in the corpus and how it strikes a listener."""

    name: str
    speaker: str
    gender: str
    age: str
    use_case: str
    character: str
    description: str
    accent: str = "american"
    language: str = "en"
    aliases: tuple[str, ...] = field(default=())


CHOICES = (
    Choice(
        "Bittern", "librispeech:4397", "male", "middle_aged", "narrative_story", "deep",
        "Very low and resonant, unhurried.", aliases=("nPczCjzI2devNBz1zQrb",),
    ),
    Choice(
        "Raven", "librispeech:7447", "male", "old", "narrative_story", "dark",
        "Low, dark and worn, an old storyteller.", aliases=("pqHfZKP75CvOlQylNhV4",),
    ),
    Choice(
        "Heron", "librispeech:2136", "male", "middle_aged", "news", "grave",
        "Low, calm and even, with authority.", aliases=("onwK4e9ZLuTAKqWW03F9",),
    ),
    Choice(
        "Kestrel", "librispeech:405", "male", "middle_aged", "informative_educational", "crisp",
        "Low with a bright edge, precise.", aliases=("CwhRBWXzGAHq8TQ4Fs17",),
    ),
    Choice(
        "Crane", "librispeech:5750", "male", "middle_aged", "characters_animation", "intense",
        "Low to middle, dense and close.", aliases=("N2lVS1w4EtoT3dr4eOWO",),
    ),
    Choice(
        "Falcon", "librispeech:446", "male", "middle_aged", "narrative_story", "warm",
        "Middle-low, warm and mature.", aliases=("JBFqnCBsd6RMkjVDRZzb",),
    ),
    Choice(
        "Merlin", "librispeech:8419", "male", "middle_aged", "conversational", "casual",
        "Middle, bright and airy, easy-going.", aliases=("iP95p4xoKVk53GoZ742B",),
    ),
    Choice(
        "Rook", "librispeech:4788", "male", "middle_aged", "conversational", "mellow",
        "Middle, soft and mellow.", aliases=("IKne3meq5aSn9XLyUdCD",),
    ),
    Choice(
        "Starling", "librispeech:8108", "male", "young", "social_media", "friendly",
        "Middle-high, clear and friendly.", aliases=("bIHbv24MWmeRgasZH58o",),
    ),
    Choice(
        "Martin", "librispeech:3436", "male", "middle_aged", "conversational", "smooth",
        "A smooth tenor.", aliases=("cjVigY5qzO86Huf0OWal",),
    ),
    Choice(
        "Finch", "librispeech:2033", "male", "young", "social_media", "energetic",
        "High for a man, clear and energetic.", aliases=("TX3LPaxmHKxFdv7VOQHJ",),
    ),
    Choice(
        "Sparrow", "flemishguy:flemishguy", "male", "young", "conversational", "soft",
        "High and soft, close to the microphone.", accent="flemish", language="nl",
    ),
    Choice(
        "Swift", "librispeech:4267", "male", "young", "characters_animation", "light",
        "The highest of the male voices, light and quick.",
    ),
    Choice(
        "Dove", "librispeech:1263", "neutral", "middle_aged", "conversational", "relaxed",
        "Between the registers, relaxed.", aliases=("SAz9YHcvj6GT2YYXdXww",),
    ),
    Choice(
        "Avocet", "librispeech:6064", "female", "middle_aged", "social_media", "expressive",
        "Low for a woman, lively.", aliases=("9BWtsMINqrJLrRacOk9x",),
    ),
    Choice(
        "Plover", "kerstin:kerstin", "female", "middle_aged", "informative_educational", "neutral",
        "Low to middle, plain and clear.", accent="standard", language="de",
    ),
    Choice(
        "Tawny", "librispeech:7517", "female", "middle_aged", "narrative_story", "warm",
        "Low to middle, dark and warm.", aliases=("XrExE9yKIg1WjnnlVkGX",),
    ),
    Choice(
        "Ibis", "nathalie:nathalie", "female", "middle_aged", "narrative_story", "velvety",
        "Middle, round and close.", accent="dutch", language="nl",
        aliases=("pFZP5JQG7iQjIQuC4Bku",),
    ),
    Choice(
        "Wren", "librispeech:3982", "female", "young", "narrative_story", "calm",
        "Middle, clear and calm.", aliases=("21m00Tcm4TlvDq8ikWAM",),
    ),
    Choice(
        "Jay", "librispeech:1116", "female", "middle_aged", "news", "brilliant",
        "Middle and very bright, sharply articulated.", aliases=("Xb7hH8MSUJpSbSDYk0k2",),
    ),
    Choice(
        "Linnet", "librispeech:5778", "female", "young", "characters_animation", "soft",
        "Middle, soft and dark.", aliases=("XB0fDUnXU5powFXDhCwa",),
    ),
    Choice(
        "Mavis", "librispeech:6818", "female", "young", "informative_educational", "gentle",
        "Middle-high, gentle and reassuring.", aliases=("EXAVITQu4vr4xnSDxMaL",),
    ),
    Choice(
        "Robin", "librispeech:1926", "female", "young", "social_media", "bright",
        "Middle-high and bright, quick.", aliases=("FGY2WhTYpPnrIDTdsKH5",),
    ),
    Choice(
        "Lark", "ljspeech:lj", "female", "young", "narrative_story", "brilliant",
        "High, brilliant and articulate, full bandwidth.", aliases=("cgSgspJ2msm6clMCkdW9",),
    ),
    Choice(
        "Oriole", "librispeech:8014", "female", "young", "characters_animation", "mild",
        "High, soft and mild.",
    ),
    Choice(
        "Siskin", "librispeech:1898", "female", "young", "characters_animation", "girlish",
        "The highest of the voices, thin and bright.",
    ),
)  # fmt: skip


def stable_id(name: str) -> str:
    """Return the 20-character id of a premade voice, the same in every rebuild."""
    alphabet = string.ascii_letters + string.digits
    number = int.from_bytes(hashlib.sha256(f"menura premade voice {name}".encode()).digest(), "big")
    digits = []
    for _ in range(20):
        number, digit = divmod(number, len(alphabet))
        digits.append(alphabet[digit])
    return "".join(digits)


class Corpus:
    """The clips of the corpus folder: manifest rows and their bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        lines = (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._tars: dict[str, tarfile.TarFile] = {}

    def clips(self, speaker: str) -> list[dict[str, Any]]:
        """Return a speaker's cleanest clips, `SECONDS` in all or everything there is."""
        rows = [
            row
            for row in self.rows
            if row["speaker"] == speaker
            and row["split"] == "train"
            and row["seconds"] >= 3
            and row["path"].removesuffix(".opus") not in NOT_TAKEN
        ]
        rows.sort(key=lambda row: (-row["bandwidth_hz"] // 500, -row["snr_db"], row["path"]))
        taken: list[dict[str, Any]] = []
        for row in rows:
            if sum(clip["seconds"] for clip in taken) + row["seconds"] <= SECONDS + 3:
                taken.append(row)
        return taken

    def clip(self, path: str) -> dict[str, Any]:
        """Return the row of one clip by its path without ending."""
        return next(row for row in self.rows if row["path"] == f"{path}.opus")

    def read(self, row: dict[str, Any]) -> bytes:
        """Return a clip's Ogg Opus file."""
        tar = self._tars.get(row["tar"])
        if tar is None:
            tar = self._tars[row["tar"]] = tarfile.open(self.root / row["tar"])  # noqa: SIM115
        member = tar.extractfile(row["path"])
        if member is None:
            raise FileNotFoundError(row["path"])
        return member.read()


def write_references(corpus: Corpus) -> None:
    """Write the reference clips, the example clips and `premade.json`."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.opus"):
        old.unlink()
    voices = []
    for choice in CHOICES:
        source, licence, author = SOURCES[choice.speaker.split(":")[0]]
        clips = []
        for number, row in enumerate(corpus.clips(choice.speaker), start=1):
            file_name = f"{choice.name.lower()}_{number}.opus"
            (TARGET / file_name).write_bytes(corpus.read(row))
            clip = Path(row["path"]).stem
            clips.append({"file": file_name, "clip": clip, "seconds": row["seconds"]})
        voices.append(
            {
                "voice_id": stable_id(choice.name),
                "name": choice.name,
                "description": choice.description,
                "labels": {
                    "language": choice.language,
                    "accent": choice.accent,
                    "gender": choice.gender,
                    "age": choice.age,
                    "use_case": choice.use_case,
                    "description": choice.character,
                },
                "aliases": list(choice.aliases),
                "references": clips,
                "preview": f"{choice.name.lower()}_preview.mp3",
                "speaker": choice.speaker,
                "source": source,
                "licence": licence,
                "attribution": author,
            }
        )
    examples = {}
    for gender, path in EXAMPLES.items():
        row = corpus.clip(path)
        file_name = f"example_{gender}.opus"
        (TARGET / file_name).write_bytes(corpus.read(row))
        source, licence, author = SOURCES[row["corpus"]]
        examples[gender] = {
            "file": file_name,
            "clip": Path(path).name,
            "source": source,
            "licence": licence,
            "attribution": author,
        }
    document = {"examples": examples, "voices": voices}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (TARGET / "premade.json").write_text(text + "\n", encoding="utf-8")


def write_measurements() -> None:
    """Write every voice as each engine measures it now, and an example of the default engine."""
    default = engine_for()
    engines = {engine_for(model["model_id"]) for model in MODELS}
    measured: dict[str, dict[str, str]] = {}
    for engine in sorted(engines, key=lambda engine: engine.name):
        voices = measured[f"{engine.name} {engine.version}"] = {}
        for voice_id, premade in premade_voices().items():
            references = [Reference(name, premade_file(name)) for name in premade.references]
            measurement = measure(engine, references, max_seconds=0, permit=nullcontext).measurement
            voices[voice_id] = base64.b64encode(measurement.voice.to_bytes()).decode()
            print(engine.name, premade.voice.name, *measurement.warnings)
            if engine is default:
                gender = premade.voice.labels["gender"]
                preview = make_preview(engine, measurement.voice, gender, nullcontext)
                (TARGET / premade.preview).write_bytes(preview)
    text = json.dumps(measured, indent=1)
    (TARGET / "measured.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run the steps the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Rebuild the premade voices that Menura is shipped with."
    )
    default = Path(os.environ.get("MENURA_CORPUS", ROOT.parent / "shared" / "corpus"))
    parser.add_argument("--corpus", type=Path, default=default, help="folder of the speech corpus")
    parser.add_argument(
        "--measure", action="store_true", help="keep the clips, only measure them anew (no corpus)"
    )
    arguments = parser.parse_args()
    if not arguments.measure:
        if not (arguments.corpus / "manifest.jsonl").is_file():
            parser.error(
                f"no speech corpus at {arguments.corpus}: name it with --corpus or MENURA_CORPUS"
            )
        write_references(Corpus(arguments.corpus))
    write_measurements()


if __name__ == "__main__":
    main()
