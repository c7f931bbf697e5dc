"""Every call of the contract through an official Python SDK, whichever is on the path.

    ELEVENLABS_API_KEY=... python calls.py BASE_URL FOLDER

FOLDER holds the recordings that conftest.py writes. Prints one JSON object: for each check null, or
what went wrong. Nothing but the base URL and the key differs from a program for the original.
"""

import asyncio
import io
import json
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import av
import elevenlabs
import httpx
from elevenlabs import AsyncElevenLabs, ElevenLabs, VoiceSettings
from elevenlabs.core import ApiError
from elevenlabs.errors import UnprocessableEntityError
from pydantic import TypeAdapter

BASE_URL = sys.argv[1]
FOLDER = Path(sys.argv[2])
GEORGE = "JBFqnCBsd6RMkjVDRZzb"
SPEECH = (FOLDER / "speech.wav").read_bytes()
SHORT = (FOLDER / "short.wav").read_bytes()
SHORT_SECONDS = 1.2
CODECS = {
    "mp3": "mp3float",
    "opus": "opus",
    "wav": "pcm_s16le",
}

client = ElevenLabs(base_url=BASE_URL)


def joined(pieces: Iterable[bytes]) -> bytes:
    return b"".join(pieces)


def properties(audio: bytes) -> tuple[str, int, float]:
    """Return codec, sample rate and seconds of a file."""
    with av.open(io.BytesIO(audio)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        return stream.codec_context.name, stream.rate, samples / stream.rate


def bytes_a_second(output_format: str) -> int:
    codec, rate = output_format.split("_")
    return int(rate) * (2 if codec == "pcm" else 1)


def check_format(output_format: str, audio: bytes) -> None:
    """Assert that the audio is what the format's name says and as long as the recording."""
    codec, rate = output_format.split("_")[:2]
    if codec in CODECS:
        found, found_rate, seconds = properties(audio)
        assert found in {CODECS[codec], codec, "lib" + codec}, found
        assert found_rate == int(rate), found_rate
        slack = {"mp3": 1152 / int(rate), "opus": 0.02, "wav": 0.0005}[codec]
        assert abs(seconds - SHORT_SECONDS) <= slack, seconds
    else:
        assert len(audio) == round(SHORT_SECONDS * bytes_a_second(output_format)), len(audio)


def failure(call: Callable[[], Any]) -> ApiError | None:
    """Return the error with which a call fails, its answer read to the end."""
    try:
        result = call()
        if hasattr(result, "__next__"):
            joined(result)
    except ApiError as error:
        return error
    return None


def refused(status: int, code: str, call: Callable[[], Any]) -> dict[str, Any]:
    """Assert that a call is refused with this status and code, and return the detail."""
    error = failure(call)
    assert error is not None, f"not refused with {status} {code}"
    assert error.status_code == status, (error.status_code, error.body)
    detail: dict[str, Any] = error.body["detail"]
    assert detail["code"] == code, detail
    assert detail["message"]
    assert detail["status"]
    assert len(detail["request_id"]) == 32
    return detail


def unprocessable(location: list[str], call: Callable[[], Any]) -> None:
    """Assert that a call is refused with the validation list of the contract."""
    error = failure(call)
    assert isinstance(error, UnprocessableEntityError), error
    assert error.body["detail"][0]["loc"] == location, error.body


def check_default_arguments() -> None:
    for call in (client.speech_to_speech.convert, client.speech_to_speech.stream):
        audio = joined(call(GEORGE, audio=SPEECH))
        codec, rate, seconds = properties(audio)
        assert codec.startswith("mp3"), codec
        assert rate == 44100, rate
        assert abs(seconds - 3.0) <= 1152 / rate, seconds
        assert abs(len(audio) * 8 / seconds / 128_000 - 1) < 0.05, len(audio)


def check_response_headers() -> None:
    for raw in (
        client.speech_to_speech.with_raw_response.convert,
        client.speech_to_speech.with_raw_response.stream,
    ):
        with raw(GEORGE, audio=SHORT) as response:
            headers = response.headers
            assert headers["content-type"] == "audio/mpeg"
            assert headers["request-id"] == headers["x-request-id"]
            assert len(headers["request-id"]) == 20
            assert len(headers["x-trace-id"]) == 32
            assert headers["character-cost"] == headers["x-character-count"] == "20"
            assert int(headers["current-concurrent-requests"]) >= 1
            assert int(headers["maximum-concurrent-requests"]) >= 1
            assert int(headers["tts-latency-ms"]) >= 0
            assert headers["x-region"]
            item = headers["history-item-id"]
            joined(response.data)
        assert client.history.get(item).request_id == headers["request-id"]


def check_every_parameter() -> None:
    def call() -> bytes:
        return joined(
            client.speech_to_speech.stream(
                GEORGE,
                audio=("mine.bin", io.BytesIO(SHORT), "application/x-nonsense"),
                enable_logging=True,
                optimize_streaming_latency=3,
                output_format="pcm_16000",
                model_id="eleven_multilingual_sts_v2",
                voice_settings=json.dumps(
                    {"stability": 0.3, "similarity_boost": 0.9, "style": 0.1,
                     "use_speaker_boost": False}
                ),
                seed=7,
                remove_background_noise=True,
                file_format="other",
            )
        )  # fmt: skip

    audio = call()
    assert len(audio) == round(SHORT_SECONDS * 32000)
    assert call() == audio


def check_kinds_of_upload() -> None:
    def call(audio: Any) -> bytes:
        return joined(client.speech_to_speech.convert(GEORGE, audio=audio, seed=1))

    expected = call(SHORT)
    with (FOLDER / "short.wav").open("rb") as file:
        assert call(file) == expected
    assert call(io.BytesIO(SHORT)) == expected
    assert call(("anything.mp3", SHORT, "audio/mpeg")) == expected


def check_seed() -> None:
    def call(seed: int) -> bytes:
        return joined(client.speech_to_speech.convert(GEORGE, audio=SHORT, seed=seed))

    assert call(1) == call(1)
    assert call(1) != call(2)


def check_voice_settings() -> None:
    def call(settings: dict[str, Any] | None) -> bytes:
        text = None if settings is None else json.dumps(settings)
        chosen = {} if text is None else {"voice_settings": text}
        return joined(client.speech_to_speech.convert(GEORGE, audio=SPEECH, seed=1, **chosen))

    plain = call(None)
    assert call({"stability": 0.5, "similarity_boost": 0.75}) == plain
    for changed in ({"stability": 1}, {"similarity_boost": 0}, {"style": 1}):
        assert call(changed) != plain, changed


def check_raw_pcm_upload() -> None:
    pcm = (FOLDER / "short_16000.pcm").read_bytes()
    wav = (FOLDER / "short_16000.wav").read_bytes()
    for call in (client.speech_to_speech.convert, client.speech_to_speech.stream):
        raw = joined(call(GEORGE, audio=pcm, file_format="pcm_s16le_16", seed=1))
        assert raw == joined(call(GEORGE, audio=wav, seed=1))


def _formats(method: str) -> tuple[str, ...]:
    module = "stream" if method == "stream" else "convert"
    name = f"SpeechToSpeech{module.capitalize()}RequestOutputFormat"
    union = getattr(elevenlabs, name, None) or getattr(elevenlabs.speech_to_speech, name)
    return tuple(sorted(get_args(get_args(union)[0])))


def check_output_formats_of_stream() -> None:
    formats = _formats("stream")
    assert len(formats) == 21, formats
    for output_format in formats:
        audio = client.speech_to_speech.stream(GEORGE, audio=SHORT, output_format=output_format)
        check_format(output_format, joined(audio))
    for output_format in ("wav_44100", "wav_16000", "mp3_1_2"):
        unprocessable(
            ["query", "output_format"],
            lambda name=output_format: client.speech_to_speech.stream(
                GEORGE, audio=SHORT, output_format=name
            ),
        )


def check_output_formats_of_convert() -> None:
    formats = _formats("convert")
    assert len(formats) == 28, formats
    for output_format in formats:
        audio = client.speech_to_speech.convert(GEORGE, audio=SHORT, output_format=output_format)
        check_format(output_format, joined(audio))


def check_refusals() -> None:
    convert = client.speech_to_speech.convert
    stranger = ElevenLabs(base_url=BASE_URL, api_key="sk_wrong")
    refused(401, "invalid_api_key", lambda: stranger.speech_to_speech.convert(GEORGE, audio=SHORT))
    refused(404, "voice_not_found", lambda: convert("nobody", audio=SHORT))
    detail = refused(
        400,
        "unsupported_model",
        lambda: convert(GEORGE, audio=SHORT, model_id="eleven_multilingual_v2"),
    )
    assert detail["param"] == "model_id"
    refused(400, "model_not_found", lambda: convert(GEORGE, audio=SHORT, model_id="nonsense"))
    refused(400, "invalid_audio_format", lambda: convert(GEORGE, audio=b"only words " * 50))
    refused(400, "invalid_audio", lambda: convert(GEORGE, audio=b""))
    six_minutes = (FOLDER / "six_minutes.wav").read_bytes()
    refused(400, "audio_too_long", lambda: convert(GEORGE, audio=six_minutes))
    for settings in ("[object Object]", '{"stability": 2}', "[]"):
        detail = refused(
            400,
            "invalid_voice_settings",
            lambda text=settings: convert(GEORGE, audio=SHORT, voice_settings=text),
        )
        assert detail["param"] == "voice_settings"
    unprocessable(["body", "seed"], lambda: convert(GEORGE, audio=SHORT, seed=-1))


def check_zero_retention() -> None:
    def count() -> int:
        return len(client.history.list(page_size=1000).history)

    before = count()
    with client.speech_to_speech.with_raw_response.stream(
        GEORGE, audio=SHORT, enable_logging=False
    ) as response:
        assert "history-item-id" not in response.headers
        assert response.headers["character-cost"] == "20"
        check_format("mp3_44100_128", joined(response.data))
    assert count() == before


def check_async_client() -> None:
    async def run() -> bytes:
        asynchronous = AsyncElevenLabs(base_url=BASE_URL)
        pieces = asynchronous.speech_to_speech.stream(GEORGE, audio=SHORT)
        return b"".join([piece async for piece in pieces])

    check_format("mp3_44100_128", asyncio.run(run()))


def check_voices() -> None:
    listed = client.voices.get_all(show_legacy=True).voices
    assert len(listed) >= 16
    for voice in listed:
        assert client.voices.get(voice.voice_id, with_settings=True) == voice
        assert voice.preview_url
        assert set(voice.labels) >= {"language", "accent", "gender", "age", "use_case"}
    preview = httpx.get(listed[-1].preview_url, timeout=60)
    assert preview.headers["content-type"] == "audio/mpeg"
    found: list[str] = []
    token = None
    while True:
        page = client.voices.search(page_size=9, next_page_token=token, sort="name")
        found += [voice.voice_id for voice in page.voices]
        token = page.next_page_token
        assert page.has_more == (token is not None)
        if not page.has_more:
            break
    assert sorted(found) == sorted(voice.voice_id for voice in listed)
    assert page.total_count == len(listed)
    page = client.voices.search(
        page_size=5,
        search="premade",
        sort="created_at_unix",
        sort_direction="desc",
        voice_type="default",
        category="premade",
        gender="female",
        age="young",
        language=["en", "de"],
        accent="american",
        include_total_count=False,
    )
    assert page.voices
    assert isinstance(page.total_count, int)
    assert client.voices.search(fine_tuning_state="fine_tuned", collection_id="c").voices == []
    assert [one.voice_id for one in client.voices.search(voice_ids=[GEORGE]).voices] == [GEORGE]
    refused(400, "invalid_page_size", lambda: client.voices.search(page_size=500))


def check_voice_settings_of_a_voice() -> None:
    default = client.voices.settings.get_default()
    assert (default.stability, default.similarity_boost, default.style) == (0.5, 0.75, 0.0)
    assert (default.use_speaker_boost, default.speed) == (True, 1.0)
    changed = client.voices.settings.update(GEORGE, request=VoiceSettings(stability=0.2))
    assert changed.status == "ok"
    assert client.voices.settings.get(GEORGE).stability == 0.2
    assert client.voices.settings.get(GEORGE).similarity_boost == 0.75
    assert client.voices.get(GEORGE).settings.stability == 0.2
    client.voices.settings.update(GEORGE, request=VoiceSettings(stability=0.5))


def check_clone() -> None:
    made = client.voices.ivc.create(name="Mine", files=[io.BytesIO(SPEECH)])
    assert made.requires_verification is False
    voice = client.voices.get(made.voice_id)
    assert (voice.name, voice.category, voice.labels) == ("Mine", "cloned", {})
    assert voice.is_owner is True
    (sample,) = voice.samples
    assert joined(client.voices.samples.audio.get(made.voice_id, sample.sample_id)) == SPEECH
    check_format(
        "mp3_44100_128", joined(client.speech_to_speech.convert(made.voice_id, audio=SHORT))
    )
    with (FOLDER / "speech.wav").open("rb") as file:
        changed = client.voices.update(
            made.voice_id,
            name="Ours",
            files=[file],
            remove_background_noise=True,
            description="Two of us",
            labels={"accent": "scottish"},
        )
    assert changed.status == "ok"
    assert client.voices.update(made.voice_id, name="Ours again").status == "ok"
    voice = client.voices.get(made.voice_id)
    assert (voice.name, voice.description) == ("Ours again", "Two of us")
    assert voice.labels == {"accent": "scottish"}
    assert [one.file_name for one in voice.samples][1] == "speech.wav"
    assert client.samples.delete(made.voice_id, sample.sample_id).status == "ok"
    (left,) = client.voices.get(made.voice_id).samples
    refused(400, "bad_request", lambda: client.samples.delete(made.voice_id, left.sample_id))
    refused(
        404,
        "sample_not_found",
        lambda: client.voices.samples.audio.get(made.voice_id, sample.sample_id),
    )
    assert client.voices.delete(made.voice_id).status == "ok"
    refused(404, "voice_not_found", lambda: client.voices.get(made.voice_id))
    refused(403, "voice_access_denied", lambda: client.voices.delete(GEORGE))


def check_clone_with_everything() -> None:
    made = client.voices.ivc.create(
        name="All",
        files=[("a.wav", SPEECH, "audio/wav"), ("b.wav", SPEECH, "audio/wav")],
        remove_background_noise=True,
        description="Everything given",
        labels={"language": "en", "gender": "female"},
    )
    voice = client.voices.get(made.voice_id)
    assert [one.remove_background_noise for one in voice.samples] == [True, True]
    assert voice.labels == {"language": "en", "gender": "female"}
    client.voices.delete(made.voice_id)


def check_models() -> None:
    models = {model.model_id: model for model in client.models.list()}
    multilingual = models["eleven_multilingual_sts_v2"]
    assert multilingual.can_do_voice_conversion
    assert len(multilingual.languages) == 29
    assert [one.language_id for one in models["eleven_english_sts_v2"].languages] == ["en"]


def check_history() -> None:
    made = []
    for output_format in ("mp3_44100_64", "pcm_16000", "wav_16000"):
        with client.speech_to_speech.with_raw_response.convert(
            GEORGE, audio=SHORT, output_format=output_format
        ) as response:
            audio = joined(response.data)
            made.append((response.headers["history-item-id"], audio, output_format))
    first = client.history.list(page_size=2, source="STS")
    assert len(first.history) == 2
    assert first.has_more is True
    assert first.history[0].history_item_id == made[-1][0]
    second = client.history.list(
        page_size=2, source="STS", start_after_history_item_id=first.last_history_item_id
    )
    assert second.history[0].history_item_id == made[0][0]
    newest = client.history.list(
        page_size=5,
        voice_id=GEORGE,
        model_id="eleven_english_sts_v2",
        date_after_unix=int(time.time()) - 3600,
        date_before_unix=int(time.time()) + 3600,
        sort_direction="desc",
        search="a",
        source="STS",
    )
    assert isinstance(newest.history, list)
    for item_id, audio, output_format in made:
        item = client.history.get(item_id)
        assert item.source == "STS"
        assert item.state == "created"
        assert item.character_count_change_to - item.character_count_change_from == 20
        assert item.output_format in {output_format, None}
        assert joined(client.history.get_audio(item_id)) == audio
    item_id, audio, _ = made[0]
    assert joined(client.history.download(history_item_ids=[item_id])) == audio
    as_wav = joined(client.history.download(history_item_ids=[item_id], output_format="wav"))
    assert properties(as_wav)[0] == "pcm_s16le"
    archive = joined(client.history.download(history_item_ids=[item_id, made[1][0]]))
    with zipfile.ZipFile(io.BytesIO(archive)) as archived:
        assert sorted(name.split(".")[0] for name in archived.namelist()) == sorted(
            [item_id, made[1][0]]
        )
        assert archived.read(f"{item_id}.mp3") == audio
    for item_id, _, _ in made:
        assert client.history.delete(item_id).status == "ok"
        refused(
            404,
            "history_item_not_found",
            lambda gone=item_id: client.history.get(gone).dict(),
        )


def check_account() -> None:
    user = client.user.get()
    assert user.user_id
    assert user.subscription.character_limit > 0
    subscription = client.user.subscription.get()
    assert subscription.tier
    before = subscription.character_count
    joined(client.speech_to_speech.convert(GEORGE, audio=SHORT))
    assert client.user.subscription.get().character_count == before + 20
    now = int(time.time() * 1000)
    usage = client.usage.get(
        start_unix=now - 86_400_000,
        end_unix=now + 86_400_000,
        include_workspace_metrics=False,
        breakdown_type="none",
        aggregation_interval="day",
        metric="credits",
    )
    assert sum(usage.usage["All"]) >= 20
    assert len(usage.usage["All"]) == len(usage.time)


def check_audio_isolation() -> None:
    for call in (client.audio_isolation.convert, client.audio_isolation.stream):
        codec, rate, seconds = properties(joined(call(audio=SHORT)))
        assert codec.startswith("mp3")
        assert rate == 44100
        assert abs(seconds - SHORT_SECONDS) <= 1152 / rate, seconds
        pcm = (FOLDER / "short_16000.pcm").read_bytes()
        assert properties(joined(call(audio=pcm, file_format="pcm_s16le_16")))[1] == 44100
    listed = client.audio_isolation.list(page_size=10)
    assert isinstance(listed.items, list)
    assert listed.has_more is False


def check_library() -> None:
    assert client.voices.get_shared().voices == []


def check_single_use_token() -> None:
    assert client.tokens.single_use.create("tts_websocket").token


def check_service_accounts() -> None:
    holder = client.service_accounts.create(name="Robots")
    holder_id = holder.service_account_user_id
    assert holder_id in {
        one.service_account_user_id for one in client.service_accounts.list().service_accounts
    }
    keys = client.service_accounts.api_keys
    made = keys.create(holder_id, name="one", permissions=["voices_read"], character_limit=5)
    robot = ElevenLabs(base_url=BASE_URL, api_key=made.xi_api_key)
    assert robot.voices.get_all().voices
    refused(401, "missing_permissions", robot.models.list)
    (listed,) = keys.list(holder_id).api_keys
    assert listed.key_id == made.key_id
    keys.update(holder_id, made.key_id, name="two", permissions="all", is_enabled=True)
    assert robot.models.list()
    keys.disable(holder_id, made.key_id)
    refused(401, "invalid_api_key", robot.models.list)
    keys.delete(holder_id, made.key_id)
    assert keys.list(holder_id).api_keys == []


def check_strict_types() -> None:
    """The SDK accepts answers that lack keys; its own types, asked strictly, must be satisfied."""
    from elevenlabs import types  # noqa: PLC0415

    joined(client.speech_to_speech.convert(GEORGE, audio=SHORT))
    item = client.history.list(page_size=1).history[0].history_item_id
    now = int(time.time() * 1000)
    answers = {
        "/v1/voices": types.GetVoicesResponse,
        "/v2/voices?page_size=100": types.GetVoicesV2Response,
        f"/v1/voices/{GEORGE}": types.Voice,
        f"/v1/voices/{GEORGE}/settings": types.VoiceSettings,
        "/v1/voices/settings/default": types.VoiceSettings,
        "/v1/models": list[types.Model],
        "/v1/history": types.GetSpeechHistoryResponse,
        f"/v1/history/{item}": types.SpeechHistoryItemResponse,
        "/v1/user": types.User,
        f"/v1/usage/character-stats?start_unix={now - 1000}&end_unix={now}": (
            types.UsageCharactersResponseModel
        ),
        "/v1/shared-voices": types.GetLibraryVoicesResponse,
    }
    key = client._client_wrapper.get_headers()["xi-api-key"]
    with httpx.Client(base_url=BASE_URL, headers={"xi-api-key": key}, timeout=60) as raw:
        for path, kind in answers.items():
            TypeAdapter(kind).validate_python(raw.get(path).json())


def main() -> None:
    results: dict[str, str | None] = {"version": elevenlabs.__version__}
    for name, check in list(globals().items()):
        if not name.startswith("check_") or name == "check_format":
            continue
        try:
            check()
            results[name] = None
        except BaseException:
            results[name] = traceback.format_exc(limit=-4)
    print(json.dumps(results))


main()
