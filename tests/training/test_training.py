"""The training recipe from clips to shipped graphs, on a tiny set made here."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'training' (torch)")
pytest.importorskip("parselmouth", reason="training needs the extra 'training' (praat-parselmouth)")

import soundfile
import torch
from training.model import Converter, Shape

from menura.engine.interface import LATENCY_PROFILES, ConversionSettings
from menura.engine.neural import NeuralEngine
from menura.engine.stream import ConversionStream
from training import adversarial, data, export, prepare, train

pytestmark = pytest.mark.filterwarnings("ignore")
"""torch's exporter warns of its own parts."""

RATE = 24_000
SMALL = Shape(content_hidden=32, content_blocks=2, decoder=32, decoder_hidden=32, decoder_blocks=2)


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
    before = sys.argv
    sys.argv = ["prepare", "--corpus", str(folder), "--out", str(out)]
    try:
        prepare.main()
        size = (out / "waves.i16").stat().st_size
        prepare.main()
    finally:
        sys.argv = before
    assert (out / "waves.i16").stat().st_size == size, "a second run must add nothing"
    return out


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)
    trainer = train.Trainer(data.Pack(packed), run, torch.device("cpu"), shape=SMALL, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "LEARNING_RATE", 4e-3)
        patch.setattr(train, "WARM_UP", 1)
        losses = [trainer.advance(trainer.batches.batch(4), 400)["mel"] for _ in range(24)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2]), losses
    figures = trainer.validate()
    assert np.isfinite(list(figures.values())).all()
    trainer.save()
    return run


def test_prepared_f0_is_that_of_the_clips(packed: Path) -> None:
    pack = data.Pack(packed)
    for clip in pack.clips[::3]:
        f0 = pack.f0(clip)
        pitch = 100.0 + 30 * int(clip.person[1:])
        assert np.median(f0[f0 > 0]) == pytest.approx(pitch, rel=0.06)


def test_alignment_finds_the_same_moment_at_another_tempo() -> None:
    ours = np.random.default_rng(0).standard_normal((60, 14)).cumsum(axis=0).astype(np.float32)
    theirs = np.repeat(ours, 2, axis=0)
    path = data.align(theirs, ours)
    assert np.abs(path / 2 - np.arange(60)).max() <= 1.0


def test_a_cut_run_resumes_where_it_was(packed: Path, trained: Path) -> None:
    again = train.Trainer(data.Pack(packed), trained, torch.device("cpu"), shape=SMALL)
    again.resume(None)
    assert again.step == 24
    assert np.isfinite(again.advance(again.batches.batch(2), 40)["mel"])
    assert again.step == 25


def test_sharpening_trains_decoder_and_critics(
    packed: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adversarial, "CRITIC_ALONE", 1)
    trainer = train.Trainer(data.Pack(packed), tmp_path, torch.device("cpu"), shape=SMALL)
    trainer.resume(trained / "average.safetensors")
    sharpener = adversarial.Sharpener(trainer)
    before = trainer.model.content.enter.weight.clone()
    for _ in range(3):
        figures = sharpener.advance(trainer.batches.batch(2))
    assert np.isfinite(list(figures.values())).all()
    assert "fooled" in figures
    assert torch.equal(before, trainer.model.content.enter.weight)


def test_exported_engine_streams_what_torch_computes(trained: Path, tmp_path: Path) -> None:
    weights = trained / "average.safetensors"
    export.export(weights, tmp_path / "weights")
    engine = NeuralEngine(tmp_path / "weights")
    source = vowels(3, 120.0, 2.0)
    voice = engine.measure([vowels(4, 220.0, 6.0)]).voice
    profile = LATENCY_PROFILES[3]

    analysis = engine.analysis(profile)
    parts = [analysis.push(source[at : at + 700]) for at in range(0, len(source), 700)]
    parts.append(analysis.flush())
    codes = np.concatenate([part.code for part in parts])

    model: Converter = export.load(weights)
    from menura.engine.neural import features  # noqa: PLC0415

    padded = np.pad(source, (0, 4 * features.HOP))
    mel = features.log_mel(features.power(padded, len(padded) // features.HOP))
    shape, relative = features.RunningMean(model.prior.numpy()).push(mel)
    with torch.no_grad():
        offline, _ = model.content(
            torch.from_numpy(shape[None]), torch.from_numpy(relative[None, :, None])
        )
    expected = offline[0, 3 : 3 + len(codes)].numpy()
    assert np.abs(codes - expected).max() < 1e-4

    outputs = []
    for chunk in (700, len(source)):
        stream = ConversionStream(engine, voice, ConversionSettings(), profile, seed=5)
        pushed = [stream.push(source[at : at + chunk]) for at in range(0, len(source), chunk)]
        outputs.append(np.concatenate([*pushed, stream.flush()]))
    assert len(outputs[0]) == len(source)
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-4
