"""The page when things go wrong: lost lines, double clicks, keys and tiers with limits."""

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from menura.settings import Tier

from .conftest import SPEECH, spoken_for
from .line import Line
from .steps import (
    LISTEN,
    convert,
    hold,
    let_go,
    let_play,
    limited_key,
    loading_voices,
    open_page,
    revoke_limited_keys,
    until,
    wait_for_all,
)

# The sockets of the page, and what it hears over them.
LINES = """
window.sockets = [];
window.events = [];
window.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url);
    window.sockets.push(this);
    this.addEventListener("message", ({ data }) => {
      if (typeof data === "string") window.events.push(JSON.parse(data));
    });
  }
};
"""

# As Firefox does, which takes a microphone at its own rate only.
OWN_RATE = """
const plain = AudioContext.prototype.createMediaStreamSource;
AudioContext.prototype.createMediaStreamSource = function (stream) {
  if (this.sampleRate === 24000) throw new DOMException("another rate", "NotSupportedError");
  return plain.call(this, stream);
};
"""

# As on a machine that plays at 96 kHz.
HIGH_RATE = """
window.AudioContext = class extends AudioContext {
  constructor(options) { super({ sampleRate: 96000, ...options }); }
};
"""

# A person who takes a while to allow the microphone.
SLOW_MICROPHONE = """
window.tracks = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wish) => {
  await new Promise((resolve) => setTimeout(resolve, 500));
  const stream = await ask(wish);
  window.tracks.push(...stream.getTracks());
  return stream;
};
"""


@contextmanager
def talking_over_a_line(page: Page, server, event: str) -> Iterator[Line]:
    """Lend the line over which the page talks live, once the server has sent such an event."""
    page.add_init_script(LINES)
    with Line(server.url) as line:
        open_page(page, replace(server, url=line.url))
        page.get_by_role("tab", name="Live").click()
        page.locator("#live-start").click()
        until(page, f"window.events.some(({{ type }}) => type === '{event}')")
        yield line


def test_a_voice_chosen_while_the_line_is_down_is_heard_after_it(page: Page, shared_server):
    with talking_over_a_line(page, shared_server, "started") as line:
        line.cut()
        until(page, "window.sockets.at(-1).readyState === WebSocket.CLOSED")
        chosen = page.locator("[data-picker=live] .choose").nth(5)
        chosen.click()
        until(page, "window.events.some(({ type }) => type === 'resumed')")
        until(page, "window.events.some(({ type }) => type === 'changed')")
        changed = page.evaluate("window.events.findLast(({ type }) => type === 'changed').voice_id")
        assert changed == chosen.get_attribute("data-voice")
        page.locator("#live-start").click()
        expect(page.locator("#live-start")).to_have_text("Start talking")


def test_a_line_that_vanishes_without_a_word_is_noticed(page: Page, shared_server):
    with talking_over_a_line(page, shared_server, "stats") as line:
        line.vanish()
        expect(page.locator("#notice")).to_contain_text("The connection dropped")
        until(page, "window.events.some(({ type }) => type === 'resumed')")
        expect(page.locator("#notice")).to_be_hidden()
        # What was said meanwhile has come with the resumption.
        page.evaluate("window.events.length = 0")
        until(page, "window.events.some(({ type }) => type === 'stats')")
        assert page.evaluate("window.events.find(({ type }) => type === 'stats').seconds_in") > 7
        page.locator("#live-start").click()


def test_a_voice_chosen_while_live_begins_is_the_one_that_is_heard(page: Page, shared_server):
    page.add_init_script(LINES)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    held = hold(page, "**/single-use-token/**")
    page.locator("#live-start").click()
    while not held:
        page.wait_for_timeout(50)
    chosen = page.locator("[data-picker=live] .choose").nth(4)
    chosen.click()
    let_go(page, held)
    until(page, "window.events.some(({ type }) => type === 'changed')")
    changed = page.evaluate("window.events.findLast(({ type }) => type === 'changed').voice_id")
    assert changed == chosen.get_attribute("data-voice")
    page.locator("#live-start").click()


def test_live_is_stopped_while_it_begins(page: Page, shared_server):
    page.add_init_script(LINES + SLOW_MICROPHONE)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    held = hold(page, "**/single-use-token/**")
    start = page.locator("#live-start")
    start.click()
    expect(start).to_have_text("Stop")
    start.click()
    expect(start).to_have_text("Start talking")
    assert page.evaluate("window.tracks.map((track) => track.readyState)") == ["ended"]
    let_go(page, held)
    page.wait_for_timeout(500)
    assert page.evaluate("window.sockets.length") == 0
    expect(page.locator("#notice")).to_be_hidden()
    start.click()
    let_go(page, held)
    until(page, "window.events.some(({ type }) => type === 'started')")
    start.click()


