"""The training recipe from clips to shipped graphs, on a tiny set made here."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("faster_whisper", reason="training needs the extra 'training' (Whisper)")
pytest.importorskip("parselmouth", reason="training needs the extra 'training' (praat-parselmouth)")

import soundfile
import torch
from safetensors.torch import load_file, save_file
from training.alignment import aligned
from training.pack import Pack
from training.phones import CLASSES, UNKNOWN, frame_labels

from evaluation import command_line
from menura.engine.interface import HOP, LATENCY_PROFILES, ConversionSettings
from menura.engine.neural import NeuralEngine, networks
from menura.engine.neural import mel as spectra_of
from menura.engine.neural.networks import PATIENT, QUICK
from menura.engine.stream import ConversionStream
from training import (
    codes,
    content,
    envelopes,
    export,
    graphs,
    label,
    lessons,
    listener,
    polish,
    prepare,
    reader,
    teacher,
    timbre,
    witness,
)

pytestmark = pytest.mark.filterwarnings("ignore")
"""torch's exporter warns of its own parts."""

RATE = 24_000
WEIGHTS = Path(networks.__file__).parent / "weights"
CHECKPOINTS = Path(export.__file__).parent / "checkpoints"


def vowels(seed: int, pitch: float, seconds: float = 3.0) -> np.ndarray:
    """Return pulses through slowly moving resonances, with pauses: speech enough for a tracker."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    f0 = pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    sound = np.zeros(len(time))
    for harmonic in range(1, int(7_000 / pitch)):
        hertz = harmonic * f0
        formant = 600 + 300 * np.sin(2 * np.pi * 1.3 * time + seed)
        gain = 1 / (1 + ((hertz - formant) / 150) ** 2) + 0.2 / (1 + ((hertz - 2_200) / 300) ** 2)
        sound += gain * np.sin(harmonic * phase)
    sound *= (np.sin(2 * np.pi * 1.1 * time + seed) > -0.7) * 0.1 / np.abs(sound).max() * 3
    return (sound + 1e-3 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    with tarfile.open(folder / "t145.tar", "w") as tar:
        for speaker in range(5):
            for sentence in range(2):
                held = io.BytesIO()
                samples = vowels(10 * sentence + speaker, 100.0 + 30 * speaker)
                soundfile.write(held, samples, RATE, format="FLAC")
                info = tarfile.TarInfo(f"t145/p{speaker}_{sentence}.flac")
                info.size = len(held.getvalue())
                held.seek(0)
                tar.addfile(info, held)
                rows.append(
                    {
                        "path": info.name,
                        "tar": "t145.tar",
                        "corpus": "t145",
                        "speaker": f"t145:p{speaker}",
                        "person": f"p{speaker}",
                        "split": "valid" if speaker == 4 else "train",
                        "text": f"sentence {sentence}",
                        "natural": False,
                        "bandwidth_hz": 8_000 if speaker % 2 else 12_000,
                        "f0_median_hz": 100.0 + 30 * speaker,
                    }
                )
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    out = folder / "packed"
    run("prepare", prepare.main, "--corpus", str(folder), "--out", str(out))
    size = (out / "waves.i16").stat().st_size
    run("prepare", prepare.main, "--corpus", str(folder), "--out", str(out))
    assert (out / "waves.i16").stat().st_size == size, "a second run must add nothing"
    for _ in range(2):
        run("envelopes", envelopes.main, "--pack", str(out))
    frames = sum(clip.frames for clip in Pack(out).clips)
    assert (out / "envelope.f16").stat().st_size == 2 * envelopes.ROW * frames
    # A phone of 0.2 s by turns, whose sound the network can only learn by heart.
    labels = (np.arange(frames) // 20 % (CLASSES - 1)).astype(np.int8)
    labels.tofile(out / "labels.i8")
    # A teacher that hears the phone, and too much of who says it.
    rng = np.random.default_rng(1)
    sounds = rng.normal(0, 1.0, (CLASSES, lessons.WIDTH))
    people: dict[str, np.ndarray] = {}
    told = []
    for clip in Pack(out).clips:
        person = people.setdefault(clip.person, rng.normal(0, 3.0, lessons.WIDTH))
        said = labels[clip.start : clip.start + clip.frames : 2]
        told.append(sounds[said] + person + rng.normal(0, 0.5, (len(said), lessons.WIDTH)))
    np.concatenate(told).astype(np.float16).tofile(out / "heard.f16")
    run("lessons", lessons.main, "--pack", str(out))
    return out


def run(name: str, main: Callable[[], None], *arguments: str) -> None:
    """Run a script of the recipe with a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        main()


