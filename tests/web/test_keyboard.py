"""The page by keyboard and by ear: the focus is seen and stays, and what happens is said."""

import pytest
from playwright.sync_api import Page, expect

from .conftest import SPEECH
from .steps import convert, hold, let_go, let_play, loading_voices, open_page, until

FOCUSED = "document.activeElement.ariaLabel"
NOT_A_SOUND = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Not a sound. " * 99}


def keep_items(server, count: int) -> None:
    for _ in range(count):
        server.client.post(
            "/v1/speech-to-speech/21m00Tcm4TlvDq8ikWAM", files={"audio": SPEECH.read_bytes()}
        ).raise_for_status()


def test_the_keyboard_sees_where_it_is_also_on_what_is_pressed(page: Page, shared_server):
    open_page(page, shared_server)
    place = page.locator("[data-picker=convert]")
    place.get_by_label("Kind").focus()
    page.keyboard.press("Tab")
    for control in (place.locator("[data-preview]").first, place.locator(".choose").first):
        expect(control).to_be_focused()
        expect(control).to_have_css("outline-width", "3px")
        ring = control.evaluate(
            """(control) => {
              const { left, right } = control.getBoundingClientRect();
              const { outlineWidth, outlineOffset } = getComputedStyle(control);
              const around = parseFloat(outlineWidth) + parseFloat(outlineOffset);
              return [left - around, right + around];
            }"""
        )
        frame = place.locator(".voice-list").bounding_box()
        assert frame["x"] <= ring[0]
        assert ring[1] <= frame["x"] + frame["width"]
        page.keyboard.press("Tab")
    expect(place.locator(".choose").first).to_have_attribute("aria-pressed", "true")
    page.emulate_media(forced_colors="active")
    page.locator("#tab-convert").focus()
    expect(page.locator("#tab-convert")).to_have_css("outline-width", "3px")


def test_a_message_that_is_dismissed_gives_the_keyboard_back(page: Page, shared_server):
    open_page(page, shared_server)
    page.set_input_files("#file", NOT_A_SOUND)
    page.locator("#convert").press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    page.get_by_role("button", name="Dismiss").press("Enter")
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#convert")).to_be_focused()
    # What had the focus may be gone.
    page.locator("#convert").press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    page.evaluate("document.querySelector('#convert').hidden = true")
    page.get_by_role("button", name="Dismiss").press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_message_hides_nothing_that_the_keyboard_comes_to(page: Page, shared_server):
    page.set_viewport_size({"width": 320, "height": 500})
    open_page(page, shared_server)
    page.set_input_files("#file", NOT_A_SOUND)
    page.locator("#convert").press("Enter")
    expect(page.locator("#notice")).to_be_visible()
    for _ in range(8):
        page.keyboard.press("Shift+Tab")
        top, bottom = page.evaluate(
            """[document.activeElement.getBoundingClientRect().top,
                document.querySelector('#notice').getBoundingClientRect().bottom]"""
        )
        assert top >= bottom


@pytest.mark.parametrize("modifier", ["Alt", "Meta"])
def test_the_browsers_own_keys_do_not_change_the_room(page: Page, shared_server, modifier):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Voices").click()
    page.locator("#tab-voices").dispatch_event(
        "keydown", {"key": "ArrowLeft", f"{modifier.lower()}Key": True}
    )
    expect(page.locator("#room-voices")).to_be_visible()


