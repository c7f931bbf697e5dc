"""The server under measurement, in a process of its own; prints its port when it is ready.

    python -m benchmarks.served DATA_FOLDER

Beside Menura's models it knows `pass_through`, which leaves the voice as it is: the floor.
"""

import socket
import sys
from pathlib import Path

import uvicorn

from menura.api.app import create_app
from menura.conversion.passthrough import PassThrough
from menura.engine import registry
from menura.services import Services
from menura.settings import Settings

PASS_THROUGH = "pass_through"
MODELS = (registry.DEFAULT_MODEL, PASS_THROUGH)
"""What is measured, and the floor."""


def main() -> None:
    """Serve until killed."""
    registry._BUILDERS[PASS_THROUGH] = PassThrough
    settings = Settings(data=Path(sys.argv[1]), max_seconds=0, max_upload_bytes=0)
    # asyncio switches Nagle's algorithm off only where the protocol is named, as uvicorn does.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    # The port is told before the server accepts: a client that is faster waits in the queue.
    listener.listen(512)
    port = listener.getsockname()[1]

    def ready(services: Services) -> None:
        services.conversion.lanes.prepare()
        print(port, flush=True)

    app = create_app(settings, on_ready=ready)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
