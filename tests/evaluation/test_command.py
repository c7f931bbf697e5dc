import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import typer
from tests.evaluation.signals import RATE, voice
from typer.testing import CliRunner

from evaluation import __main__ as command
from evaluation import command_line


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    for part, pitch in (("sources", 120.0), ("targets", 200.0)):
        (root / part).mkdir(parents=True)
        sf.write(root / part / f"{part[0]}.wav", voice(pitch, 1.5), RATE)
    return root


def _run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(command.main)
    outcome = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_results_made_elsewhere_are_judged_beside_the_source(clips: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    shutil.copy(clips / "sources" / "s.wav", made / "s__t.wav")
    _run(
        "--pairs", str(clips), "--wavs", str(made), "--quick", "--no-baselines",
        "--engine", "source",
        "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"),
        "--name", "check",
    )  # fmt: skip
    (figures,) = (tmp_path / "out").glob("*-check/figures.json")
    rows = {row["converter"]: row["figures"] for row in json.loads(figures.read_text())}
    assert set(rows) == {"source", "made"}
    assert rows["made"]["resemblyzer_source"] == pytest.approx(1.0, abs=1e-3)
    assert rows["made"]["length"] == 0


def test_a_missing_result_is_named_and_does_not_stop_the_rest(clips: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = _run(
        "--pairs", str(clips), "--wavs", str(empty), "--quick", "--no-baselines",
        "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert "left out" in text
    assert "s__t.wav" in text


def test_the_list_can_be_taken_elsewhere(clips: Path, tmp_path: Path) -> None:
    _run("--pairs", str(clips), "--write-list", str(tmp_path / "list"))
    listing = (tmp_path / "list" / "list.csv").read_text(encoding="utf-8")
    assert "s__t,folder,unknown,sources/s__t.wav,references/t.wav,s__t.wav" in listing
    samples, rate = sf.read(tmp_path / "list" / "sources" / "s__t.wav")
    assert rate == RATE
    assert np.abs(samples).max() > 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--corpus", "nowhere"], "nowhere"),
        (["--pairs", "nowhere"], "nowhere"),
        (["--pairs", "CLIPS", "--wavs", "nowhere"], "nowhere"),
        (["--pairs", "CLIPS", "--engine", "nobody"], "'nobody'"),
        (["--pairs", "CLIPS", "--engine", "neural=nowhere"], "nowhere"),
        (["--pairs", "CLIPS", "--engine", "nobody:Engine"], "nobody"),
        (["--pairs", "CLIPS", "--engine", "json:Engine"], "json has no Engine"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(
    arguments: list[str], named: str, clips: Path
) -> None:
    told = [str(clips) if argument == "CLIPS" else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        command_line.run(lambda: _run(*told, "--no-baselines"))
    assert named in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


def test_a_list_of_pairs_that_names_no_clip_is_refused(clips: Path) -> None:
    (clips / "pairs.csv").write_text("source,target\ns,lyrebird\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="'lyrebird', which is not in targets/"):
        _run("--pairs", str(clips), "--write-list", str(clips / "list"))
