"""How uvicorn serves the application: what every server of ours has in common."""

from typing import Any

from menura.cli.deadlines import PunctualHTTP
from menura.cli.keepalive import PatientWebSocket

SERVING: dict[str, Any] = {
    # uvicorn's own lines hold whole addresses, and a token may be in one.
    "log_level": "warning",
    # What it does write looks like every other line.
    "log_config": None,
    "access_log": False,
    # Never another that happens to be installed: of httptools a head may be of any length.
    "http": PunctualHTTP,
    "ws": PatientWebSocket,
    "ws_ping_interval": 20,
    "ws_ping_timeout": 20,
    "ws_max_size": 1 << 20,
    # A kilobyte would become a megabyte before anybody has shown a key; audio hardly shrinks.
    "ws_per_message_deflate": False,
    "timeout_keep_alive": 30,
    # What runs is then ended in order, charged and kept, before who stops us loses patience.
    "timeout_graceful_shutdown": 5,
}
"""Arguments of `uvicorn.Config`."""
