"""A full disk and too many open files, told from everything else that may go wrong with a file."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from menura.errors import Unavailable

RETRY_SECONDS = 10
"""When a client may try again: somebody has to make room first."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, none for this user, none for a file of this size."""

_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})

log = logging.getLogger("menura.storage")


@contextmanager
def room_needed() -> Iterator[None]:
    """Write files inside. Raises Unavailable where there is no room for them, or too many are open
    already."""
    try:
        yield
    except OSError as error:
        if error.errno in _TOO_MANY:
            log.error("Too many files are open: %s", error)
            raise Unavailable(
                "The server has too many files open; try again in a moment.", retry_after=1
            ) from error
        if error.errno not in _FULL:
            raise
        raise no_room(error) from error


def no_room(cause: object) -> Unavailable:
    """Tell the log that the disk is full, and return what a client is told."""
    log.error("There is no room: %s", cause)
    return Unavailable("There is no room left on the disk.", retry_after=RETRY_SECONDS)
