"""The page as a person uses it, judged by the sound that comes out."""

import re
import wave
import zipfile

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.sounds import speech, wav

from menura.engine.interface import LATENCY_PROFILES
from menura.engine.registry import engine_for

from .conftest import PATIENCE, SPEECH
from .steps import LISTEN, choose, convert, open_page, until


def median_f0(samples: np.ndarray, rate: int) -> float:
    """Median F0 in Hz by autocorrelation, of the louder half of the frames."""
    window, found = int(0.04 * rate), []
    frames = [samples[at : at + window] for at in range(0, samples.size - window, window // 2)]
    loud = np.median([np.square(frame).mean() for frame in frames])
    for frame in frames:
        if np.square(frame).mean() < loud:
            continue
        spectrum = np.fft.rfft(frame - frame.mean(), 2 * window)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:window]
        low, high = rate // 400, rate // 65
        lag = low + int(correlation[low:high].argmax())
        if correlation[lag] > 0.4 * correlation[0]:
            found.append(rate / lag)
    return float(np.median(found))


def test_a_recording_is_converted_heard_drawn_and_downloaded(page: Page, shared_server):
    open_page(page, shared_server)
    page.set_input_files("#file", SPEECH)
    expect(page.locator("#source-name")).to_contain_text("0:0")
    choose(page, "convert", "female")
    page.locator("#convert").click()
    plots = page.locator("#plots")
    expect(plots.locator("canvas")).to_have_count(5)
    expect(page.locator("#timing")).to_contain_text(re.compile(r"First sound after \d+ ms"))
    source_f0 = float(plots.get_attribute("data-source-f0"))
    result_f0 = float(plots.get_attribute("data-result-f0"))
    assert result_f0 > 1.25 * source_f0

    with page.expect_download() as download:
        page.locator("#download-format").select_option("wav_24000")
        page.locator("#download").click()
    with wave.open(str(download.value.path())) as file:
        assert file.getframerate() == 24000
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert samples.size / 24000 == pytest.approx(
        float(plots.get_attribute("data-seconds")), abs=0.001
    )
    assert np.abs(samples).max() > 0.05

    page.locator("#hear-source").click()
    page.locator("#play").click()
    until(page, "document.querySelector('#seek').value > 0.2")
    page.locator("#hear-result").click()
    assert float(page.locator("#seek").input_value()) > 0.2
    page.locator("#play").click()


def test_a_melody_is_kept(page: Page, shared_server):
    open_page(page, shared_server)
    expect(page.locator("#convert-transpose")).to_be_disabled()
    page.get_by_label("Keep the melody").first.check()
    page.locator("#convert-transpose").fill("12")
    expect(page.locator("output[for=convert-transpose]")).to_have_text("+12")
    convert(page)
    (latest,) = shared_server.client.get("/v1/history?page_size=1").json()["history"]
    assert latest["settings"]["transpose"] == 12
    made = shared_server.client.get(f"/v1/history/{latest['history_item_id']}/audio").content
    tracks = []
    for sound in (speech(SPEECH.stem), np.frombuffer(made, "<i2") / np.float32(32_768)):
        analysis = engine_for().analysis(LATENCY_PROFILES[0])
        tracks.append(np.concatenate([analysis.push(sound).f0, analysis.flush().f0]))
    source_f0, result_f0 = (track[: min(map(len, tracks))] for track in tracks)
    both = (source_f0 > 0) & (result_f0 > 0)
    apart = 12 * np.log2(result_f0[both] / source_f0[both])
    assert np.median(apart) == pytest.approx(12, abs=0.5)


def test_a_person_talks_live_and_is_heard_in_another_voice(page: Page, shared_server):
    page.add_init_script(LISTEN)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    choose(page, "live", "female")
    page.locator("#live-start").click()
    expect(page.locator("#fact-rtf")).not_to_have_text("\u2013")
    until(page, "window.heard.length > 4 * 24000")
    expect(page.locator("#delay")).to_have_text(re.compile(r"\d+"))
    assert int(page.locator("#delay").inner_text()) > 20
    page.locator("#live-mute").click()
    expect(page.locator("#live-mute")).to_have_attribute("aria-pressed", "true")
    page.locator("#live-bypass").click()
    page.locator("#live-start").click()
    expect(page.locator("#live-start")).to_have_text("Start talking")

    rate = 24000
    heard = np.array(page.evaluate("window.heard"), np.float32)
    assert heard.size > 3 * rate
    # All but the first second, in which a stream learns how high its speaker is; a single phrase
    # may end low in any voice.
    pitch = median_f0(heard[rate:], rate)
    assert pitch > 145
    # No hole in the sound: the recording's own pauses are never exactly silent for long.
    sounding = np.flatnonzero(heard[: 4 * rate])
    assert np.diff(sounding).max() < rate / 4


def test_a_voice_is_cloned_from_a_guided_recording_and_used(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Voices").click()
    page.locator("#clone-name").fill("My own")
    page.locator("#clone-record").click()
    until(page, "parseFloat(document.querySelector('#clone-clock').textContent) >= 10.5")
    page.locator("#clone-record").click()
    expect(page.locator("#clone-level")).to_contain_text("It will be used")
    page.locator("#clone-consent").check()
    page.get_by_role("button", name="Make the voice").click()
    expect(page.locator("#room-convert")).to_be_visible(timeout=PATIENCE)
    chosen = page.locator("[data-picker=convert] .choose[aria-pressed=true]")
    expect(chosen).to_contain_text("My own")

    made = next(
        voice
        for voice in shared_server.client.get("/v1/voices").json()["voices"]
        if voice["name"] == "My own"
    )
    assert made["category"] == "cloned"
    page.set_input_files("#file", SPEECH)
    page.locator("#convert").click()
    expect(page.locator("#plots canvas")).to_have_count(5)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("tab", name="Voices").click()
    page.get_by_role("button", name="Delete My own").click()
    expect(page.locator("#voice-library").get_by_text("My own")).to_have_count(0)


def test_a_clone_shows_what_was_said_of_it_and_what_its_recordings_lack(page: Page, server):
    open_page(page, server())
    page.get_by_role("tab", name="Voices").click()
    clipped = np.clip(20 * speech(SPEECH.stem), -1, 1)
    page.set_input_files(
        "#clone-files",
        {"name": "loud.wav", "mimeType": "audio/wav", "buffer": wav(np.tile(clipped, 3), 24_000)},
    )
    page.locator("#clone-name").fill("Loud")
    page.locator("#clone-description").fill("From an old answering machine")
    page.locator("#clone-consent").check()
    page.get_by_role("button", name="Make the voice").click()
    expect(page.locator("#notice")).to_contain_text("samples are clipped")
    chosen = page.locator("[data-picker=convert] .choose[aria-pressed=true]")
    expect(chosen).to_contain_text("From an old answering machine")


def test_the_page_converts_with_the_servers_default_model(page: Page, server):
    started = server(default_model="menura_source_filter_v1")
    open_page(page, started)
    convert(page)
    page.get_by_text("More", exact=True).click()
    page.locator("#model").select_option("menura_neural_v2")
    page.locator("#convert").click()
    expect(page.locator("#cancel")).to_be_hidden()
    items = started.client.get("/v1/history").json()["history"]
    assert [item["model_id"] for item in items] == ["menura_neural_v2", "menura_source_filter_v1"]


def test_history_is_replayed_downloaded_and_deleted(page: Page, shared_server):
    for _ in range(2):
        with SPEECH.open("rb") as file:
            made = shared_server.client.post(
                "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM?output_format=pcm_16000",
                files={"audio": file},
            )
        assert made.status_code == 200
    open_page(page, shared_server)
    page.get_by_role("tab", name="History").click()
    rows = page.locator("#history-list li[data-id]")
    expect(rows.nth(1)).to_be_visible()
    count = rows.count()
    rows.first.get_by_role("button", name="Play").click()
    player = rows.first.locator("audio")
    expect(player).to_be_visible()
    until(page, "document.querySelector('#history-list audio').duration > 1")
    for row in (rows.nth(0), rows.nth(1)):
        row.get_by_role("checkbox").check()
    with page.expect_download() as download:
        page.locator("#history-zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert len(archive.namelist()) == 2
    page.once("dialog", lambda dialog: dialog.accept())
    rows.first.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(count - 1)
    expect(rows.first.get_by_role("button", name="Delete")).to_be_focused()


def test_keys_are_made_and_revoked(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#usage-facts")).to_contain_text("enterprise")
    page.locator("#key-name").fill("for a game")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#key-made code")).to_have_text(re.compile("^sk_"))
    secret = page.locator("#key-made code").inner_text()
    with shared_server.anonymous(headers={"xi-api-key": secret}) as client:
        assert client.get("/v1/user").status_code == 200
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Revoke for a game").click()
        expect(page.locator("#key-list").get_by_text("for a game")).to_have_count(0)
        assert client.get("/v1/user").status_code == 401


def test_usage_is_told_in_words_and_its_month_is_that_of_utc(page: Page, shared_server):
    west = page.context.browser.new_context(timezone_id="America/Los_Angeles", locale="en-US")
    there = west.new_page()
    open_page(there, shared_server)
    there.get_by_role("tab", name="Account").click()
    expect(there.locator("#usage-facts")).to_contain_text(re.compile(r"begins\d+/1/\d{4}"))
    expect(there.locator("#usage-facts")).to_contain_text("(no limit)")
    west.close()


def test_a_wrong_key_and_a_file_without_sound_say_what_to_do(page: Page, shared_server):
    page.goto(f"{shared_server.url}/#key=sk_wrong")
    expect(page.locator("#notice")).to_contain_text("menura keys create")
    page.locator("#key").fill(shared_server.api_key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#rooms")).to_be_visible()
    expect(page.get_by_role("tab", name="Convert")).to_be_focused()
    page.set_input_files(
        "#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Not a sound. " * 99}
    )
    page.locator("#convert").click()
    expect(page.locator("#notice")).to_contain_text("Save the recording as")


def test_previews_are_heard_and_the_list_is_searched(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Voices").click()
    library = page.locator("#voice-library")
    total = library.locator("li").count()
    assert total >= 16
    library.get_by_label("Search").fill("male young")
    expect(library.locator("li")).not_to_have_count(total)
    listen = library.locator("li button").first
    listen.click()
    expect(listen).to_have_attribute("aria-pressed", "true")


def test_the_keyboard_reaches_every_room(page: Page, shared_server):
    open_page(page, shared_server)
    page.locator("#tab-convert").focus()
    for room in ("live", "voices", "history", "account", "convert"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#room-{room}")).to_be_visible()
        expect(page.locator(f"#tab-{room}")).to_be_focused()


def test_back_and_forward_go_through_the_rooms(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("tab", name="History").click()
    expect(page).to_have_title(re.compile("^History"))
    page.go_back()
    expect(page.locator("#room-live")).to_be_visible()
    page.go_back()
    expect(page.locator("#room-convert")).to_be_visible()
    page.go_forward()
    expect(page.locator("#room-live")).to_be_visible()
    expect(page).to_have_title(re.compile("^Live"))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_every_room_passes_the_accessibility_check(page: Page, shared_server, theme, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=theme)
    open_page(page, shared_server)
    for room in ("convert", "live", "voices", "history", "account"):
        page.locator(f"#tab-{room}").click()
        expect(page.locator(f"#room-{room}")).to_be_visible()
        violations = Axe().run(page).response["violations"]
        assert not [
            (found["id"], [node["html"][:120] for node in found["nodes"]]) for found in violations
        ]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_speaks_to_nobody_else(page: Page, shared_server):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, shared_server)
    elsewhere = [url for url in asked if not url.startswith((shared_server.url, "blob:", "data:"))]
    assert asked
    assert not elsewhere
