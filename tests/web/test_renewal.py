"""The page when what it holds never came, or is out of date."""

from dataclasses import replace

import pytest
from playwright.sync_api import Page, Route, expect

from .conftest import SPEECH
from .line import Line
from .steps import limited_key, open_page, revoke_limited_keys

CHOSEN = ".choose[aria-pressed=true]"


@pytest.mark.parametrize("what", ["server", "proxy"])
def test_a_server_that_is_away_while_the_page_loads_is_waited_for(page: Page, shared_server, what):
    with Line(shared_server.url) as line:

        def fail(route: Route) -> None:
            if what == "proxy":
                route.fulfill(status=502)
            else:
                line.die()
                route.continue_()

        page.route("**/v1/user", fail)
        page.goto(f"{line.url}/#key={shared_server.api_key}")
        expect(page.locator("#notice")).to_be_visible()
        expect(page.locator("#loading")).to_contain_text("Trying again")
        expect(page.locator("#gate")).to_be_hidden()
        page.unroute("**/v1/user")
        line.mend()
        expect(page.locator("#room-convert .voice-list li").first).to_be_visible()
        expect(page.locator("#loading")).to_be_hidden()
        expect(page.locator("#notice")).to_be_hidden()


def test_models_that_did_not_come_are_asked_for_again(page: Page, shared_server):
    page.route("**/v1/models", lambda route: route.abort(), times=1)
    open_page(page, shared_server)
    expect(page.locator("#notice")).to_contain_text("The server does not answer")
    models = page.locator("#model option")
    expect(models).to_have_count(1)
    page.get_by_text("More", exact=True).click()
    expect(models).not_to_have_count(1)
    page.get_by_role("tab", name="History").click()
    page.get_by_role("tab", name="Convert").click()
    names = models.all_inner_texts()
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("room", "button"),
    [("convert", "#convert"), ("live", "#live-start"), ("convert", "#room-convert [data-preview]")],
    ids=["convert", "live", "preview"],
)
def test_a_voice_that_is_gone_leaves_the_lists(page: Page, server, room, button):
    started = server()
    cloned = started.client.post(
        "/v1/voices/add", data={"name": "Gone soon"}, files={"files": SPEECH.read_bytes()}
    ).json()["voice_id"]
    open_page(page, started)
    page.set_input_files("#file", SPEECH)
    page.locator(f"#tab-{room}").click()
    gone = page.locator(f"[data-picker={room}] li", has_text="Gone soon")
    gone.locator(".choose").click()
    started.client.delete(f"/v1/voices/{cloned}").raise_for_status()
    (gone if "preview" in button else page).locator(button.rpartition(" ")[2]).click()
    expect(page.locator("#notice")).to_contain_text("may have been deleted")
    expect(page.locator("[data-voice]", has_text="Gone soon")).to_have_count(0)
    expect(page.locator(f"[data-picker={room}] {CHOSEN}")).to_have_count(1)
    page.locator("#tab-convert").click()
    page.locator("#convert").click()
    expect(page.locator("#player")).to_be_visible()


def test_a_link_with_another_key_says_which_one_is_used(page: Page, shared_server):
    other = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    open_page(page, replace(shared_server, api_key=other))
    expect(page.locator("#notice")).to_be_hidden()
    page.goto("about:blank")
    open_page(page, shared_server)
    for key in (shared_server.api_key, other):
        expect(page.locator("#notice")).to_contain_text(f"{key[:8]}…")
    page.goto("about:blank")
    page.goto(shared_server.url)
    page.get_by_role("tab", name="Account").click()
    expect(page.locator("#usage-facts")).to_be_visible()


def test_a_link_replaces_a_key_that_is_none_any_more(page: Page, shared_server):
    old = limited_key(shared_server, "speech_to_speech", "voices_read", "user_read")
    open_page(page, replace(shared_server, api_key=old))
    revoke_limited_keys(shared_server)
    page.goto("about:blank")
    with page.expect_response(lambda answer: answer.status == 401):
        open_page(page, shared_server)
    expect(page.locator("#notice")).to_be_hidden()
    page.goto("about:blank")
    page.goto(shared_server.url)
    expect(page.locator("#rooms")).to_be_visible()
