"""A full disk, told from everything else that may go wrong with a file."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from menura.errors import Unavailable

RETRY_SECONDS = 10
"""When a client may try again: somebody has to make room first."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, none for this user, none for a file of this size."""

log = logging.getLogger("menura.storage")


@contextmanager
def room_needed() -> Iterator[None]:
    """Write files inside. Raises Unavailable where there is no room for them."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise no_room(error) from error


def no_room(cause: object) -> Unavailable:
    """Tell the log that the disk is full, and return what a client is told."""
    log.error("There is no room: %s", cause)
    return Unavailable("There is no room left on the disk.", retry_after=RETRY_SECONDS)
