"""A real Chromium in front of a real server, with recorded speech as its microphone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.sounds import SPEECH as RECORDINGS
from tests.sounds import speech, wav

SPEECH = RECORDINGS / "male_librispeech_1235.flac"
MICROPHONE_RATE = 48_000
PATIENCE = 60_000
"""Milliseconds after which something on the page is taken not to happen at all."""
ARTEFACTS = Path(__file__).parents[1] / "artefacts"

# The first is the same engine without the windows around it, which take most of the others' time.
CHROMIUM = next(
    (
        path
        for name in (
            "chromium-headless-shell",
            "chromium",
            "chromium-browser",
            "google-chrome",
        )
        if (path := shutil.which(name))
    ),
    os.environ.get("CHROMIUM"),
)


def spoken_for(seconds: int, path: Path) -> Path:
    """Write a WAV file of so many seconds of speech, over and over the same."""
    once = speech(SPEECH.stem, MICROPHONE_RATE)
    path.write_bytes(wav(np.resize(once, seconds * MICROPHONE_RATE), MICROPHONE_RATE))
    return path


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of speech as the WAV file that Chromium plays into its fake microphone."""
    return spoken_for(12, tmp_path_factory.mktemp("microphone") / "speech.wav")


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Browser]:
    """Chromium; skips with the reason when the machine has none.

    Ends with its module: while Playwright is open, its event loop keeps `asyncio.run` of whatever
    test comes next from this thread.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium).")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                # Containers often give /dev/shm less than a page needs.
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                # A name that no browser trusts as it trusts localhost.
                "--host-resolver-rules=MAP menura.test 127.0.0.1",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test on any error in its console, with a screenshot kept at the end."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["microphone"], accept_downloads=True
    )
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield opened
    ARTEFACTS.mkdir(exist_ok=True)
    opened.screenshot(path=ARTEFACTS / f"{request.node.name}.png", full_page=True)
    context.close()
    assert not complaints
