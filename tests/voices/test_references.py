from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audio.files import id3, make_file
from tests.sounds import SPEECH, speech, wav

from menura.engine.interface import SAMPLE_RATE
from menura.engine.registry import engine_for
from menura.errors import AudioTooLong, InvalidAudio, InvalidAudioFormat
from menura.voices.references import (
    SEGMENT_SECONDS,
    Reference,
    SpeechPicker,
    judge,
    measure,
)

SEGMENT = SEGMENT_SECONDS * SAMPLE_RATE


def pick(
    recordings: list[np.ndarray], budget: int, cuts: list[int] | None = None
) -> list[np.ndarray]:
    picker = SpeechPicker(budget)
    for samples in recordings:
        picker.begin()
        for piece in np.split(samples, sorted(cut for cut in cuts or [] if cut < samples.size)):
            picker.push(piece)
        picker.end()
    return picker.chosen()


def test_what_fits_is_kept_as_it_is() -> None:
    rng = np.random.default_rng(1)
    recordings = [rng.normal(0, 0.1, size).astype(np.float32) for size in (SEGMENT * 2 + 77, 5)]
    for kept, samples in zip(pick(recordings, SEGMENT * 4), recordings, strict=True):
        np.testing.assert_array_equal(kept, samples)


def test_the_parts_with_speech_are_kept() -> None:
    rng = np.random.default_rng(2)
    loud = rng.normal(0, 0.1, SEGMENT).astype(np.float32)
    quiet = (loud * 1e-4).astype(np.float32)
    first, second = pick(
        [np.concatenate((quiet, loud, quiet)), np.concatenate((quiet, quiet))], SEGMENT
    )
    np.testing.assert_array_equal(first, loud)
    assert second.size == 0


def test_cuts_do_not_click() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(SEGMENT * 3) / SAMPLE_RATE).astype(np.float32)
    tone[SEGMENT : 2 * SEGMENT] *= 1e-4
    tone[:SEGMENT] += 0.5
    (kept,) = pick([tone], SEGMENT * 2)
    assert kept.size == SEGMENT * 2
    assert np.abs(np.diff(kept)).max() < 0.1


@given(st.lists(st.integers(1, SEGMENT * 3), max_size=8))
@settings(max_examples=20, deadline=None)
def test_any_chunking_keeps_the_same(cuts: list[int]) -> None:
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 0.1, SEGMENT * 3).astype(np.float32)
    samples *= np.linspace(0, 1, samples.size, dtype=np.float32)
    (whole,) = pick([samples], SEGMENT)
    (pieces,) = pick([samples], SEGMENT, cuts)
    np.testing.assert_array_equal(whole, pieces)


def test_memory_is_bounded() -> None:
    picker = SpeechPicker(SEGMENT * 2)
    picker.begin()
    for _ in range(50):
        picker.push(np.zeros(SEGMENT, np.float32))
    picker.end()
    assert sum(part.size for part in picker.chosen()) == SEGMENT * 2


def reference(name: str) -> Reference:
    return Reference(name, SPEECH / name)


def test_two_recordings_make_one_voice() -> None:
    names = ("male_librispeech_1235.flac", "male_librispeech_5322.flac")
    measured = measure(
        engine_for(), [reference(name) for name in names], max_seconds=100, permit=nullcontext
    )
    assert [heard.mime_type for heard in measured.heard] == ["audio/flac"] * 2
    assert all(abs(heard.seconds - 7.0) < 0.01 for heard in measured.heard)
    assert measured.measurement.voice.to_bytes()


@pytest.mark.parametrize(
    ("tag", "container", "codec", "media_type"),
    [
        # A cover picture is larger than what is looked at of a file without a tag.
        (id3(bytes(70_000)), "mp3", "libmp3lame", "audio/mpeg"),
        (id3(bytes(70_000)), "flac", "flac", "audio/flac"),
        (b"", "aiff", "pcm_s16be", "audio/aiff"),
        (b"", "au", "pcm_s16be", "audio/basic"),
        (b"", "w64", "pcm_s16le", "audio/x-w64"),
        (b"", "wv", "wavpack", "audio/x-wavpack"),
        (b"", "tta", "tta", "audio/x-tta"),
        (b"", "ac3", "ac3", "audio/ac3"),
        (b"", "latm", "aac", "audio/mp4a-latm"),
        (b"", "voc", "pcm_u8", "audio/x-voc"),
    ],
)
def test_a_recording_is_audio(
    tmp_path: Path, tag: bytes, container: str, codec: str, media_type: str
) -> None:
    samples = speech("male_librispeech_1235", 48_000, 3.0)
    recording = tmp_path / "recording"
    recording.write_bytes(tag + make_file(samples, container, codec, 48_000))
    found = [Reference(recording.name, recording)]
    measured = measure(engine_for(), found, max_seconds=100, permit=nullcontext)
    assert [heard.mime_type for heard in measured.heard] == [media_type]


def test_the_limit_counts_all_recordings() -> None:
    two = [reference("male_librispeech_1235.flac"), reference("female_ljspeech.flac")]
    with pytest.raises(AudioTooLong, match=r"female_ljspeech\.flac.*10 seconds"):
        measure(engine_for(), two, max_seconds=10, permit=nullcontext)


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"", InvalidAudio),
        (b"just a text that is no recording at all, not even a little", InvalidAudioFormat),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), InvalidAudioFormat),
        (bytes(range(256)) * 4, InvalidAudio),
    ],
)
def test_a_refusal_names_the_recording(
    tmp_path: Path, data: bytes, refusal: type[InvalidAudio]
) -> None:
    path = tmp_path / "upload"
    path.write_bytes(data)
    with pytest.raises(refusal, match=r"^mine\.wav: ") as refused:
        measure(engine_for(), [Reference("mine.wav", path)], max_seconds=0, permit=nullcontext)
    assert refused.value.param == "files"


def test_raw_samples_are_told_what_they_lack(tmp_path: Path) -> None:
    # Nothing but a header can tell what they are: a form of voices has no field for it.
    path = tmp_path / "recording.raw"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InvalidAudio, match="Raw samples need a WAV header"):
        measure(engine_for(), [Reference(path.name, path)], max_seconds=0, permit=nullcontext)


def test_silence_makes_no_voice(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    path.write_bytes(wav(np.zeros(SAMPLE_RATE * 6, np.float32), SAMPLE_RATE))
    with pytest.raises(InvalidAudio, match="No voice can be made"):
        measure(engine_for(), [Reference("silence.wav", path)], max_seconds=0, permit=nullcontext)


def test_noise_removal_is_applied(tmp_path: Path) -> None:
    noisy = Reference("n.flac", SPEECH / "male_librispeech_1235.flac", remove_background_noise=True)
    plain = reference("male_librispeech_1235.flac")
    voices = [
        measure(engine_for(), [one], max_seconds=0, permit=nullcontext).measurement.voice.to_bytes()
        for one in (noisy, plain)
    ]
    assert voices[0] != voices[1]


def test_warnings_become_a_quality() -> None:
    assert judge(()) == ("good", None)
    assert judge(("Short.",)) == ("ok", "Short.")
    assert judge(("Short.", "Noisy.")) == ("poor", "Short. Noisy.")
