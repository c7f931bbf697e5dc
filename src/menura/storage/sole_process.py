"""Is this process the only one on a data folder?"""

import sqlite3
from pathlib import Path

from menura.storage.database import BUSY_TIMEOUT


class SoleProcess:
    """Tells whether this process is the only one on a data folder, on every platform.

    An empty SQLite file serves as the lock, since its locks vanish with the process that holds
    them, however it ends.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whoever may read the file may lock it, and so keep this process from ever being alone.
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self.alone = True
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            self.alone = False

    def share(self) -> None:
        """Let other processes in; they will see that they are not alone."""
        if self.alone:
            self._connection.execute("COMMIT")
        self._connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT * 1000)}")
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def release(self) -> None:
        """Leave the folder."""
        self._connection.close()
