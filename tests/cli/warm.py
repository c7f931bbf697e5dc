"""A program that becomes the command line again and again, quickly.

`python -m tests.cli.warm FD` loads once what the command loads, and then forks a process for each
line that comes over the socket FD: a JSON object with `arguments` and `environment`, with which
the descriptors of the command's standard output and error come. It answers the exit code.

Only `menura.cli` itself is loaded anew, since it looks at its environment when it is.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

LOADED = (
    "menura.cli.main",
    "menura.cli.serving",
    "menura.api.app",
    "menura.engine.neural",
    "aiosqlite",
    "alembic.command",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "typer.rich_utils",
)

LONGEST = 300
"""Seconds after which a command that has not ended is killed."""


def load() -> None:
    """Load what commands load, when they start or once they need it."""
    for name in LOADED:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.startswith("menura.cli")]:
        del sys.modules[name]


def request_of(link: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next request and its descriptors; nothing once there are no more."""
    text = b""
    descriptors: list[int] = []
    while not text.endswith(b"\n"):
        piece, sent, *_ = socket.recv_fds(link, 1 << 20, 2)
        descriptors += sent
        if not piece:
            return {}, []
        text += piece
    return json.loads(text), descriptors


def main(link: socket.socket) -> None:
    """Answer requests until there are no more."""
    while True:
        request, descriptors = request_of(link)
        if not request:
            return
        child = os.fork()
        if child == 0:
            link.close()
            become(request, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        link.sendall(b"%d" % os.waitstatus_to_exitcode(status))


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be the command."""
    signal.alarm(LONGEST)
    for descriptor, place in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["", *request["arguments"]]
    runpy.run_module("menura.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        load()
        gc.freeze()
        main(connection)
