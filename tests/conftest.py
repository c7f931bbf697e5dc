"""A real server for every test that wants one: real sockets, SQLite and files."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import menura  # noqa: F401  before NumPy, which it keeps from bringing threads of its own

if TYPE_CHECKING:
    from menura.services import Services
    from menura.settings import Settings

START_LIMIT = 60.0

HERE = Path(__file__).parent
LONGEST = (
    "cli/test_commands.py",
    "web/test_mishaps.py",
    "api/test_live.py",
    "storage/test_crash.py",
    "cli/test_convert.py",
    "api/test_speech_to_speech.py",
    "engine/neural/test_engine.py",
    "sdk/test_javascript.py",
    "sdk/test_python.py",
    "test_documentation.py",
    "web/test_page.py",
)
"""Files that take longest. They begin first, lest one of them runs alone at the end while the other
processes that share the tests have nothing left to do."""

# How long an example takes says more of the machine than of Menura; benchmarks watch the clock.
hypothesis_settings.register_profile(
    "menura", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("menura")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    places = {HERE / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places), "LONGEST names a file that is not there."
    items.sort(key=lambda item: places.get(item.path, len(places)))


@dataclass
class RunningServer:
    """A server in a thread of this process. `client` sends its key."""

    url: str
    api_key: str = field(repr=False)
    settings: "Settings"
    app: FastAPI
    services: "Services"
    client: httpx.Client
    _server: uvicorn.Server = field(repr=False)
    _thread: threading.Thread = field(repr=False)
    _loop: asyncio.AbstractEventLoop = field(repr=False)

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the server's event loop, where its services live."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_LIMIT)

    def anonymous(self, **options: Any) -> httpx.Client:
        """Return a client without a key; close it, for example with `with`."""
        return httpx.Client(base_url=self.url, timeout=120, **options)

    def stop(self) -> None:
        """Shut down as an operator would."""
        self.client.close()
        self._server.should_exit = True
        self._thread.join(START_LIMIT)
        assert not self._thread.is_alive(), "The server did not shut down."


def start_server(
    data: Path, *, serving: dict[str, Any] | None = None, **options: Any
) -> RunningServer:
    """Start a server on a free port; `options` are settings, `serving` are uvicorn's."""
    # Here, since most tests need no server and should not wait for its imports.
    from menura.api.app import create_app  # noqa: PLC0415
    from menura.cli.serving import SERVING  # noqa: PLC0415
    from menura.settings import Settings  # noqa: PLC0415

    settings = Settings(data=data, **options)
    opened: list[Services] = []
    app = create_app(settings, on_ready=opened.append)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, **{**SERVING, "lifespan": "on", **(serving or {})})
    server = uvicorn.Server(config)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn has no event
            await asyncio.sleep(0.005)
        ready.set()
        await task

    def body() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            listener.close()
            ready.set()

    thread = threading.Thread(target=body, name="server", daemon=True)
    thread.start()
    assert ready.wait(START_LIMIT), "The server did not start in time."
    if failed or not opened:
        thread.join(START_LIMIT)
        raise RuntimeError("The server did not start.") from (failed[0] if failed else None)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    key = (data / "api_key").read_text(encoding="utf-8").strip()
    client = httpx.Client(base_url=url, headers={"xi-api-key": key}, timeout=120)
    return RunningServer(url, key, settings, app, opened[0], client, server, thread, loops[0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """A factory: `server(queue_seconds=0)` starts a server with these settings.

    `data=` reuses a folder; otherwise each start gets a fresh one.
    """
    with ExitStack() as running:
        count = 0

        def start(**options: Any) -> RunningServer:
            nonlocal count
            count += 1
            data = options.pop("data", tmp_path / f"data{count}")
            started = start_server(data, **options)
            running.callback(_stop_once, started)
            return started

        yield start


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with default settings for a module whose tests do not disturb each other."""
    started = start_server(tmp_path_factory.mktemp("shared") / "data")
    yield started
    started.stop()


def _stop_once(started: RunningServer) -> None:
    if started._thread.is_alive():
        started.stop()