def test_the_way_back_does_not_lose_the_keyboard(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Account").click()
    page.locator("#forget").focus()
    page.go_back()
    expect(page.locator("#room-convert")).to_be_visible()
    expect(page.get_by_role("tab", name="Convert")).to_be_focused()


def test_skipping_to_the_content_stays_in_the_room(page: Page, shared_server):
    open_page(page, shared_server)
    page.get_by_role("tab", name="Account").click()
    page.get_by_role("link", name="Skip to the content").press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.reload()
    expect(page.locator("#room-account")).to_be_visible()


@pytest.mark.parametrize(
    ("room", "asked", "button"),
    [
        ("voices", "**/v1/voices", "#voice-library [data-preview]"),
        ("history", "**/v1/history?*", "#history-list .delete"),
        ("account", "**/api-keys", "#key-list button"),
    ],
)
def test_a_list_that_comes_late_leaves_the_keyboard_where_it_is(
    page: Page, shared_server, room, asked, button
):
    keep_items(shared_server, 2)
    open_page(page, shared_server)
    with page.expect_response(asked):
        page.locator(f"#tab-{room}").click()
    control = page.locator(button).last
    expect(control).to_be_visible()
    page.locator("#tab-live").click()
    held = hold(page, asked)
    page.locator(f"#tab-{room}").click()
    control.focus()
    name = page.evaluate(FOCUSED)
    assert name
    control.evaluate("(button) => { button.dataset.old = 'yes'; }")
    let_go(page, held)
    until(page, "!document.querySelector('[data-old]')")
    assert page.evaluate(FOCUSED) == name


def test_a_line_that_is_gone_leaves_the_keyboard_in_the_list(page: Page, server):
    started = server()
    for name in ("First", "Second"):
        started.client.post(
            "/v1/voices/add", data={"name": name}, files={"files": SPEECH.read_bytes()}
        ).raise_for_status()
    open_page(page, started)
    with loading_voices(page):
        page.get_by_role("tab", name="Voices").click()
    gone = page.locator("#voice-library [data-preview]").first
    voice = gone.get_attribute("data-preview")
    gone.focus()
    started.client.delete(f"/v1/voices/{voice}").raise_for_status()
    page.evaluate("import('/static/js/voices.js').then(({ loadVoices }) => loadVoices())")
    expect(page.locator(f"#voice-library [data-preview='{voice}']")).to_have_count(0)
    expect(page.locator("#voice-library [data-preview]").first).to_be_focused()


def test_older_items_are_announced_and_next_to_the_button(page: Page, shared_server):
    keep_items(shared_server, 3)
    page.route(
        "**/v1/history?*",
        lambda route: route.continue_(url=route.request.url.replace("=100", "=1")),
    )
    open_page(page, shared_server)
    page.get_by_role("tab", name="History").click()
    rows = page.locator("#history-list li")
    expect(rows).to_have_count(1)
    page.locator("#history-more").press("Enter")
    expect(rows).to_have_count(2)
    expect(page.locator("#status")).to_have_text("Older items shown: 1")
    page.keyboard.press("Shift+Tab")
    expect(rows.last.get_by_role("button", name="Delete")).to_be_focused()


def test_the_arrow_keys_go_through_a_result_in_a_hundred_steps(page: Page, shared_server):
    open_page(page, shared_server)
    convert(page)
    let_play(page, False)
    seek = page.get_by_role("slider", name="Position")
    seek.press("Home")
    for _ in range(10):
        seek.press("ArrowRight")
    duration = float(seek.get_attribute("max"))
    assert float(seek.input_value()) == pytest.approx(duration / 10, rel=0.01)
    expect(seek).to_have_attribute("aria-valuetext", page.locator("#clock").inner_text())


def test_what_was_chosen_or_recorded_is_said(page: Page, shared_server):
    open_page(page, shared_server)
    page.set_input_files("#file", SPEECH)
    expect(page.locator("#status")).to_have_text(f"{SPEECH.name}, 0:07.0")
    expect(page.locator("#file")).to_have_accessible_description(f"{SPEECH.name}, 0:07.0")
    page.locator("#record").press("Enter")
    expect(page.locator("#source-name")).to_contain_text("Recording")
    page.locator("#record").press("Enter")
    expect(page.locator("#status")).to_contain_text("recording.wav, ")


def test_a_new_key_is_said_where_there_is_no_button_to_copy_it(page: Page, server):
    started = server()
    page.goto(f"{started.url.replace('127.0.0.1', 'menura.test')}/#key={started.api_key}")
    page.get_by_role("tab", name="Account").click()
    page.locator("#key-name").fill("said")
    page.locator("#key-create button").press("Enter")
    expect(page.locator("#key-made")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Copy it now")


@pytest.mark.parametrize(("room", "button"), [("convert", "record"), ("voices", "clone-record")])
def test_who_records_is_not_told_that_stop_is_pressed(page: Page, shared_server, room, button):
    open_page(page, shared_server)
    page.locator(f"#tab-{room}").click()
    record = page.locator(f"#{button}")
    for name in ("● Record", "■ Stop"):
        expect(record).to_have_accessible_name(name)
        assert record.get_attribute("aria-pressed") is None
        record.click()
    expect(record).to_contain_text("● Record")
