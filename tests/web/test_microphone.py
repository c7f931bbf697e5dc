"""The microphone and what records from it, when something is in the way."""

import re
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from .conftest import PATIENCE, SPEECH
from .line import Line
from .steps import convert, loading_voices, open_page, until, wait_for_all

TRACKS = """
window.tracks = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wish) => {
  const stream = await ask(wish);
  window.tracks.push(...stream.getTracks());
  return stream;
};
"""

# Chromium ends no fake microphone by itself; a track says so in this way when its device is pulled.
UNPLUG = """
for (const track of window.tracks) {
  track.stop();
  track.dispatchEvent(new Event("ended"));
}
"""


@pytest.mark.parametrize(
    ("room", "button", "at_work"),
    [
        ("convert", "record", "■ Stop"),
        ("voices", "clone-record", "■ Stop"),
        ("live", "live-start", "Stop"),
    ],
)
def test_a_server_that_is_away_for_a_moment_is_said_and_forgotten(
    page: Page, shared_server, room, button, at_work
):
    with Line(shared_server.url) as line:
        open_page(page, replace(shared_server, url=line.url))
        wait_for_all(page)
        with loading_voices(page) if room == "voices" else nullcontext():
            page.locator(f"#tab-{room}").click()
        line.die()
        page.locator(f"#{button}").click()
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        line.mend()
        page.locator(f"#{button}").click()
        expect(page.locator(f"#{button}")).to_have_text(at_work)
        expect(page.locator("#notice")).to_be_hidden()
        page.locator(f"#{button}").click()


def test_a_recording_outlives_its_microphone(page: Page, shared_server):
    page.add_init_script(TRACKS)
    open_page(page, shared_server)
    page.locator("#record").click()
    seconds = re.compile(r"0:(0[1-9]|[1-5]\d)")
    expect(page.locator("#source-name")).to_have_text(seconds)
    page.evaluate(UNPLUG)
    expect(page.locator("#notice")).to_contain_text("What was recorded is kept")
    expect(page.locator("#source-name")).to_contain_text("recording.wav, ")
    expect(page.locator("#source-name")).to_have_text(seconds)
    expect(page.locator("#record")).to_have_text("● Record")


def test_live_and_the_guided_recording_end_with_their_microphone(page: Page, shared_server):
    page.add_init_script(TRACKS)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    until(page, "Number(document.querySelector('#delay').textContent) > 20")
    page.evaluate(UNPLUG)
    expect(page.locator("#notice")).to_contain_text("The microphone is gone")
    expect(page.locator("#live-start")).to_have_text("Start talking")
    for meter in ("meter-in", "meter-out"):
        expect(page.locator(f"#{meter}")).to_have_attribute("aria-valuenow", "-60")
    page.get_by_role("tab", name="Voices").click()
    page.locator("#clone-record").click()
    expect(page.locator("#clone-clock")).not_to_have_text("0.0 s")
    page.evaluate(UNPLUG)
    expect(page.locator("#notice")).to_contain_text("The microphone is gone")
    expect(page.locator("#clone-record")).to_have_text("● Record again")
    expect(page.locator("#clone-level")).to_contain_text("It is not used")


# Hears what every context plays, as a listener would.
LOUDSPEAKERS = """
window.taps = [];
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const tap = new AnalyserNode(to.context);
    window.taps.push(tap);
    connect.call(this, tap);
  }
  return connect.call(this, to, ...rest);
};
window.loudest = () => Math.max(...window.taps.map((tap) => {
  const samples = new Float32Array(tap.fftSize);
  tap.getFloatTimeDomainData(samples);
  return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
}));
"""


def test_who_is_muted_is_not_heard_past_the_converter(page: Page, shared_server):
    page.add_init_script(LOUDSPEAKERS)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    expect(page.locator("#fact-rtf")).not_to_have_text("\u2013")
    page.locator("#live-bypass").click()
    until(page, "window.loudest() > 0.05")
    page.locator("#live-mute").click()
    page.wait_for_timeout(1500)  # what was said before is still on its way
    heard = []
    for _ in range(30):
        heard.append(page.evaluate("window.loudest()"))
        page.wait_for_timeout(50)
    assert max(heard) < 0.001
    page.locator("#live-mute").click()
    until(page, "window.loudest() > 0.05")
    page.locator("#live-start").click()


CONTEXTS = """
window.contexts = [];
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    window.contexts.push(this);
  }
};
"""

# Chromium's fake devices cannot be pulled.
UNPLUG_OUTPUTS = """
const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
navigator.mediaDevices.enumerateDevices = async () =>
  (await list()).filter(({ kind }) => kind !== "audiooutput");
navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
"""


