"""Audio isolation over HTTP: less noise, the same speech, and the contract's answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from ..conftest import RunningServer
from ..sounds import decoded, rms, tone, wav

PATHS = ("/v1/audio-isolation", "/v1/audio-isolation/stream")


def noisy(seconds: float) -> bytes:
    noise = np.random.default_rng(1).standard_normal(round(seconds * 16_000)) * 0.05
    return wav(noise.astype(np.float32))


@pytest.mark.parametrize("path", PATHS)
def test_noise_goes_and_the_length_stays(shared_server: RunningServer, path: str) -> None:
    source = noisy(3.0)
    reply = shared_server.client.post(path, files={"audio": source})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "audio/mpeg"
    assert reply.headers["character-cost"] == "50"
    assert "history-item-id" not in reply.headers
    if path.endswith("/stream"):
        assert "content-length" not in reply.headers
    samples = decoded(reply.content)
    assert 0 <= samples.size - 3 * 44_100 <= 1152
    assert rms(samples[44_100:]) < 0.5 * rms(decoded(source)[16_000:])


def test_raw_samples_and_fields_in_any_order(shared_server: RunningServer) -> None:
    raw = wav(tone(1.0))[44:]
    field = ("file_format", (None, "pcm_s16le_16"))
    audio = ("audio", ("upload", raw))
    replies = [
        shared_server.client.post(PATHS[0], files=parts)
        for parts in ([field, audio], [audio, field])
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].content == replies[1].content


@pytest.mark.parametrize("path", PATHS)
def test_a_preview_picture_is_ignored(shared_server: RunningServer, path: str) -> None:
    preview = {"preview_b64": "iVBORw0KGgo" * 50_000}
    reply = shared_server.client.post(path, files={"audio": noisy(0.5)}, data=preview)
    assert reply.status_code == 200
    assert reply.content == shared_server.client.post(path, files={"audio": noisy(0.5)}).content


def test_a_key_needs_the_permission(shared_server: RunningServer) -> None:
    accounts = shared_server.client.get("/v1/service-accounts").json()["service-accounts"]
    account = accounts[0]["service_account_user_id"]
    made = shared_server.client.post(
        f"/v1/service-accounts/{account}/api-keys",
        json={"name": "only voices", "permissions": ["voices_read"]},
    ).json()
    headers = {"xi-api-key": made["xi-api-key"]}
    for path in PATHS:
        reply = shared_server.client.post(path, files={"audio": noisy(0.5)}, headers=headers)
        assert reply.status_code == 401
        assert reply.json()["detail"]["code"] == "missing_permissions"
        assert "audio_isolation" in reply.json()["detail"]["message"]


def test_speech_stays_and_noise_goes(shared_server: RunningServer) -> None:
    file = Path(__file__).parents[1] / "speech" / "female_ljspeech.flac"
    clean = decoded(file.read_bytes())
    noise = np.random.default_rng(1).standard_normal(clean.size) * 0.02
    source = wav((clean + noise).astype(np.float32), 24_000)
    heard = decoded(shared_server.client.post(PATHS[1], files={"audio": source}).content)
    loud = np.abs(clean) > 0.1
    quiet = np.convolve(np.abs(clean), np.ones(2400) / 2400, "same") < 0.002
    same = soxr.resample(heard, 44_100, 24_000)[: clean.size]
    loud, quiet = loud[: same.size], quiet[: same.size]
    assert rms(same[loud]) == pytest.approx(rms(clean[: same.size][loud]), rel=0.1)
    assert rms(same[quiet]) < 0.5 * rms(noise)


def test_what_lies_high_or_last_stays(shared_server: RunningServer) -> None:
    clap = np.random.default_rng(1).standard_normal(4_800) * np.exp(-np.arange(4_800) / 480)
    source = np.tile(np.pad(0.1 * clap, (12_000 - clap.size, 0)), 12).astype(np.float32)
    reply = shared_server.client.post(PATHS[0], files={"audio": wav(source, 48_000)})
    heard = soxr.resample(decoded(reply.content), 44_100, 48_000)[:144_000]
    before, after = (
        np.abs(np.fft.rfft(samples))[(12_500 * 3) : (15_000 * 3)] for samples in (source, heard)
    )
    assert rms(after) > 0.2 * rms(before)
    # So does what comes last.
    assert rms(heard[132_000:]) > 0.2 * rms(source[132_000:])


def test_refusals(shared_server: RunningServer) -> None:
    client = shared_server.client
    for path in PATHS:
        missing = client.post(path, files={"file_format": (None, "other")})
        assert missing.json()["detail"][0]["loc"] == ["body", "audio"]
        wrong = client.post(path, files={"audio": b"x"}, data={"file_format": "mp3"})
        assert wrong.json()["detail"][0]["loc"] == ["body", "file_format"]
        twice = client.post(path, files=[*2 * [("file_format", (None, "other"))], ("audio", b"x")])
        assert twice.json()["detail"][0]["type"] == "repeated"
        text = client.post(path, files={"audio": b"no audio, just text"})
        assert text.json()["detail"]["code"] == "invalid_audio_format"
        with shared_server.anonymous() as nobody:
            assert nobody.post(path, files={"audio": b"x"}).status_code == 401


def test_earlier_results_are_not_kept(shared_server: RunningServer) -> None:
    listed = shared_server.client.get("/v1/audio-isolation/history")
    assert listed.json() == {"items": [], "has_more": False}
    gone = shared_server.client.delete("/v1/audio-isolation/history/abc")
    assert gone.json()["detail"]["code"] == "history_item_not_found"


@pytest.mark.parametrize("page_size", [0, 1001])
def test_a_page_of_no_size_is_refused(shared_server: RunningServer, page_size: int) -> None:
    refused = shared_server.client.get(f"/v1/audio-isolation/history?page_size={page_size}")
    assert refused.status_code == 400
    assert refused.json()["detail"]["code"] == "invalid_page_size"


def test_isolation_has_limits_of_its_own(server: Callable[..., RunningServer]) -> None:
    running = server(
        max_upload_bytes=1_000,
        max_seconds=0.2,
        max_isolation_upload_bytes=100_000,
        max_isolation_seconds=1.5,
    )
    for path in PATHS:
        assert running.client.post(path, files={"audio": noisy(1.0)}).status_code == 200
        for seconds, code in ((2.0, "audio_too_long"), (5.0, "request_too_large")):
            refused = running.client.post(path, files={"audio": noisy(seconds)})
            assert refused.json()["detail"]["code"] == code
