"""A PostgreSQL server of the machine's own programs, for a test."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PROGRAMS = shutil.which("pg_ctl", path=os.pathsep.join([*map(str, _INSTALLED), os.environ["PATH"]]))
"""Path of `pg_ctl`, null where PostgreSQL is not installed."""

OWNER = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
"""Whom it runs as: PostgreSQL refuses root."""


class PostgreSQL:
    """A server with one empty database. url: of that."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._folder = folder
        self.url = f"postgresql://menura@127.0.0.1:{self._port}/postgres"
        self.control("init", "-o", "-U menura -A trust --encoding=UTF8 --locale=C.UTF-8")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self._port} -h 127.0.0.1 -k {self._folder}"
        self.control("start", "-w", "-o", options, "-l", str(self._folder / "log"))

    def wait_for_end(self) -> None:
        """Return when it has ended."""
        while (self._folder / "data" / "postmaster.pid").exists():
            time.sleep(0.05)

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl`."""
        assert PROGRAMS is not None
        subprocess.run(
            [PROGRAMS, *arguments, "-D", str(self._folder / "data")],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            user=OWNER,
        )


@contextmanager
def running() -> Iterator[PostgreSQL]:
    """Lend a server that runs."""
    folder = Path(tempfile.mkdtemp(prefix="menura-pg-"))
    try:
        if OWNER is not None:
            shutil.chown(folder, OWNER)
        server = PostgreSQL(folder)
        server.start()
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)