def test_a_voice_deleted_while_it_is_heard_live_gives_way_to_the_one_shown(page: Page, server):
    started = server()
    started.client.post(
        "/v1/voices/add", data={"name": "Not long"}, files={"files": SPEECH.read_bytes()}
    ).raise_for_status()
    page.add_init_script(LINES)
    open_page(page, started)
    page.get_by_role("tab", name="Live").click()
    page.locator("[data-picker=live] .choose", has_text="Not long").click()
    page.locator("#live-start").click()
    until(page, "window.events.some(({ type }) => type === 'started')")
    page.get_by_role("tab", name="Voices").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete Not long").click()
    until(page, "window.events.some(({ type }) => type === 'changed')")
    page.get_by_role("tab", name="Live").click()
    shown = page.locator("[data-picker=live] .choose[aria-pressed=true]")
    changed = page.evaluate("window.events.findLast(({ type }) => type === 'changed').voice_id")
    assert changed == shown.get_attribute("data-voice")
    page.locator("#live-start").click()


def test_what_is_said_before_live_has_begun_does_not_delay_what_follows(page: Page, shared_server):
    page.add_init_script(LINES)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    held = hold(page, "**/single-use-token/**")
    page.locator("#live-start").click()
    while not held:
        page.wait_for_timeout(50)
    page.wait_for_timeout(2000)
    let_go(page, held)
    until(page, "window.events.some(({ type }) => type === 'stats')")
    first = page.evaluate("window.events.find(({ type }) => type === 'stats')")
    assert first["seconds_in"] < 2
    page.locator("#live-start").click()


def test_an_item_whose_list_is_drawn_anew_is_not_played_out_of_sight(page: Page, shared_server):
    with SPEECH.open("rb") as file:
        shared_server.client.post(
            "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM", files={"audio": file}
        ).raise_for_status()
    page.add_init_script(
        "window.played = 0;"
        "const play = HTMLMediaElement.prototype.play;"
        "HTMLMediaElement.prototype.play = function () {"
        "  window.played += 1; return play.call(this); };"
    )
    open_page(page, shared_server)
    page.get_by_role("tab", name="History").click()
    item = page.locator("#history-list li[data-id]").first
    held = hold(page, f"**/v1/history/{item.get_attribute('data-id')}/audio")
    item.get_by_role("button", name="Play").click()
    while not held:
        page.wait_for_timeout(50)
    item.evaluate("(line) => { line.dataset.old = 'yes'; }")
    page.locator("#history-refresh").click()
    until(page, "!document.querySelector('[data-old]')")
    with page.expect_response("**/audio"):
        let_go(page, held)
    page.wait_for_timeout(500)
    assert page.evaluate("window.played") == 0


@pytest.mark.parametrize("kind", ["deleted", "folder"])
def test_a_file_that_cannot_be_read_is_not_called_an_absent_server(
    page: Page, shared_server, tmp_path, kind
):
    chosen = tmp_path / "mine.flac"
    if kind == "folder":
        chosen.mkdir()
    else:
        chosen.write_bytes(SPEECH.read_bytes())
    open_page(page, shared_server)
    box = page.locator("#drop").bounding_box()
    drop(page, box["x"] + 20, box["y"] + 20, file=chosen)
    expect(page.locator("#source-name")).to_contain_text(
        "mine.flac, 0:0" if kind == "deleted" else "mine.flac (this browser"
    )
    if kind == "deleted":
        chosen.unlink()
    page.locator("#convert").click()
    expect(page.locator("#notice")).to_contain_text("mine.flac cannot be read")
    expect(page.locator("#timing")).to_have_text("")


def test_pictures_that_cannot_be_drawn_do_not_keep_the_result_waiting(page: Page, shared_server):
    page.route("**/analysis-worker.js", lambda route: route.abort())
    open_page(page, shared_server)
    page.set_input_files("#file", SPEECH)
    page.locator("#convert").click()
    expect(page.locator("#notice")).to_contain_text("The server does not answer")
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#player")).to_be_visible()
    page.unroute("**/analysis-worker.js")
    page.locator("#convert").click()
    expect(page.locator("#plots canvas")).to_have_count(5)


def test_an_end_while_the_line_is_down_reaches_the_server(page: Page, server):
    started = server()
    with Line(started.url) as line:
        page.add_init_script(LINES)
        page.goto(f"{line.url}/#key={started.api_key}")
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Start talking").click()
        until(page, "window.events.some((event) => event.type === 'stats')")
        line.cut()
        page.get_by_role("button", name="Stop").click()
        until(page, "window.events.some((event) => event.type === 'ended')")
    (item,) = started.client.get("/v1/history").json()["history"]
    assert item["character_count_change_to"] > 0


