"""Many recordings in one command, as who dubs a game or a film types it."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ..sounds import seconds_of, tone, wav
from .test_commands import ROOT, SPEECH, menura

OTHER = SPEECH.with_name("female_ljspeech.flac")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("command") / "data"


def converted(*words, data):
    return menura("convert", *words, "--voice", "Wren", "--seed", 1, data=data)


def test_recordings_go_into_a_folder_under_their_own_names(data, tmp_path):
    lines, folder = tmp_path / "lines", tmp_path / "out"
    lines.mkdir()
    plain = lines / "one.WAV"
    plain.write_bytes(wav(tone(1.0, 16_000), 16_000))
    done = converted(plain, SPEECH, OTHER, "-o", folder, data=data)
    assert done.returncode == 0, done.stderr
    named = {"one.WAV", f"{SPEECH.stem}.mp3", f"{OTHER.stem}.mp3"}
    assert {path.name for path in folder.iterdir()} == named
    for made in folder.iterdir():
        assert seconds_of(made) > 0.9
        assert f"{made}: " in done.stdout
    alone = tmp_path / "alone.mp3"
    assert converted(SPEECH, "-o", alone, data=data).returncode == 0
    assert (folder / f"{SPEECH.stem}.mp3").read_bytes() == alone.read_bytes()

    done = converted(plain, "-o", folder, "--format", "opus_48000_64", data=data)
    assert done.returncode == 0, done.stderr
    assert (folder / "one.ogg").is_file()


def test_what_is_there_already_is_left_unless_it_is_to_be_made_anew(data, tmp_path):
    (tmp_path / f"{SPEECH.stem}.mp3").write_bytes(b"precious")
    done = converted(SPEECH, OTHER, "-o", tmp_path, data=data)
    assert done.returncode == 0, done.stderr
    assert "1 there already" in done.stdout
    assert (tmp_path / f"{SPEECH.stem}.mp3").read_bytes() == b"precious"
    assert seconds_of(tmp_path / f"{OTHER.stem}.mp3") > 2
    done = converted(SPEECH, OTHER, "-o", tmp_path, "--overwrite", data=data)
    assert done.returncode == 0, done.stderr
    assert seconds_of(tmp_path / f"{SPEECH.stem}.mp3") > 2


def test_one_bad_recording_is_named_and_the_others_are_converted(data, tmp_path):
    done = converted(ROOT / "README.md", SPEECH, "-o", tmp_path, data=data)
    assert done.returncode == 1
    assert f"{ROOT / 'README.md'}: The file is text" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{SPEECH.stem}.mp3"]


def test_results_that_would_be_lost_are_refused_before_anything_is_made(data, tmp_path):
    own, folder = tmp_path / "own.wav", tmp_path / "out"
    own.write_bytes(wav(tone(1.0, 16_000), 16_000))
    before = own.read_bytes()
    twin = tmp_path / "other" / "own.wav"
    twin.parent.mkdir()
    shutil.copy(own, twin)
    for words, told in (
        ((own, twin, "-o", folder), "would both become"),
        ((own, SPEECH, "-o", tmp_path), "would be replaced by its result"),
        ((SPEECH, OTHER, "-o", own), "is no folder"),
        ((SPEECH, OTHER, "-o", "-", "--format", "wav_44100"), "need a folder"),
        ((SPEECH, OTHER, "-o", tmp_path / "no" / "out"), "There is no folder"),
        ((SPEECH, OTHER, "-o", folder, "--format", "mp5"), "There is no format"),
    ):
        refused = converted(*words, data=data)
        assert refused.returncode == 2, words
        assert told in " ".join(refused.stderr.replace("│", " ").split())
    assert own.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "own.wav"]


def test_a_run_that_was_stopped_goes_on_where_it_was(data, tmp_path):
    short, folder = tmp_path / "short.wav", tmp_path / "out"
    short.write_bytes(wav(tone(1.0, 16_000), 16_000))
    long = [tmp_path / f"long{number}.wav" for number in range(4)]
    for path in long:
        path.write_bytes(wav(tone(600.0, 16_000), 16_000))
    words = ["convert", short, *long, "--voice", "Wren", "-o", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "menura.cli", *map(str, words)],
        env={**os.environ, "MENURA_DATA": str(data)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "short.wav").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert told == "Stopped.\n"
    assert [path.name for path in folder.iterdir()] == ["short.wav"]
    kept = (folder / "short.wav").read_bytes()
    for path in long:
        shutil.copy(short, path)
    done = converted(short, *long, "-o", folder, data=data)
    assert done.returncode == 0, done.stderr
    assert "1 there already" in done.stdout
    assert (folder / "short.wav").read_bytes() == kept
    assert len(list(folder.iterdir())) == 5
