"""The object store: audio and voices as whole objects under keys of our own making.

An object exists only whole: it is written aside and put in place in one step. Rows refer to
objects through the table `objects`; what no row refers to is an orphan and swept at the start.

    key = new_key("history")
    writer = objects.open_writer()      # from any thread
    writer.write(data)
    size, digest = await objects.keep(writer, key)
    ...                                 # a transaction inserts StoredObject(key, size, digest)

To delete, remove the rows in a durable transaction first, then the object. The store knows which
database it belongs to: another one knows none of its objects, and would take all for orphans.
"""

import asyncio
import hashlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError as ObstoreError
from obstore.exceptions import NotFoundError as ObstoreNotFound
from obstore.store import LocalStore, from_url

from menura.errors import Unavailable
from menura.settings import Settings
from menura.storage.room import room_needed

if TYPE_CHECKING:
    from obstore import GetOptions

CHUNK = 65_536
"""Bytes read at a time."""

KINDS = ("history", "samples", "models", "previews")
"""Folders of the store that hold objects of ours; whatever else lies there is somebody else's."""

_PATIENCE: Any = {
    "client_options": {
        # From an object's first byte to its last, which a listener may read slowly.
        "timeout": timedelta(days=1),
        "read_timeout": timedelta(seconds=10),
        # What is given here replaces what the environment says: an address with http is meant so.
        "allow_http": True,
    },
    "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=20)},
}
"""How long a store is waited for: some 30 s where nothing comes."""

_OWN_KEY = re.compile(rf"(?:{'|'.join(KINDS)})/[0-9a-f]{{2}}/[0-9a-f]{{32}}")
_OWNER_KEY = "owner"


log = logging.getLogger("menura.storage")


class ObjectMissing(KeyError):
    """No object has this key."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in the store."""

    key: str
    modified: datetime


def new_key(kind: str) -> str:
    """Return a fresh random key below `kind`, for example `history/3f/3f9a...`.

    Lower-case hexadecimal, since some file systems do not tell case apart.
    """
    token = secrets.token_hex(16)
    return f"{kind}/{token[:2]}/{token}"