def test_a_change_that_is_refused_leaves_the_stream_and_the_picker(page: Page, server):
    started = server()
    cloned = started.client.post(
        "/v1/voices/add", data={"name": "Gone soon"}, files={"files": SPEECH.read_bytes()}
    ).json()["voice_id"]
    page.add_init_script(LINES)
    open_page(page, started)
    page.get_by_role("tab", name="Live").click()
    page.locator("[data-picker=live] .choose").nth(3).click()
    page.get_by_role("button", name="Start talking").click()
    until(page, "window.events.some((event) => event.type === 'started')")
    pressed = page.locator("[data-picker=live] .choose[aria-pressed=true] strong")
    before = pressed.inner_text()
    started.client.delete(f"/v1/voices/{cloned}")
    page.locator("[data-picker=live] .choose", has_text="Gone soon").click()
    expect(page.locator("#notice")).to_contain_text("was not found")
    expect(page.locator("[data-voice]", has_text="Gone soon")).to_have_count(0)
    expect(pressed).to_have_text(before)
    until(page, "window.events.filter((event) => event.type === 'stats').length > 2")
    page.get_by_role("button", name="Stop").click()
    until(page, "window.events.some((event) => event.type === 'ended')")


# A line on which no change gets through.
NO_CHANGES = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (!String(data).includes('"change"')) send.call(this, data);
};
"""


def test_the_end_of_a_stream_is_not_taken_for_the_refusal_of_a_change(page: Page, server):
    # Of two reserves of five seconds the second is short.
    started = server(default_tier="some", tiers={"some": Tier(concurrency=5, credits=150)})
    page.add_init_script(LINES + NO_CHANGES)
    open_page(page, started)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    until(page, "window.events.some(({ type }) => type === 'started')")
    chosen = page.locator("[data-picker=live] .choose").nth(3)
    chosen.click()
    until(page, "window.events.some(({ type }) => type === 'error')")
    until(page, "window.sockets.every(({ readyState }) => readyState === WebSocket.CLOSED)")
    expect(page.locator("#live-start")).to_have_text("Start talking")
    expect(page.locator("#notice")).to_contain_text("Wait for the next month")
    expect(chosen).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("window.sockets.length") == 1


def test_the_page_works_below_a_path(page: Page, shared_server):
    with Line(shared_server.url, "/voice") as line:
        page.add_init_script(LINES)
        page.goto(f"{line.url}/#key={shared_server.api_key}")
        expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
        convert(page)
        page.locator("#room-convert [data-preview]").first.click()
        expect(page.locator("#room-convert [data-preview][aria-pressed=true]")).to_have_count(1)
        page.get_by_role("tab", name="Live").click()
        page.get_by_role("button", name="Start talking").click()
        until(page, "window.events.some((event) => event.type === 'stats')")
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#notice")).to_be_hidden()


def test_the_printed_link_works_in_an_open_page(page: Page, shared_server):
    page.goto(shared_server.url)
    expect(page.locator("#gate")).to_be_visible()
    expect(page.get_by_role("tab", name="History")).to_be_hidden()
    page.evaluate(f"location.hash = 'key={shared_server.api_key}'")
    expect(page.locator("#rooms")).to_be_visible()
    assert shared_server.api_key not in page.url


def test_a_key_is_made_once_however_often_it_is_clicked(page: Page, server):
    started = server()
    open_page(page, started)
    page.get_by_role("tab", name="Account").click()
    page.locator("#key-name").fill("only one")
    page.locator("#key-create button").dblclick()
    expect(page.locator("#key-made code")).to_contain_text("sk_")
    account = started.client.get("/v1/service-accounts").json()["service-accounts"][0]
    assert [key["name"] for key in account["api-keys"]].count("only one") == 1
    page.get_by_role("tab", name="Convert").click()
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#key-made")).to_be_hidden()


def test_male_finds_no_women(page: Page, shared_server):
    open_page(page, shared_server)
    page.locator("[data-picker=convert]").get_by_label("Search").fill("male")
    shown = page.locator("[data-picker=convert] .voice-list")
    expect(shown).not_to_contain_text("female")
    expect(shown).to_contain_text("male")


def test_a_browser_that_keeps_nothing_shows_the_page(page: Page, shared_server):
    page.add_init_script(
        "for (const area of ['localStorage', 'sessionStorage'])"
        "  Object.defineProperty(window, area, {"
        "    get() { throw new DOMException('', 'SecurityError'); } });"
        # As Firefox does.
        "window.BroadcastChannel = class {"
        "  constructor() { throw new DOMException('', 'SecurityError'); } };"
    )
    open_page(page, shared_server)


# Playback on a clock of its own: after a hiccup of 0.2 s its ring is as short as before.
HICCUP = """
async () => {
  const audio = new OfflineAudioContext(1, 24000 * 12, 24000);
  await audio.audioWorklet.addModule("static/worklets/playback.js");
  const node = new AudioWorkletNode(audio, "playback", {
    numberOfInputs: 0, outputChannelCount: [1], processorOptions: { prime: 480, limit: 7200 },
  });
  node.connect(audio.destination);
  const held = [];
  node.port.onmessage = ({ data }) => held.push(data.held);
  let sent = 0;
  const give = (until) => {
    const count = Math.round(until * 24000) - sent;
    if (count > 0) node.port.postMessage(new Float32Array(count).fill(0.1));
    sent += Math.max(0, count);
  };
  for (let at = 0; at < 11.9; at += 0.02) {
    audio.suspend(Math.round(at * 24000 / 128) * 128 / 24000).then(async () => {
      give(at + (at > 1 ? 0.25 : 0.05));
      await new Promise((resolve) => setTimeout(resolve));
      audio.resume();
    });
  }
  const heard = (await audio.startRendering()).getChannelData(0);
  const late = heard.subarray(24000 * 2, 24000 * 11.5);
  const lowest = late.reduce((least, sample) => Math.min(least, sample));
  const highest = late.reduce((most, sample) => Math.max(most, sample));
  return { most: Math.max(...held), last: held.at(-1), lowest, highest };
}
"""


def test_the_delay_of_a_hiccup_does_not_stay(page: Page, shared_server):
    page.goto(shared_server.url)
    found = page.evaluate(HICCUP)
    assert found["most"] > 4_000
    assert found["last"] < 1_500
    # What is skipped leaves neither a gap nor a click.
    assert found["lowest"] > 0.099
    assert found["highest"] < 0.101


# Of 96 kHz every other sample is taken: a tone that remains, and one that would fold down to 8 kHz.
THINNED = """
async (hertz) => {
  const audio = new OfflineAudioContext(1, 96000, 96000);
  await audio.audioWorklet.addModule("static/worklets/capture.js");
  const tone = new OscillatorNode(audio, { frequency: hertz });
  const node = new AudioWorkletNode(audio, "capture", {
    numberOfOutputs: 0, processorOptions: { block: 480, every: 2 },
  });
  const peaks = [];
  let count = 0;
  node.port.onmessage = ({ data }) => {
    count += data.samples.length;
    peaks.push(data.peak);
  };
  tone.connect(node);
  tone.start();
  await audio.startRendering();
  await new Promise((resolve) => setTimeout(resolve, 200));
  return { count, least: Math.min(...peaks.slice(2)), most: Math.max(...peaks.slice(2)) };
}
"""


def test_a_microphone_of_a_high_rate_is_thinned_without_folding(page: Page, shared_server):
    page.goto(shared_server.url)
    for hertz, low, high in ((440, 0.99, 1.01), (10_000, 0.97, 1.01), (40_000, 0, 0.001)):
        found = page.evaluate(THINNED, hertz)
        assert found["count"] == pytest.approx(48_000, abs=480)
        assert found["least"] >= low
        assert found["most"] <= high


@pytest.mark.parametrize(
    "habit", ["", OWN_RATE, HIGH_RATE + OWN_RATE], ids=["any-rate", "own-rate", "own-high-rate"]
)
def test_live_is_open_to_the_lowest_tier(page: Page, server, habit):
    page.add_init_script(LISTEN + habit)
    open_page(page, server(default_tier="free"))
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    until(page, "window.heard.length > 24000")
    until(page, "Number(document.querySelector('#delay').textContent) > 20")
    expect(page.locator("#notice")).to_be_hidden()
    page.locator("#live-start").click()


# What arrives at once is more than playback may hold; what it then says to have dropped is noted.
BURST = """
const post = MessagePort.prototype.postMessage;
MessagePort.prototype.postMessage = function (data, ...rest) {
  if (window.burst && data instanceof Float32Array) {
    window.burst = false;
    post.call(this, new Float32Array(24000));
  }
  return post.call(this, data, ...rest);
};
window.dropped = [];
window.note = () => new MutationObserver(([{ target }]) => {
  const told = parseInt(target.textContent);
  if (told > 500 || window.dropped.length) window.dropped.push(told);
}).observe(document.getElementById("fact-dropped"), { childList: true });
"""


def test_what_live_drops_on_either_side_is_told_as_one_figure(page: Page, shared_server):
    page.add_init_script(LINES + BURST)
    open_page(page, shared_server)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    until(page, "window.events.some(({ type }) => type === 'stats')")
    page.evaluate("window.note(); window.burst = true")
    until(page, "window.dropped.length > 0")
    page.evaluate("window.events.length = 0")
    until(page, "window.events.filter(({ type }) => type === 'stats').length > 1")
    page.locator("#live-start").click()
    assert min(page.evaluate("window.dropped")) > 500


def test_a_download_is_what_was_heard_and_another_format_says_its_cost(page: Page, server):
    started = server(default_tier="free")

    def used() -> int:
        return started.client.get("/v1/user/subscription").json()["character_count"]

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, started)
    page.get_by_text("More", exact=True).click()
    page.locator("#latency").select_option("3")
    convert(page)
    cost = used()

    with page.expect_download() as download:
        page.locator("#download").click()
    item = started.client.get("/v1/history").json()["history"][0]
    heard = started.client.get(f"/v1/history/{item['history_item_id']}/audio").content
    with wave.open(str(download.value.path())) as file:
        assert file.readframes(file.getnframes()) == heard
    page.locator("#download-format").select_option("wav_44100")
    with page.expect_download() as download:
        page.locator("#download").click()
    with wave.open(str(download.value.path())) as file:
        assert file.getnframes() == pytest.approx(len(heard) / 2 * 44100 / 24000, abs=2)
    assert used() == cost

    page.locator("#download-format").select_option("mp3_44100_128")
    expect(page.locator("#download-cost")).to_contain_text(f"another {cost} credits")
    with page.expect_download():
        page.locator("#download").click()
    assert used() == 2 * cost
    assert "optimize_streaming_latency=3" in asked[-1]
    assert "enable_logging=true" in asked[-1]


def test_a_tier_that_keeps_everything_says_so(page: Page, server):
    open_page(page, server(default_tier="pro"))
    page.get_by_text("More", exact=True).click()
    page.locator("#keep").uncheck()
    page.set_input_files("#file", SPEECH)
    page.locator("#convert").click()
    expect(page.locator("#notice")).to_contain_text("it is kept in the history")
    expect(page.locator("#keep")).to_be_checked()
    expect(page.locator("#keep")).to_be_disabled()
    page.locator("#convert").click()
    expect(page.locator("#player")).to_be_visible()


def test_open_clicked_twice_opens_once(page: Page, shared_server):
    page.goto(shared_server.url)
    page.locator("#key").fill(shared_server.api_key)
    page.get_by_role("button", name="Open").dblclick()
    expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
    page.wait_for_timeout(500)
    expect(page.locator("#room-convert .voice-list")).to_have_count(1)


def test_without_https_the_microphone_is_asked_for_in_words(page: Page, shared_server):
    port = shared_server.url.rpartition(":")[2]
    page.goto(f"http://menura.test:{port}/#key={shared_server.api_key}")
    expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
    for room, button in (("convert", "record"), ("live", "live-start"), ("voices", "clone-record")):
        page.locator(f"#tab-{room}").click()
        expect(page.locator("#notice")).to_be_hidden()
        page.locator(f"#{button}").click()
        expect(page.locator("#notice")).to_contain_text("only to pages on localhost or https")


@pytest.mark.parametrize(("room", "button"), [("convert", "record"), ("voices", "clone-record")])
def test_record_clicked_twice_leaves_no_microphone_open(page: Page, shared_server, room, button):
    page.add_init_script(SLOW_MICROPHONE)
    open_page(page, shared_server)
    page.locator(f"#tab-{room}").click()
    record = page.locator(f"#{button}")
    record.dblclick()
    expect(record).to_have_text("■ Stop")
    record.click()
    expect(record).to_contain_text("● Record")
    assert page.evaluate("window.tracks.map((track) => track.readyState)") == ["ended"]


def test_a_file_does_not_replace_a_recording_under_way(page: Page, shared_server):
    open_page(page, shared_server)
    page.locator("#record").click()
    expect(page.locator("#source-name")).to_contain_text("Recording")
    page.set_input_files("#file", SPEECH)
    expect(page.locator("#notice")).to_contain_text("Stop the recording first")
    page.locator("#record").click()
    expect(page.locator("#source-name")).to_contain_text("recording.wav")
    page.set_input_files("#file", SPEECH)
    expect(page.locator("#source-name")).to_contain_text(SPEECH.name)


def test_one_player_is_in_charge_of_a_result(page: Page, shared_server):
    open_page(page, shared_server)
    page.locator("#convert-speed").fill("1.2")
    convert(page)
    play = page.locator("#play")
    expect(play).to_have_attribute("aria-label", "Pause")
    until(page, "document.querySelector('#seek').value > 0.2")
    play.click()
    at = float(page.locator("#seek").input_value())
    page.wait_for_timeout(300)
    assert float(page.locator("#seek").input_value()) == at
    play.click()
    until(page, f"document.querySelector('#seek').value > {at}")
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    expect(play).to_have_attribute("aria-label", "Play")
    page.locator("#live-start").click()


def test_what_another_tab_has_deleted_goes_away(page: Page, server):
    started = server()
    cloned = started.client.post(
        "/v1/voices/add", data={"name": "Twice"}, files={"files": SPEECH.read_bytes()}
    ).json()["voice_id"]
    started.client.post(
        f"/v1/speech-to-speech/{cloned}", files={"audio": SPEECH.read_bytes()}
    ).raise_for_status()
    open_page(page, started)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("tab", name="History").click()
    row = page.locator("#history-list li[data-id]")
    expect(row).to_have_count(1)
    started.client.delete(f"/v1/history/{row.get_attribute('data-id')}").raise_for_status()
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    with loading_voices(page):
        page.get_by_role("tab", name="Voices").click()
    started.client.delete(f"/v1/voices/{cloned}").raise_for_status()
    page.get_by_role("button", name="Delete Twice").click()
    expect(page.locator("#voice-library").get_by_text("Twice")).to_have_count(0)
    expect(page.locator("#notice")).to_be_hidden()


def test_a_key_that_is_revoked_brings_the_gate_back_and_the_next_one_goes_on(
    page: Page, shared_server
):
    key = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    open_page(page, replace(shared_server, api_key=key))
    convert(page)
    revoke_limited_keys(shared_server)
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#gate")).to_be_visible()
    expect(page.locator("#rooms")).to_be_hidden()
    page.locator("#key").fill(shared_server.api_key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#room-history")).to_be_visible()
    expect(page.locator("#gate")).to_be_hidden()
    page.get_by_role("tab", name="Convert").click()
    expect(page.locator("#player")).to_be_visible()


def test_a_key_that_is_revoked_while_the_line_is_down_ends_live_when_it_is_back(
    page: Page, shared_server
):
    key = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    page.add_init_script(LINES)
    with Line(shared_server.url) as line:
        open_page(page, replace(shared_server, url=line.url, api_key=key))
        page.get_by_role("tab", name="Live").click()
        page.locator("#live-start").click()
        until(page, "window.events.some(({ type }) => type === 'stats')")
        line.die()
        expect(page.locator("#notice")).to_contain_text("The connection dropped")
        revoke_limited_keys(shared_server)
        line.mend()
        expect(page.locator("#gate")).to_be_visible()
        expect(page.locator("#live-start")).to_have_text("Start talking")
        expect(page.locator("#notice")).to_contain_text("menura keys create")


@pytest.mark.parametrize(
    ("room", "button"),
    [("convert", "#record"), ("voices", "#clone-record")],
)
def test_no_recording_goes_on_behind_the_gate(page: Page, shared_server, room, button):
    key = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    page.add_init_script(SLOW_MICROPHONE)
    open_page(page, replace(shared_server, api_key=key))
    page.locator(f"#tab-{room}").click()
    page.locator(button).click()
    expect(page.locator(button)).to_contain_text("Stop")
    revoke_limited_keys(shared_server)
    page.locator("#tab-history").click()
    expect(page.locator("#gate")).to_be_visible()
    until(page, "window.tracks.every(({ readyState }) => readyState === 'ended')")
    assert page.evaluate("window.tracks.length") == 1
    expect(page.locator("#notice")).to_contain_text("menura keys create")


def test_nothing_sounds_on_behind_the_gate(page: Page, shared_server):
    key = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    open_page(page, replace(shared_server, api_key=key))
    convert(page)
    page.locator("#seek").press("Home")
    let_play(page, True)
    revoke_limited_keys(shared_server)
    page.locator("#tab-history").click()
    expect(page.locator("#gate")).to_be_visible()
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    seek = page.locator("#seek")
    assert float(seek.input_value()) < float(seek.get_attribute("max")) - 0.5


def test_a_key_that_is_forgotten_in_one_tab_is_forgotten_in_all(page: Page, shared_server):
    open_page(page, shared_server)
    other = page.context.new_page()
    other.goto(shared_server.url)
    expect(other.locator("#rooms")).to_be_visible()
    other.get_by_role("tab", name="Account").click()
    other.get_by_role("button", name="Forget the key").click()
    expect(other.locator("#gate")).to_be_visible()
    expect(page.locator("#gate")).to_be_visible()
    expect(page.locator("#rooms")).to_be_hidden()


def test_the_next_key_sees_what_the_last_one_could_not(page: Page, shared_server):
    with SPEECH.open("rb") as file:
        shared_server.client.post(
            "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM", files={"audio": file}
        ).raise_for_status()
    key = limited_key(shared_server, "speech_to_speech", "voices_read")
    open_page(page, replace(shared_server, api_key=key))
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#usage")).to_contain_text("user_read")
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history-list")).to_contain_text("speech_history_read")
    revoke_limited_keys(shared_server)
    page.locator("#history-refresh").click()
    page.locator("#key").fill(shared_server.api_key)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#history-list li[data-id]").first).to_be_visible()
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#usage-facts")).to_contain_text("enterprise")
    expect(page.locator("#notice")).to_be_hidden()


def test_what_could_not_be_loaded_is_not_loading_for_ever(page: Page, shared_server):
    with Line(shared_server.url) as line:
        open_page(page, replace(shared_server, url=line.url))
        wait_for_all(page)
        line.die()
        for room, place in (("history", "history-list"), ("account", "usage")):
            page.locator(f"#tab-{room}").click()
            expect(page.locator("#notice")).to_contain_text("The server does not answer")
            expect(page.locator(f"#{place}")).to_have_text("Not loaded.")
        line.mend()
        page.get_by_role("tab", name="History").click()
        page.get_by_role("tab", name="Account").click()
        expect(page.locator("#usage-facts")).to_contain_text("enterprise")


def test_live_ends_with_its_server(page: Page, server):
    started = server()
    open_page(page, started)
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-start").click()
    expect(page.locator("#live-start")).to_have_text("Stop")
    expect(page.locator("#fact-delay")).to_contain_text("ms")
    started.stop()
    expect(page.locator("#notice")).to_contain_text("The server was stopped")
    expect(page.locator("#live-start")).to_have_text("Start talking")


def test_a_lost_live_stream_does_not_talk_over_other_messages(page: Page, shared_server):
    with talking_over_a_line(page, shared_server, "stats") as line:
        line.die()
        expect(page.locator("#notice")).to_contain_text("The connection dropped")
        page.get_by_role("tab", name="Account").click()
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        page.wait_for_timeout(2000)
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        page.get_by_role("tab", name="Live").click()
        page.locator("#live-start").click()


def test_stopping_keeps_the_keyboard_where_it_was(page: Page, shared_server, tmp_path):
    open_page(page, shared_server)
    page.set_input_files("#file", spoken_for(240, tmp_path / "long.wav"))
    page.locator("#convert").press("Enter")
    expect(page.locator("#timing")).to_contain_text("First sound")
    expect(page.locator("#convert")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#timing")).to_have_text("Stopped.")
    expect(page.locator("#convert")).to_be_focused()
    expect(page.locator("#notice")).to_be_hidden()


def test_of_several_files_the_one_that_is_taken_is_named(page: Page, shared_server):
    open_page(page, shared_server)
    box = page.locator("#drop").bounding_box()
    drop(page, box["x"] + 20, box["y"] + 20, copies=3)
    expect(page.locator("#notice")).to_contain_text(f"of these 3, {SPEECH.name} was taken")
    expect(page.locator("#source-name")).to_contain_text(SPEECH.name)


def test_a_new_key_is_copied(page: Page, server):
    page.context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"])
    open_page(page, server())
    page.get_by_role("tab", name="Account").click()
    page.locator("#key-name").fill("for a game")
    page.locator("#key-create button").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#key-made code").inner_text()


def drop(page: Page, x: float, y: float, copies: int = 1, file: Path = SPEECH) -> None:
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": x,
                "y": y,
                "data": {"items": [], "files": [str(file)] * copies, "dragOperationsMask": 1},
            },
        )


def test_a_file_is_taken_where_it_may_be_dropped_and_opened_nowhere(page: Page, shared_server):
    open_page(page, shared_server)
    drop(page, 640, 20)
    box = page.locator("#drop").bounding_box()
    drop(page, box["x"] + 20, box["y"] + 20)
    expect(page.locator("#source-name")).to_contain_text(SPEECH.name)
    page.get_by_role("tab", name="Voices").click()
    box = page.locator("#clone-files").bounding_box()
    drop(page, box["x"] + 20, box["y"] + box["height"] / 2)
    until(page, "document.querySelector('#clone-files').files.length === 1")
    assert page.url.startswith(shared_server.url)


def test_a_server_that_dies_while_it_converts_is_said_to_be_away(
    page: Page, shared_server, tmp_path
):
    with Line(shared_server.url) as line:
        open_page(page, replace(shared_server, url=line.url))
        page.set_input_files("#file", spoken_for(120, tmp_path / "long.wav"))
        page.locator("#convert").click()
        expect(page.locator("#timing")).to_contain_text("First sound")
        line.die()
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
        expect(page.locator("#convert")).to_be_enabled()


def test_the_player_starts_anew_with_a_new_result(page: Page, shared_server):
    open_page(page, shared_server)
    convert(page)
    page.locator("#play").click()
    page.locator("#hear-source").click()
    held = hold(page, "**/stream?*")
    page.locator("#convert").click()
    expect(page.locator("#player")).to_be_hidden()
    let_go(page, held)
    expect(page.locator("#player")).to_be_visible()
    expect(page.locator("#hear-result")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#hear-source")).to_have_attribute("aria-pressed", "false")


def test_history_shows_an_item_once_and_asks_before_it_deletes(page: Page, shared_server):
    with SPEECH.open("rb") as file:
        shared_server.client.post(
            "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM", files={"audio": file}
        ).raise_for_status()
    open_page(page, shared_server)
    page.evaluate("for (let i = 0; i < 3; i++) document.querySelector('#tab-history').click()")
    rows = page.locator("#history-list li[data-id]")
    expect(rows.first).to_be_visible()
    page.wait_for_timeout(1000)
    ids = [row.get_attribute("data-id") for row in rows.all()]
    assert len(ids) == len(set(ids))

    rows.first.get_by_role("checkbox").check()
    page.once("dialog", lambda dialog: dialog.dismiss())
    rows.first.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(len(ids))
    page.once("dialog", lambda dialog: dialog.accept())
    rows.first.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(len(ids) - 1)
    expect(page.locator("#history-zip")).to_be_disabled()


def test_a_voice_is_chosen_by_keyboard_and_from_the_library(page: Page, shared_server):
    open_page(page, shared_server)
    voice = page.locator("[data-picker=convert] .choose").nth(3)
    voice.press("Enter")
    expect(voice).to_have_attribute("aria-pressed", "true")
    expect(voice).to_be_focused()
    page.get_by_role("tab", name="Voices").click()
    other = page.locator("#voice-library .choose").nth(6)
    name = other.locator("strong").inner_text()
    other.click()
    expect(page.locator("#room-convert")).to_be_visible()
    chosen = page.locator("[data-picker=convert] .choose[aria-pressed=true]")
    expect(chosen).to_contain_text(name)


def test_a_search_does_not_forget_the_preview_that_sounds(page: Page, shared_server):
    open_page(page, shared_server)
    place = page.locator("[data-picker=convert]")
    listen = place.get_by_role("button", name="Hear").first
    hold(page, "**/preview")  # which would be over sooner or later
    listen.click()
    expect(listen).to_have_attribute("aria-pressed", "true")
    place.get_by_label("Search").fill("e")
    expect(place.locator("[data-preview][aria-pressed=true]")).to_have_count(1)


def test_a_key_with_few_permissions_opens_the_page(page: Page, shared_server):
    key = limited_key(shared_server, "speech_to_speech", "voices_read")
    page.goto(f"{shared_server.url}/#key={key}")
    expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
    convert(page)
    expect(page.locator("#notice")).to_be_hidden()
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history-list")).to_contain_text("speech_history_read")
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#usage")).to_contain_text("user_read")
    expect(page.locator("#key-list")).to_contain_text("workspace_read")


def test_a_voice_that_was_made_is_told_so_where_the_list_cannot_be_read(page: Page, shared_server):
    key = limited_key(shared_server, "create_instant_voice_clone")
    page.goto(f"{shared_server.url}/#key={key}")
    page.get_by_role("tab", name="Voices").click()
    page.set_input_files("#clone-files", SPEECH)
    page.locator("#clone-consent").check()
    page.locator("#clone-name").fill("Unlisted")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Make the voice").click()
    # Else it would be made again.
    expect(page.locator("#clone-status")).to_have_text("The voice is ready.")
    expect(page.locator("#clone-name")).to_have_value("")
    expect(page.locator("#notice")).to_contain_text("voices_read")
    made = [
        voice["voice_id"]
        for voice in shared_server.client.get("/v1/voices").json()["voices"]
        if voice["name"] == "Unlisted"
    ]
    for voice_id in made:
        shared_server.client.delete(f"/v1/voices/{voice_id}")
    assert len(made) == 1


def test_a_bad_key_is_explained_and_does_not_replace_a_good_one(page: Page, shared_server):
    open_page(page, shared_server)
    page.goto("about:blank")
    page.goto(f"{shared_server.url}/#key=sk_wrong")
    expect(page.locator("#gate")).to_be_visible()
    page.locator("#key").fill("sk_ключ")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#notice")).to_contain_text("plain letters")
    page.goto("about:blank")
    page.goto(shared_server.url)
    expect(page.locator("#rooms")).to_be_visible()


def test_a_message_stays_in_the_room_it_was_about(page: Page, shared_server):
    open_page(page, shared_server)
    page.set_input_files(
        "#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Not a sound. " * 99}
    )
    page.locator("#convert").click()
    expect(page.locator("#notice")).to_be_visible()
    page.get_by_role("tab", name="Voices").click()
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_screen_shows_every_room_and_the_steps_in_order(page: Page, shared_server, width):
    page.set_viewport_size({"width": width, "height": 700})
    open_page(page, shared_server)
    for tab in page.get_by_role("tab").all():
        box = tab.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    tops = [
        page.get_by_role("heading", name=name).bounding_box()["y"]
        for name in ("1. Your speech", "2. The voice", "3. Result")
    ]
    assert tops == sorted(tops)
    page.get_by_role("tab", name="Account").click()
    revoke = page.get_by_role("button", name="Revoke").first
    expect(revoke).to_be_visible()
    box = revoke.bounding_box()
    assert box["x"] + box["width"] <= width
