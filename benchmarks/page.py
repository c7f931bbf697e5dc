"""The page: what a browser loads, and how soon a person can use it."""

import shutil
import time

from playwright.sync_api import Response, sync_playwright

from benchmarks.client import served
from benchmarks.report import Report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def loading(report: Report, quick: bool) -> None:
    """Bytes loaded, and time from the address to a room in which voices can be chosen."""
    if CHROMIUM is None:
        print("  skipped: Chromium is not installed")
        return
    times = []
    weight = 0
    with served() as server, sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for _ in range(3 if quick else 10):
            page = browser.new_context().new_page()
            loaded: list[Response] = []
            page.on("response", lambda response, loaded=loaded: loaded.append(response))
            begun = time.perf_counter()
            page.goto(f"http://127.0.0.1:{server.port}/#key={server.key}")
            page.wait_for_selector("#room-convert .voice-list li")
            times.append(1000 * (time.perf_counter() - begun))
            weight = sum(map(_size, loaded))
            page.context.close()
        browser.close()
    report.add("page: bytes loaded until usable", weight / 1000, "kB", limit=300)
    report.add("page: time until usable, median", sorted(times)[len(times) // 2], "ms")


def _size(response: Response) -> int:
    sizes = response.request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


SUITE = [loading]
