"""A program that starts the real server again and again, quickly, to be killed.

`python killable.py DATA` loads everything once and then obeys lines on its standard input:
`start` forks a process that serves the data folder (answer: `pid N`, later `ready PORT`), `reap`
waits for that process to be dead (answer: `dead`).
"""

import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from menura.api.app import create_app
from menura.conversion.passthrough import PassThrough
from menura.engine import registry
from menura.settings import Settings

PLAIN = "pass_through"


def serve(data: Path) -> None:
    """Serve until killed."""
    registry._BUILDERS[PLAIN] = PassThrough
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(data=data, default_model=PLAIN, cores=2)
    app = create_app(settings, on_ready=lambda _: os.write(1, b"ready %d\n" % port) and None)
    config = uvicorn.Config(app, log_config=None, access_log=False, loop="asyncio")
    uvicorn.Server(config).run(sockets=[listener])


def main(data: Path) -> None:
    """Obey lines until the input ends."""
    logging.basicConfig(level=logging.WARNING)
    child = 0
    for line in sys.stdin:
        if line.strip() == "start":
            child = os.fork()
            if child == 0:
                os.close(0)
                try:
                    serve(data)
                finally:
                    os._exit(1)
            os.write(1, b"pid %d\n" % child)
        else:
            os.waitpid(child, 0)
            os.write(1, b"dead\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