@pytest.fixture(scope="module")
def heard(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A content network after a few steps."""
    folder = tmp_path_factory.mktemp("content")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "BATCH", 3)
        patch.setattr(content, "WARM_UP", 1)
        trainer = content.Trainer([packed], folder, seed=1)
        losses = [trainer.advance(400)["entropy"] for _ in range(28)]
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:2]), losses
    trainer.save()
    return folder


@pytest.fixture(scope="module")
def trained(packed: Path, heard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timbre network after a few steps."""
    folder = tmp_path_factory.mktemp("timbre")
    codes.codes_of(Pack(packed), heard / "content.safetensors", folder / "codes.npy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timbre, "BATCH", 4)
        patch.setattr(timbre, "WARM_UP", 1)
        trainer = timbre.Trainer(packed, folder / "codes.npy", folder, seed=1)
        losses = [trainer.advance(400)["loss"] for _ in range(16)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:2]), losses
    trainer.save()
    return folder


@pytest.fixture(scope="module")
def critics(
    packed: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Path], list[Path]]:
    """Both readers and both listeners after a few steps."""
    folder, other = (tmp_path_factory.mktemp(name) for name in ("critics", "others"))
    with pytest.MonkeyPatch.context() as patch:
        for module in (reader, listener):
            patch.setattr(module, "BATCH", 4)
            patch.setattr(module, "WARM_UP", 1)
        for trainer in (
            reader.Trainer(packed, folder, seed=1),
            reader.Trainer(packed, other, seed=1, glance=True),
            listener.Trainer(packed, folder, seed=1),
            listener.Trainer(packed, other, seed=1, movement=True),
        ):
            losses = [next(iter(trainer.advance(400).values())) for _ in range(32)]
            assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:2]), losses
            assert np.isfinite(list(trainer.validate().values())).all()
            trainer.save()
    again = listener.Trainer(packed, folder, seed=2)
    again.resume()
    assert again.step == 32
    readers = [each / "reader.safetensors" for each in (folder, other)]
    return readers, [each / "listener.safetensors" for each in (folder, other)]


