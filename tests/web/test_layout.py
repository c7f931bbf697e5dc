"""Where things stand on the page: what a person needs is on the screen and is seen to be meant."""

import pytest
from playwright.sync_api import Page, expect

from .conftest import SPEECH
from .steps import choose, convert, hold, let_go, loading_voices, open_page, until

OUTLINE = "element => getComputedStyle(element).outlineStyle"


@pytest.mark.parametrize("width", [320, 360])
def test_a_narrow_screen_shows_what_can_be_done_with_an_item(page: Page, shared_server, width):
    with SPEECH.open("rb") as file:
        shared_server.client.post(
            "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM", files={"audio": file}
        ).raise_for_status()
    page.set_viewport_size({"width": width, "height": 700})
    open_page(page, shared_server)
    page.get_by_role("tab", name="History").click()
    row = page.locator("#history-list li[data-id]").first
    row.get_by_role("button", name="Play").click()
    for control in (
        row.get_by_role("checkbox"),
        row.locator("audio"),
        row.get_by_role("button", name="Download"),
        row.get_by_role("button", name="Delete"),
    ):
        expect(control).to_be_visible()
        box = control.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_a_long_name_leaves_room_for_its_buttons(page: Page, server):
    started = server()
    started.client.post(
        "/v1/voices/add", data={"name": "W" * 90}, files={"files": SPEECH.read_bytes()}
    ).raise_for_status()
    open_page(page, started)
    with loading_voices(page):
        page.get_by_role("tab", name="Voices").click()
    card = page.locator("#voice-library").bounding_box()
    expect(page.get_by_role("button", name="Delete W")).to_be_visible()
    delete = page.get_by_role("button", name="Delete W").bounding_box()
    assert delete["x"] + delete["width"] <= card["x"] + card["width"]


def test_a_long_name_leaves_room_for_what_can_be_done_with_an_item(page: Page, server):
    started = server()
    cloned = started.client.post(
        "/v1/voices/add", data={"name": "W" * 90}, files={"files": SPEECH.read_bytes()}
    ).json()["voice_id"]
    started.client.post(
        f"/v1/speech-to-speech/{cloned}", files={"audio": SPEECH.read_bytes()}
    ).raise_for_status()
    open_page(page, started)
    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history-list")).to_contain_text("WWW")
    for name in ("Play", "Download W", "Delete"):
        box = page.locator("#history-list").get_by_role("button", name=name).bounding_box()
        assert box["x"] + box["width"] <= 1280


def test_a_long_file_name_makes_no_page_wider(page: Page, shared_server):
    page.set_viewport_size({"width": 320, "height": 700})
    open_page(page, shared_server)
    page.evaluate(
        """(name) => {
          const files = new DataTransfer();
          for (let i = 0; i < 2; i++) files.items.add(new File(["no sound"], name));
          const event = new DragEvent("drop", { dataTransfer: files, bubbles: true });
          document.querySelector("#drop").dispatchEvent(event);
        }""",
        "W" * 190 + ".wav",
    )
    expect(page.locator("#source-name")).to_contain_text("this browser cannot show it")
    expect(page.locator("#notice")).to_contain_text("was taken")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dismiss = page.get_by_role("button", name="Dismiss").bounding_box()
    assert dismiss["x"] + dismiss["width"] <= 320
    assert dismiss["y"] + dismiss["height"] <= 700


def test_the_name_of_the_chosen_voice_is_seen_above_a_long_description(page: Page, server):
    started = server()
    started.client.post(
        "/v1/voices/add",
        data={"name": "Verbose", "description": "many words " * 45},
        files={"files": SPEECH.read_bytes()},
    ).raise_for_status()
    page.set_viewport_size({"width": 320, "height": 700})
    open_page(page, started)
    page.get_by_role("tab", name="Voices").click()
    page.locator("#voice-library .choose", has_text="Verbose").click()
    frame = page.locator("[data-picker=convert] .voice-list").bounding_box()
    name = page.locator("[data-picker=convert] strong", has_text="Verbose").bounding_box()
    assert frame["y"] <= name["y"]
    assert name["y"] + name["height"] <= frame["y"] + frame["height"]


