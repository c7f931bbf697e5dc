"""What tests of the page do: open it, wait, choose a voice, make a key."""

import time
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, expect

from .conftest import PATIENCE, SPEECH

# Keeps every sample that live playback is given, so that the test can judge what is heard.
LISTEN = """
window.heard = [];
const post = MessagePort.prototype.postMessage;
MessagePort.prototype.postMessage = function (data, ...rest) {
  if (data instanceof Float32Array) window.heard.push(...data);
  return post.call(this, data, ...rest);
};
"""


def open_page(page: Page, server) -> None:
    page.goto(f"{server.url}/#key={server.api_key}")
    expect(page.locator("#rooms")).to_be_visible()
    expect(page.locator("#room-convert .voice-list li").first).to_be_visible()


def wait_for_all(page: Page) -> None:
    """Wait for the last that the page asks for by itself when it opens."""
    expect(page.locator("#model option")).not_to_have_count(1)


def until(page: Page, expression: str) -> None:
    """Wait for an expression; the page's own security policy forbids waiting inside it."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(100)


def loading_voices(page: Page) -> AbstractContextManager[object]:
    """Wait, at the end of a `with`, until the voices that it makes the page ask for are there."""
    return page.expect_request_finished(
        lambda request: urlsplit(request.url).path == "/v1/voices", timeout=PATIENCE
    )


def hold(page: Page, address: str) -> list[Route]:
    """Keep every request to it from being answered, and return those that were made."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(address, keep)
    return held


def let_go(page: Page, held: list[Route]) -> None:
    """Wait for a request that is held, and have it answered."""
    while not held:
        page.wait_for_timeout(50)
    held.pop().continue_()


def convert(page: Page) -> None:
    page.set_input_files("#file", SPEECH)
    expect(page.locator("#source-name")).to_contain_text("0:0")
    page.locator("#convert").click()
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#player")).to_be_visible()


def let_play(page: Page, wanted: bool) -> None:
    """Have the result played, or not; on a slow machine it may have come to its end by itself."""
    page.locator("#play").evaluate(
        "(play, label) => { if (play.ariaLabel !== label) play.click(); }",
        "Pause" if wanted else "Play",
    )


def choose(page: Page, room: str, gender: str) -> str:
    place = page.locator(f"[data-picker={room}]")
    place.get_by_label("Sex").select_option(gender)
    voice = place.locator(".choose").first
    voice.click()
    expect(place.locator(".choose[aria-pressed=true]")).to_have_count(1)
    return voice.locator("strong").inner_text()


def limited_key(server, *permissions: str) -> str:
    accounts = server.client.get("/v1/service-accounts").json()["service-accounts"]
    made = server.client.post(
        f"/v1/service-accounts/{accounts[0]['service_account_user_id']}/api-keys",
        json={"name": "limited", "permissions": list(permissions)},
    )
    return made.json()["xi-api-key"]


def revoke_limited_keys(server) -> None:
    accounts = server.client.get("/v1/service-accounts").json()["service-accounts"]
    path = f"/v1/service-accounts/{accounts[0]['service_account_user_id']}/api-keys"
    for made in server.client.get(path).json()["api-keys"]:
        if made["name"] == "limited":
            server.client.delete(f"{path}/{made['key_id']}").raise_for_status()