class ObjectWriter:
    """Bytes on their way to becoming an object; used by one thread at a time.

    Nothing is in the store until `Objects.keep`. An abandoned writer leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        with room_needed():
            descriptor, name = tempfile.mkstemp(dir=folder, prefix="incoming-")
        self.path = Path(name)
        self.size = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = os.fdopen(descriptor, "wb", buffering=CHUNK)

    def write(self, data: bytes) -> None:
        """Append. Raises OSError, and Unavailable when the disk is full."""
        with room_needed():
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def abandon(self) -> None:
        """Forget what was written. Harmless when called twice or after `Objects.keep`."""
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> tuple[int, str]:
        """Bring the bytes to the disk and return their number and SHA-256. Raises as `write`."""
        with room_needed():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self.size, self._digest.hexdigest()


class Objects:
    """One store of objects: a local folder, or S3, GCS, Azure through obstore."""

    def __init__(self, incoming: Path, *, folder: Path | None = None, url: str | None = None):
        """Use `folder`, or the store at `url`; `incoming` holds what is still being written."""
        self._incoming = incoming
        self._folder = folder
        incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store: Any
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = LocalStore(folder)
        elif url is not None:
            self._store = from_url(url, **_PATIENCE)
        else:
            raise ValueError("A folder or a url is needed.")

    @classmethod
    def of(cls, settings: Settings) -> "Objects":
        """Open the store the settings name."""
        url = settings.objects_url
        if url is None:
            return cls(settings.data / "incoming", folder=settings.data / "objects")
        parts = urlsplit(url)
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise ValueError(f"file:// names a folder of this machine, not of {parts.netloc!r}")
            folder = Path(url2pathname(parts.path))
            # A rename is one step only within a file system.
            return cls(folder / ".incoming", folder=folder / "objects")
        return cls(settings.data / "incoming", url=url)

    def open_writer(self) -> ObjectWriter:
        """Start writing an object, from any thread."""
        return ObjectWriter(self._incoming)

    async def keep(self, writer: ObjectWriter, key: str) -> tuple[int, str]:
        """Turn what was written into the object `key`. Returns its size and SHA-256.

        When it returns, the object is whole and, in a folder, survives a power failure.
        """
        try:
            size, digest = await asyncio.to_thread(writer.close)
            if self._folder is not None:
                await asyncio.to_thread(_move, writer.path, self._folder / key)
            else:
                with _answering(key):
                    await obstore.put_async(self._store, key, writer.path)
        finally:
            writer.abandon()
        return size, digest

    async def put(self, key: str, data: bytes) -> tuple[int, str]:
        """Store `data` as the object `key`. Returns its size and SHA-256."""
        writer = self.open_writer()
        try:
            await asyncio.to_thread(writer.write, data)
            return await self.keep(writer, key)
        finally:
            writer.abandon()

    async def size(self, key: str) -> int:
        """Return the number of bytes of an object. Raises ObjectMissing."""
        with _answering(key):
            found = await obstore.head_async(self._store, key)
        return int(found["size"])

    async def read(self, key: str) -> bytes:
        """Return a whole object, for small ones. Raises ObjectMissing."""
        with _answering(key):
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes `start` to `end` (exclusive) in pieces. Raises ObjectMissing."""
        if start == end:
            # No store takes an empty range.
            return
        options: GetOptions = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        with _answering(key):
            found = await obstore.get_async(self._store, key, options=options)
            async for piece in found.stream(min_chunk_size=CHUNK):
                yield bytes(piece)

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """Lend an object as a file that must not be changed. Raises ObjectMissing."""
        if self._folder is not None:
            path = self._folder / key
            if not path.is_file():
                raise ObjectMissing(key)
            yield path
            return
        writer = self.open_writer()
        try:
            async for piece in self.stream(key):
                writer.write(piece)
            await asyncio.to_thread(writer.close)
            yield writer.path
        finally:
            writer.abandon()

    async def delete(self, key: str) -> None:
        """Remove an object. Harmless when there is none."""
        with suppress(ObjectMissing), _answering(key):
            await obstore.delete_async(self._store, key)

    async def discard(self, keys: Sequence[str]) -> None:
        """Remove objects whose rows are gone, as far as that is possible now: the others are
        orphans and swept at the next start."""
        for key in keys:
            try:
                await self.delete(key)
            except Exception as error:
                # The store may be away; Windows removes nothing that somebody is reading.
                log.warning("The object %s cannot be removed now: %s", key, error)

    async def list(self, prefix: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose key begins with the folder `prefix`, or all."""
        async for batch in obstore.list(self._store, prefix=prefix, chunk_size=500):
            for found in batch:
                yield ObjectInfo(found["path"], found["last_modified"])

    async def own(self) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose keys `new_key` made: a bucket may hold other things."""
        for kind in KINDS:
            async for found in self.list(kind):
                if _OWN_KEY.fullmatch(found.key):
                    yield found

    async def owner(self) -> str | None:
        """Return whose store this is, as `claim` wrote it, or null."""
        try:
            return (await self.read(_OWNER_KEY)).decode("utf-8", "replace").strip()
        except ObjectMissing:
            return None

    async def claim(self, owner: str) -> None:
        """Write down whose store this is."""
        await self.put(_OWNER_KEY, f"{owner}\n".encode())

    def clear_incoming(self, modified_before: float) -> int:
        """Remove the unfinished files of processes that died. Returns their number.

        modified_before: Unix seconds; younger ones may belong to another living process.
        """
        removed = 0
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError, PermissionError):
                if path.is_file() and path.stat().st_mtime < modified_before:
                    path.unlink()
                    removed += 1
        return removed


@contextmanager
def _answering(key: str) -> Iterator[None]:
    """Turn the store's words into ours. Raises ObjectMissing, and Unavailable where it is away."""
    try:
        yield
    except (FileNotFoundError, ObstoreNotFound):
        raise ObjectMissing(key) from None
    except ObstoreError as error:
        # Below its first line the library tells what it is made of.
        log.error("The object store does not answer: %s", str(error).partition("\n")[0])
        raise Unavailable(
            "The object store does not answer; try again in a moment.", retry_after=1
        ) from error


def _move(source: Path, target: Path) -> None:
    """Put a finished file in place, so that its new name survives a power failure too."""
    with room_needed():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        for folder in (target.parent, target.parent.parent):
            sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """See that new names in a folder survive a power failure, where a system has that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