def test_the_tab_key_passes_the_voices_and_the_arrows_go_through_them(page: Page, shared_server):
    open_page(page, shared_server)
    place = page.locator("[data-picker=convert]")
    place.locator(".choose").nth(2).click()
    place.get_by_label("Kind").focus()
    page.keyboard.press("Tab")
    expect(place.locator("[data-preview]").nth(2)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(place.locator("[data-preview]").nth(3)).to_be_focused()
    page.keyboard.press("Tab")
    expect(place.locator(".choose").nth(3)).to_be_focused()
    page.keyboard.press("End")
    expect(place.locator(".choose").last).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#settings summary").first).to_be_focused()


def test_on_a_phone_the_settings_do_not_part_the_voice_from_the_result(page: Page, shared_server):
    open_page(page, shared_server)
    expect(page.locator("#convert-speed")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
    expect(page.locator("#convert-speed")).to_be_hidden()
    page.get_by_text("Settings", exact=True).first.click()
    expect(page.locator("#convert-speed")).to_be_visible()


def test_forced_colours_show_the_room_and_the_levels(page: Page, shared_server):
    page.emulate_media(forced_colors="active")
    open_page(page, shared_server)
    assert page.locator("#tab-convert").evaluate(OUTLINE) == "solid"
    assert page.locator("#tab-live").evaluate(OUTLINE) == "none"
    page.get_by_role("tab", name="Live").click()
    border = page.locator("#meter-in").evaluate("meter => getComputedStyle(meter).borderTopStyle")
    assert border == "solid"


def test_the_keyboard_sees_where_it_is(page: Page, shared_server):
    open_page(page, shared_server)
    page.locator("#tab-convert").focus()
    until(page, "document.activeElement.id === 'tab-convert'")
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "file":
            break
    assert page.locator("label[for=file]").evaluate(OUTLINE) == "solid"
    assert page.locator("#record").evaluate(OUTLINE) == "none"


def test_pictures_follow_the_theme(page: Page, shared_server):
    page.emulate_media(color_scheme="light")
    open_page(page, shared_server)
    convert(page)
    expect(page.locator("#plots canvas")).to_have_count(5)
    wave = "document.querySelector('#plots canvas').toDataURL()"
    page.evaluate(f"window.before = {wave}")
    page.locator("#theme").click()
    until(page, f"document.querySelector('#plots canvas') && {wave} !== window.before")


# The most columns in a row that show the pitch of one side.
LONGEST_RUN = """
(side) => {
  const canvas = [...document.querySelectorAll("#plots canvas")].at(-1);
  const tone = getComputedStyle(document.documentElement).getPropertyValue(`--${side}`).trim();
  const [red, green, blue] = tone.match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16));
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let run = 0;
  let longest = 0;
  for (let x = 0; x < canvas.width; x++) {
    let seen = false;
    for (let y = 0; y < canvas.height; y++) {
      const at = (y * canvas.width + x) * 4;
      const apart = [red, green, blue].map((level, i) => Math.abs(data[at + i] - level));
      seen ||= data[at + 3] > 0 && Math.max(...apart) < 20;
    }
    run = seen ? run + 1 : 0;
    longest = Math.max(longest, run);
  }
  return longest;
}
"""


def test_the_pitch_of_the_source_is_told_from_the_results_without_colours(
    page: Page, shared_server
):
    open_page(page, shared_server)
    choose(page, "convert", "female")
    convert(page)
    expect(page.locator("#plots canvas")).to_have_count(5)
    assert 0 < page.evaluate(LONGEST_RUN, "source") < 9
    assert page.evaluate(LONGEST_RUN, "result") > 12


CHOSEN_IN_SIGHT = """(() => {
  const picker = document.querySelector("[data-picker=convert]");
  const frame = picker.querySelector(".voice-list").getBoundingClientRect();
  const chosen = picker.querySelector(".choose[aria-pressed=true]").getBoundingClientRect();
  return chosen.height > 0 && frame.top <= chosen.top && chosen.bottom <= frame.bottom;
})()"""


def test_the_chosen_voice_is_in_sight(page: Page, shared_server):
    open_page(page, shared_server)
    held = hold(page, "**/v1/voices")
    page.get_by_role("tab", name="Voices").click()
    last = page.locator("#voice-library .choose").last
    last.click()
    until(page, CHOSEN_IN_SIGHT)
    # The list of voices was asked for anew meanwhile, and is drawn again when it comes.
    page.locator("#voice-library li").last.evaluate("(line) => { line.dataset.old = 'yes'; }")
    let_go(page, held)
    until(page, "!document.querySelector('[data-old]')")
    assert page.evaluate(CHOSEN_IN_SIGHT)