def test_an_output_that_is_unplugged_is_left_for_the_one_that_is_shown(page: Page, shared_server):
    page.add_init_script(CONTEXTS)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    expect(page.locator("#fact-rtf")).not_to_have_text("\u2013")
    outputs = "window.contexts.map(({ sinkId }) => sinkId)"
    page.locator("#speaker").select_option(index=1)
    chosen = page.locator("#speaker").input_value()
    until(page, f"{outputs}.includes('{chosen}')")
    page.evaluate(UNPLUG_OUTPUTS)
    expect(page.locator("#speaker")).to_have_value("")
    until(page, f"!{outputs}.includes('{chosen}')")
    page.locator("#live-start").click()


NODES = """
window.nodes = [];
window.AudioWorkletNode = class extends AudioWorkletNode {
  constructor(...options) {
    super(...options);
    window.nodes.push(new WeakRef(this));
  }
};
"""


def nodes_left(page: Page, expected: int) -> int:
    """Collect garbage until at most so many worklets are left, and return how many are."""
    collector = page.context.new_cdp_session(page)
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        collector.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(100)
        left = page.evaluate("window.nodes.filter((node) => node.deref()).length")
        if left <= expected or time.monotonic() > deadline:
            return left


def test_a_live_stream_that_is_over_stays_neither_at_work_nor_in_memory(page: Page, shared_server):
    page.add_init_script(NODES)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    for count in (2, 4, 6):
        page.locator("#live-start").click()
        until(page, f"window.nodes.length === {count}")
        page.wait_for_timeout(1000)
        page.locator("#live-start").click()
        expect(page.locator("#live-start")).to_have_text("Start talking")
    # The last one's pitch is still on the plot.
    assert nodes_left(page, 2) <= 2


def test_a_recording_that_is_over_stays_neither_at_work_nor_in_memory(page: Page, shared_server):
    page.add_init_script(NODES)
    open_page(page, shared_server)
    record = page.locator("#record")
    for _ in range(3):
        record.click()
        expect(page.locator("#source-name")).to_contain_text("Recording, ")
        record.click()
        expect(record).to_have_text("● Record")
    assert page.evaluate("window.nodes.length") == 3
    assert nodes_left(page, 0) == 0


@pytest.mark.parametrize(
    ("room", "button"),
    [("Convert", "#record"), ("Live", "#live-start"), ("Voices", "#clone-record")],
)
def test_every_room_shows_where_the_microphone_is_open(page: Page, shared_server, room, button):
    open_page(page, shared_server)
    page.get_by_role("tab", name=room).click()
    page.locator(button).click()
    page.get_by_role("tab", name="History").click()
    marked = page.get_by_role("tab", name="●")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text(room)
    marked.click()
    page.locator(button).click()
    expect(marked).to_have_count(0)


def test_a_voice_of_too_little_speech_is_asked_about_first(page: Page, server):
    started = server()
    open_page(page, started)
    page.get_by_role("tab", name="Voices").click()
    page.set_input_files("#clone-files", SPEECH)
    page.locator("#clone-consent").check()
    page.locator("#clone-name").fill("   ")
    make = page.get_by_role("button", name="Make the voice")
    make.click()
    expect(page.locator("#notice")).to_contain_text("Give the voice a name")

    asked: list[str] = []

    def names() -> list[str]:
        return [voice["name"] for voice in started.client.get("/v1/voices").json()["voices"]]

    def answer(dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on("dialog", answer)
    page.locator("#clone-name").fill("In a hurry")
    make.click()
    expect(make).to_be_enabled()
    page.wait_for_timeout(300)
    assert "In a hurry" not in names()
    make.dblclick()
    chosen = page.locator("[data-picker=convert] .choose[aria-pressed=true]")
    expect(chosen).to_contain_text("In a hurry")
    assert names().count("In a hurry") == 1
    assert len(asked) == 2
    assert "10 to 60 seconds" in asked[0]


def test_what_sounds_is_hushed_by_the_next_sound_and_by_the_microphone(page: Page, shared_server):
    open_page(page, shared_server)
    convert(page)
    play, preview = page.locator("#play"), page.locator("#room-convert [data-preview]").first
    expect(play).to_have_attribute("aria-label", "Play")
    play.click()
    expect(play).to_have_attribute("aria-label", "Pause")
    preview.click()
    expect(play).to_have_attribute("aria-label", "Play")
    expect(preview).to_have_attribute("aria-pressed", "true")
    play.click()
    expect(preview).to_have_attribute("aria-pressed", "false")
    page.get_by_role("tab", name="History").click()
    page.locator("#history-list").get_by_role("button", name="Play").first.click()
    until(page, "document.querySelector('#history-list audio')?.currentTime > 0")
    expect(play).to_have_attribute("aria-label", "Play")
    page.get_by_role("tab", name="Voices").click()
    page.locator("#clone-record").click()
    until(page, "document.querySelector('#history-list audio').paused")
    page.locator("#clone-record").click()
