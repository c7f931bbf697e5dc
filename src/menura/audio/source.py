"""Files as they are read here: in order, and perhaps a few bytes at a time."""

from typing import Protocol

_READ_SIZE = 65_536


class Source(Protocol):
    """The part of a binary file object that readers use; `read` may return fewer bytes."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def read_exactly(source: Source, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end of the source."""
    parts = []
    while size > 0:
        part = source.read(min(size, _READ_SIZE))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def skip(source: Source, size: int) -> None:
    """Pass over bytes by reading them, so that a size beyond the end does no harm."""
    while size > 0:
        passed = len(source.read(min(size, _READ_SIZE)))
        if not passed:
            return
        size -= passed
