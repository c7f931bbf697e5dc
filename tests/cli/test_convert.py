"""`menura convert`: a recording, or as many as a game has lines."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from menura.services import open_services
from menura.settings import Settings
from menura.voices.settings import VoiceSettings

from ..sounds import seconds_of, tone, wav
from .command import ROOT, menura

# The shortest ones, since most of a conversion's time goes with the length.
SPEECH, OTHER = (
    ROOT / "tests" / "speech" / f"{name}.flac"
    for name in ("female_kerstin_de", "male_flemishguy_nl")
)


@pytest.mark.parametrize(("ending", "slack"), [("mp3", 0.06), ("wav", 1e-4), ("ogg", 0.02)])
def test_a_file_is_converted_without_a_server(data, tmp_path, ending, slack):
    target = tmp_path / f"out.{ending}"
    done = menura("convert", SPEECH, "--voice", "Avocet", "-o", target, data=data)
    assert done.returncode == 0, done.stderr
    assert seconds_of(target) == pytest.approx(seconds_of(SPEECH), abs=slack)


def test_the_same_seed_gives_the_same_file_and_flags_change_it(data, tmp_path):
    files = {}
    for name, flags in {
        "one": ["--seed", "0"],
        "two": ["--seed", "0"],
        "other": ["--seed", "6"],
        "faithful": ["--seed", "0", "--similarity", "0.1"],
    }.items():
        target = tmp_path / f"{name}.wav"
        done = menura("convert", SPEECH, "--voice", "Avocet", "-o", target, *flags, data=data)
        assert done.returncode == 0, done.stderr
        files[name] = target.read_bytes()
    assert files["one"] == files["two"]
    assert files["one"] != files["other"]
    assert files["one"] != files["faithful"]


def test_what_cannot_be_done_is_said_in_a_sentence_and_keeps_the_old_file(data, tmp_path):
    target = tmp_path / "out.mp3"
    target.write_bytes(b"precious")
    nobody = menura("convert", SPEECH, "--voice", "Nobody", "-o", target, data=data)
    assert nobody.returncode == 1
    assert "There is no voice 'Nobody'" in nobody.stderr
    text = menura("convert", ROOT / "README.md", "--voice", "Avocet", "-o", target, data=data)
    assert text.returncode == 1
    assert "text" in text.stderr
    ending = menura("convert", SPEECH, "--voice", "Avocet", "-o", tmp_path / "out.xyz", data=data)
    assert ending.returncode == 2
    assert "--format" in ending.stderr
    assert target.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [target]
    for failed in (nobody, text, ending):
        assert "Traceback" not in failed.stderr


def test_an_interrupted_conversion_stops_and_keeps_the_old_file(data, tmp_path):
    long, target = tmp_path / "long.wav", tmp_path / "out.mp3"
    target.write_bytes(b"precious")
    with wave.open(str(long), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        noise = np.random.default_rng(1).integers(-3_000, 3_000, 16_000 * 1_200)
        file.writeframes(noise.astype("<i2").tobytes())
    command = [sys.executable, "-m", "menura.cli", "convert", str(long), "--voice", "Wren"]
    # A script's background jobs hear no interrupts, and none under nohup hears that the terminal
    # goes; these tests may be one.
    hearing, deaf = (
        f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{how}); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        for how in ("SIG_DFL", "SIG_IGN")
    )
    for sent, how in ((signal.SIGINT, hearing), (signal.SIGTERM, deaf), (signal.SIGHUP, hearing)):
        process = subprocess.Popen(
            [sys.executable, "-c", how, *command, "-o", target],
            env={**os.environ, "MENURA_DATA": str(data)},
            stderr=subprocess.PIPE,
            text=True,
        )
        while not list(tmp_path.glob(".*.part")):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(sent)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 128 + sent
        assert "Stopped." in told
        assert "Traceback" not in told
        assert target.read_bytes() == b"precious"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["long.wav", "out.mp3"]


WINDOWS = """
import os, sys
def rule(event, arguments):
    if event in ("os.rename", "os.remove"):
        named = [place for place in arguments[:2] if isinstance(place, (str, os.PathLike))]
        places = [os.path.realpath(place) for place in named]
        for number in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{number}") in places:
                raise PermissionError(13, "a file that is open", *places[-1:])