@pytest.fixture(scope="module")
def witnessed(packed: Path, whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A witness after a few steps, and another of other layers after one."""
    folder, other = (tmp_path_factory.mktemp(name) for name in ("witness", "witness2"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(witness, "BATCH", 6)
        patch.setattr(witness, "WARM_UP", 1)
        trainer = witness.Trainer(packed, whisper, folder, seed=1)
        losses = [trainer.advance(400)["loss"] for _ in range(24)]
        assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:3]), losses
        assert np.isfinite(list(trainer.validate().values())).all()
        trainer.save()
        second = witness.Trainer(packed, whisper, other, seed=1, layers=2, reach=9)
        second.advance(400)
        second.save()
    again = witness.Trainer(packed, whisper, folder, seed=2)
    again.resume()
    assert again.step == 24
    return [run / "witness.safetensors" for run in (folder, other)]


def test_a_listener_of_movement_hears_no_mean(critics: tuple[list[Path], list[Path]]) -> None:
    plain, movement = (listener.load_listener(path) for path in critics[1])
    shapes, level = torch.randn(2, 60, 64), torch.zeros(2, 60)
    coloured = shapes + torch.linspace(-1, 1, 64)
    assert torch.allclose(movement(shapes, level), movement(coloured, level), atol=1e-4)
    assert not torch.allclose(plain(shapes, level), plain(coloured, level), atol=1e-2)


def test_a_clip_whose_envelopes_were_cut_off_is_described_anew(packed: Path) -> None:
    whole = packed / "envelope.f16"
    before = whole.read_bytes()
    third = Pack(packed).clips[2]
    with open(whole, "ab") as file:
        file.truncate(2 * envelopes.ROW * (third.start + third.frames // 2))
    run("envelopes", envelopes.main, "--pack", str(packed))
    assert whole.read_bytes() == before


def test_what_was_said_is_kept_when_the_teacher_is_interrupted(tmp_path: Path) -> None:
    class Interrupted(teacher.Teacher):
        def __init__(self) -> None:
            self.clips = 0

        def hear(self, wave: np.ndarray, transcribe: bool) -> tuple[np.ndarray, str | None]:
            self.clips += 1
            if self.clips == 3:
                raise KeyboardInterrupt
            return np.ones((len(wave) // 480, lessons.WIDTH), np.float16), f"clip {self.clips}"

    row = {"corpus": "librispeech", "person": "p", "sex": None, "split": "train", "text": None}
    row |= {"bandwidth_hz": 8_000, "frames": 100}
    rows = [json.dumps(row | {"path": f"{number}.flac"}) for number in range(4)]
    (tmp_path / "index.jsonl").write_text("\n".join(rows), encoding="utf-8")
    np.zeros(4 * 100 * HOP, np.int16).tofile(tmp_path / "waves.i16")
    np.zeros(4 * 100, np.float32).tofile(tmp_path / "f0.f32")
    pack = Pack(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        teacher.hear(pack, tmp_path, Interrupted())
    teacher.hear(pack, tmp_path, Interrupted())
    texts = json.loads((tmp_path / "texts.json").read_text(encoding="utf-8"))
    assert sorted(texts) == [f"{number}.flac" for number in range(4)]
    assert (tmp_path / "heard.f16").stat().st_size == 4 * 50 * 2 * lessons.WIDTH


@pytest.mark.parametrize(
    ("script", "option"),
    [
        (prepare, "--corpus"), (envelopes, "--pack"), (label, "--pack"), (lessons, "--pack"),
        (content, "--pack"), (reader, "--pack"), (export, "--content"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_there_is_named_in_one_line(
    script: Any, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run("script", lambda: command_line.run(script.main), option, "nowhere")
    assert "nowhere" in str(ended.value.code)
    assert not list(tmp_path.rglob("*.*"))


def test_prepared_f0_is_that_of_the_clips(packed: Path) -> None:
    pack = Pack(packed)
    for clip in pack.clips[::3]:
        f0 = pack.f0(clip)
        pitch = 100.0 + 30 * int(clip.person[1:])
        assert np.median(f0[f0 > 0]) == pytest.approx(pitch, rel=0.06)


def test_labels_say_which_half_of_which_phone_a_frame_is_in() -> None:
    labels = frame_labels([("pau", 0.0, 0.05), ("ax", 0.05, 0.13), ("?", 0.13, 0.15)], 16)
    assert labels[:5].tolist() == [0] * 5
    first, second = labels[6], labels[11]
    assert second == first + 1
    assert labels[13:].tolist() == [UNKNOWN] * 3


def test_lessons_tell_what_is_said_and_not_who_says_it(packed: Path) -> None:
    told = lessons.lessons_of(packed)
    assert told is not None
    labels = np.fromfile(packed / "labels.i8", np.int8)
    clips = Pack(packed).clips
    speaker = np.concatenate([np.full(clip.frames, int(clip.person[1:])) for clip in clips])
    # Frames whose neighbours say the same: between two rows of the teacher's they are mixed.
    inner = np.flatnonzero((np.roll(labels, 1) == labels) & (np.roll(labels, -1) == labels))
    rng = np.random.default_rng(2)
    one, other = rng.choice(inner, 4_000), rng.choice(inner, 4_000)
    apart = np.abs(told[one].astype(float) - told[other].astype(float)).mean(axis=1)
    same, who = labels[one] == labels[other], speaker[one] == speaker[other]
    assert apart[same & ~who].mean() < 0.5 * apart[~same & who].mean()
    assert apart[~same & ~who].mean() < 1.2 * apart[~same & who].mean()


def test_alignment_finds_the_same_moment_at_another_tempo() -> None:
    ours = np.random.default_rng(0).standard_normal((60, 14)).astype(np.float32)
    path = aligned(np.repeat(ours, 2, axis=0), ours)
    assert np.abs(path / 2 - np.arange(60)).max() <= 1.0


def test_a_cut_run_resumes_where_it_was(packed: Path, heard: Path, trained: Path) -> None:
    again = content.Trainer([packed], heard, seed=2)
    again.resume()
    assert again.step == 28
    later = timbre.Trainer(packed, trained / "codes.npy", trained, seed=2)
    later.resume(None)
    assert later.step == 16
    assert np.isfinite(later.advance(40)["loss"])
    assert all(np.isfinite(value) for value in later.validate().values())


def test_a_patient_network_begins_as_the_quick_one_it_is_made_of() -> None:
    torch.manual_seed(3)
    quick, patient = timbre.Timbre(), timbre.Timbre(patient=True)
    for value in quick.parameters():
        value.data += 0.1 * torch.randn_like(value)
    patient.load_state_dict(timbre.begun_with(patient, quick.state_dict()))
    told = asked_of_timbre(80)
    with torch.no_grad():
        ours, theirs = (net(*told, net.modulation(MEANS))[0] for net in (patient, quick))
    # Before the stream one has heard silence, the other nothing.
    assert (ours - theirs)[:, 40:].abs().max() < 1e-4
    assert timbre.begun_with(patient, patient.state_dict()).keys() == patient.state_dict().keys()


def test_a_patient_network_tells_in_pieces_what_it_tells_at_once() -> None:
    torch.manual_seed(4)
    net = timbre.Timbre(patient=True)
    for value in net.parameters():
        value.data += 0.1 * torch.randn_like(value)
    code, carried, controls, keys, values = asked_of_timbre(90)
    modulation = net.modulation(MEANS)
    with torch.no_grad():
        whole, _ = net(code, carried, controls, keys, values, modulation)
        found = net.found(code, controls, keys, values)
        states = [torch.zeros(1, timbre.WIDTH, block.past) for block in net.blocks]
        parts = []
        for part in (slice(0, 31), slice(31, 32), slice(32, 90)):
            told = code[:, part], carried[:, part], controls[:, part], found[:, part]
            out, states = net.formed(*told, modulation, states)
            parts.append(out - found[:, part].mean(dim=2))
    late = torch.cat(parts, dim=1)[:, net.ahead :]
    assert net.ahead == 16
    count = late.shape[1]
    assert (late + found[:, :count].mean(dim=2) - whole[:, :count]).abs().max() < 1e-4


MEANS = torch.linspace(-1.0, 1.0, 129)[None]


def asked_of_timbre(frames: int) -> tuple[torch.Tensor, ...]:
    """Return codes, carried envelopes, controls, keys and values that any voice may have."""
    sizes = (frames, 64), (frames, 65), (frames, 13), (50, timbre.HEADS, timbre.KEY), (50, 64)
    made = [torch.randn(1, *size) for size in sizes]
    made[3] = torch.nn.functional.normalize(made[3], dim=-1)
    return tuple(made)


@pytest.fixture
def told(
    packed: Path,
    heard: Path,
    critics: tuple[list[Path], list[Path]],
    witnessed: list[Path],
    whisper: Path,
) -> tuple[Any, ...]:
    """What a polish is told of: pack, codes and everything that judges."""
    return packed, heard / "content.safetensors", *critics, witnessed, whisper


def test_polishing_moves_both_networks_after_the_discriminator(
    told: tuple[Any, ...], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polish, "WARM_UP", 1)
    monkeypatch.setattr(polish, "BATCH", 2)
    monkeypatch.setattr(polish, "REFRESH", 2)
    trainer = polish.Trainer(*told, tmp_path, seed=1)
    trainer.resume(trained / "timbre.safetensors", None)
    ends = [trainer.model.leave.weight, trainer.content.leave.weight]
    before = [end.clone() for end in ends]
    assert "fooled" not in trainer.advance(10)
    assert all(torch.equal(*pair) for pair in zip(before, ends, strict=True))
    for _ in range(2):
        figures = trainer.advance(10)
    assert np.isfinite(list(figures.values())).all()
    assert not any(torch.equal(*pair) for pair in zip(before, ends, strict=True))
    trainer.save()
    content.load_content(tmp_path / "content.safetensors")
    again = polish.Trainer(*told, tmp_path, seed=1)
    again.resume(trained / "timbre.safetensors", None)
    assert again.step == 3
    another = polish.Trainer(*told, tmp_path / "other", seed=1)
    another.resume(trained / "timbre.safetensors", tmp_path / "last.pt")
    assert another.step == 0
    for name, value in trainer.discriminator.state_dict().items():
        assert torch.equal(value, another.discriminator.state_dict()[name])


def test_polishing_the_patient_network_leaves_the_codes_alone(
    told: tuple[Any, ...],
    heard: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polish, "WARM_UP", 0)
    monkeypatch.setattr(polish, "BATCH", 2)
    trainer = polish.Trainer(*told, tmp_path, seed=1, polished="patient")
    trainer.resume(trained / "timbre.safetensors", None)
    blocks = [trainer.model.blocks[0].depthwise.weight, trainer.model.blocks[-1].reduce.weight]
    assert blocks[0][..., -timbre.AHEAD :].abs().max() == 0
    assert blocks[1].abs().max() == 0
    figures = [trainer.advance(10) for _ in range(2)]
    assert np.isfinite([value for each in figures for value in each.values()]).all()
    assert blocks[0][..., -timbre.AHEAD :].abs().min() > 0
    assert blocks[1].abs().max() > 0
    trainer.save()
    before, after = (load_file(folder / "content.safetensors") for folder in (heard, tmp_path))
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = polish.Trainer(*told, tmp_path, seed=1, polished="patient")
    again.resume(trained / "timbre.safetensors", None)
    assert again.step == 2


def test_the_shipped_graphs_are_those_of_the_committed_checkpoints() -> None:
    heard, _ = content.load_content(CHECKPOINTS / "content.safetensors")
    made: dict[str, torch.nn.Module] = {"content": graphs.ContentGraph(heard)}
    for name in ("quick", "patient"):
        formed = timbre.Timbre(patient=name == "patient")
        formed.load_state_dict(load_file(CHECKPOINTS / f"{name}.safetensors"))
        made[f"{name}_timbre"] = graphs.TimbreGraph(formed)
        made[f"{name}_keys"] = graphs.KeysGraph(formed)
        made[f"{name}_modulation"] = graphs.ModulationGraph(formed)
    for name, graph in made.items():
        # What was exported answers these questions too: tests/engine/neural.
        with np.load(WEIGHTS / f"{name}.npz") as held, torch.no_grad():
            asked = {part: torch.from_numpy(held[part].astype(np.float32)) for part in held.files}
            expected = asked.pop("answer")
            said = graph(**{part.removeprefix("ask_"): value for part, value in asked.items()})
        said = said[0] if isinstance(said, tuple) else said
        assert (said - expected).abs().max() < export.TOLERANCE, name


@pytest.mark.parametrize(("level", "look_ahead"), [(3, QUICK), (0, PATIENT)])
def test_exported_engine_streams_what_torch_computes(
    heard: Path, trained: Path, tmp_path: Path, level: int, look_ahead: int
) -> None:
    weights = heard / "content.safetensors"
    formed = timbre.Timbre(patient=True)
    begun = timbre.begun_with(formed, load_file(trained / "timbre.safetensors"))
    save_file(begun, tmp_path / "patient.safetensors")
    checkpoints = trained / "timbre.safetensors", tmp_path / "patient.safetensors"
    export.export(weights, *checkpoints, tmp_path / "weights")
    engine = NeuralEngine(tmp_path / "weights")
    source = vowels(3, 120.0, 2.0)
    voice = engine.measure([vowels(4, 220.0, 6.0)]).voice
    profile = LATENCY_PROFILES[level]

    analysis = engine.analysis(profile)
    parts = [analysis.push(source[at : at + 700]) for at in range(0, len(source), 700)]
    parts.append(analysis.flush())
    codes = np.concatenate([part.code for part in parts])[::2]

    tensors = load_file(weights)
    prior = tensors.pop("prior").numpy()
    model = content.Content()
    model.load_state_dict(tensors)
    padded = np.pad(source, (0, (look_ahead + 1) * HOP))
    mel = spectra_of.log_mel(spectra_of.power(padded, len(padded) // HOP))
    shape, relative = spectra_of.RunningMean(prior).push(mel)
    patient = torch.tensor([float(look_ahead == PATIENT)])
    with torch.no_grad():
        offline, _ = model(
            torch.from_numpy(shape[None]), torch.from_numpy(relative[None, :, None]), patient
        )
    expected = offline[0, look_ahead : look_ahead + len(codes)].numpy()
    assert np.sqrt(np.mean((codes - expected) ** 2)) < export.COARSE * expected.std()

    outputs = []
    for chunk in (700, len(source)):
        stream = ConversionStream(engine, voice, ConversionSettings(), profile, seed=5)
        pushed = [stream.push(source[at : at + chunk]) for at in range(0, len(source), chunk)]
        outputs.append(np.concatenate([*pushed, stream.flush()]))
    assert len(outputs[0]) == len(source)
    assert np.array_equal(outputs[0], outputs[1])