sys.addaudithook(rule)
from menura.cli.main import app
app()
"""
"""Windows moves and removes no file that is open."""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks which files are open")
def test_a_recording_may_be_replaced_by_its_conversion_on_windows_too(data, tmp_path):
    recording = tmp_path / "own.wav"
    first = menura("convert", SPEECH, "--voice", "Wren", "-o", recording, data=data)
    assert first.returncode == 0, first.stderr
    before = recording.read_bytes()
    words = ("convert", recording, "--voice", "Avocet", "-o", recording)
    replaced = menura(*words, data=data, program=("-c", WINDOWS))
    assert replaced.returncode == 0, replaced.stderr
    assert seconds_of(recording) == pytest.approx(seconds_of(SPEECH), abs=1e-3)
    assert recording.read_bytes() != before
    assert list(tmp_path.iterdir()) == [recording]


def test_what_the_output_is_stays_what_it_is(data, tmp_path):
    def converted(output, *flags):
        words = ("convert", SPEECH, "--voice", "Wren", "--seed", 1, "-o", output, *flags)
        return menura(*words, data=data)

    real, link, part = (tmp_path / name for name in ("real.wav", "link.wav", "real.wav.part"))
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    part.write_bytes(b"somebody's own")
    assert converted(link).returncode == 0
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert seconds_of(real) > 2
    assert part.read_bytes() == b"somebody's own"

    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    read = tmp_path / "read"
    with read.open("wb") as copy, subprocess.Popen(["cat", pipe], stdout=copy):
        assert converted(pipe).returncode == 0
    assert read.read_bytes() == real.read_bytes()
    assert pipe.is_fifo()

    words = ("convert", SPEECH, "--voice", "Wren", "--seed", 1, "-o", "-", "--format", "wav_44100")
    printed = subprocess.run(
        [sys.executable, "-m", "menura.cli", *map(str, words)],
        env={**os.environ, "MENURA_DATA": str(data)},
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )
    assert printed.stdout == real.read_bytes()


def test_every_flag_of_a_conversion_is_heard(data, tmp_path):
    def converted(*flags):
        target = tmp_path / "out.wav"
        words = ("convert", SPEECH, "--voice", "Wren", "--seed", 5, "-o", target)
        done = menura(*words, *flags, data=data)
        assert done.returncode == 0, done.stderr
        return target.read_bytes()

    plain = converted()
    for flags in (
        ["--similarity", 0.1],
        ["--stability", 1],
        ["--style", 1],
        ["--transpose", -5],
        ["--no-boost"],
        ["--denoise"],
        ["--model", "menura_source_filter_v1"],
    ):
        assert converted(*flags) != plain, flags
    slow = (len(converted("--speed", 0.8)) - 44) / (len(plain) - 44)
    assert slow == pytest.approx(1 / 0.8, rel=1e-3)


def test_a_voices_own_settings_hold_without_a_server(data, tmp_path):
    async def store(settings):
        async with open_services(Settings(data=data)) as services:
            account = (await services.accounts.local_account()).account_id
            voice = await services.voices.find(account, "Wren")
            await services.voices.edit_settings(account, voice.voice_id, settings)

    asyncio.run(store(VoiceSettings(speed=0.8)))
    target = tmp_path / "out.wav"
    try:
        assert menura("convert", SPEECH, "--voice", "Wren", "-o", target, data=data).returncode == 0
    finally:
        asyncio.run(store(VoiceSettings(speed=1.0)))
    assert seconds_of(target) == pytest.approx(seconds_of(SPEECH) / 0.8, rel=1e-3)


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


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes another user's link"
)
def test_no_link_of_another_user_leads_to_a_file_of_ours(data, tmp_path):
    ours, shared = tmp_path / "ours", tmp_path / "shared"
    ours.mkdir()
    shared.mkdir()
    shared.chmod(0o1777)
    (ours / "out.mp3").write_bytes(b"precious")
    for name, target in (("out.mp3", ours / "out.mp3"), ("folder", ours)):
        (shared / name).symlink_to(target)
        os.lchown(shared / name, 65_534, 65_534)
        for output in (shared / name, shared / name / "new.mp3"):
            done = converted(SPEECH, "-o", output, data=data)
            assert done.returncode in (1, 2)
        assert [path.name for path in ours.iterdir()] == ["out.mp3"]
        assert (ours / "out.mp3").read_bytes() == b"precious"
    assert "link that another user has made" in done.stderr
    for path in shared.iterdir():
        os.lchown(path, os.geteuid(), 0)
    done = converted(SPEECH, "-o", shared / "out.mp3", data=data)
    assert done.returncode == 0, done.stderr
    assert seconds_of(ours / "out.mp3") > 2


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
    minutes = wav(np.resize(tone(10.0, 16_000), 600 * 16_000), 16_000)
    for path in long:
        path.write_bytes(minutes)
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
