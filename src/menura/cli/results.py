"""Where the results of `menura convert` go, and how each takes its place only when it is whole."""

import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import typer

from menura.audio.formats import DEFAULT_FORMAT, FORMATS, OutputFormat, find_format

STANDARD_OUTPUT = Path("-")

BY_ENDING = {
    ".mp3": "mp3_44100_128",
    ".wav": "wav_44100",
    ".ogg": "opus_48000_96",
    ".opus": "opus_48000_96",
    ".pcm": "pcm_24000",
    ".raw": "pcm_24000",
    ".ulaw": "ulaw_8000",
    ".alaw": "alaw_8000",
}
"""Format of an output file when none is named."""


def output_format(name: str | None, output: Path) -> OutputFormat:
    """Return the format asked for, or the one its ending means. Raises typer.BadParameter."""
    chosen = name or BY_ENDING.get(output.suffix.lower())
    if chosen is None:
        endings = ", ".join(BY_ENDING)
        raise typer.BadParameter(
            f"{output.name} ends in none of {endings}; name a format with --format."
        )
    found = find_format(chosen)
    if found is None:
        names = ", ".join(known.name for known in FORMATS)
        raise typer.BadParameter(f"There is no format {chosen!r}; there are {names}.")
    return found


@contextmanager
def written(output: Path) -> Iterator[BinaryIO]:
    """Lend a file whose bytes replace those at `output` once the block has ended without an error.

    `-` is the standard output. Links are followed; what is no regular file is written to directly.
    Raises OSError.
    """
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    for path in (output.absolute(), *output.absolute().parents):
        if _is_planted(path):
            raise PermissionError(errno.EACCES, "A link that another user has made", str(path))
    place = output.resolve()
    if place.exists() and not place.is_file():
        with place.open("wb") as writer:
            yield writer
        return
    aside = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with aside.open("xb") as writer:
            yield writer
        if place.exists():
            shutil.copymode(place, aside)
        os.replace(aside, place)
    finally:
        aside.unlink(missing_ok=True)


def _is_planted(path: Path) -> bool:
    """Whether this is another user's link in a folder such as /tmp, which may lead to any file of
    ours. Linux follows none either when a file is opened (`fs.protected_symlinks`)."""
    if os.name != "posix" or not path.is_symlink():
        return False
    folder = path.parent.stat()
    anybodys = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    return bool(anybodys) and path.lstat().st_uid not in (os.geteuid(), folder.st_uid)


@dataclass(frozen=True, slots=True)
class Planned:
    """A recording, the file for its conversion, and that file's format."""

    source: Path
    output: Path
    target: OutputFormat


def planned(sources: Sequence[Path], output: Path, format_name: str | None) -> list[Planned]:
    """Return what is to be made of each recording: a file named `output`, or one in that folder.

    Of several recordings the results lie in a folder, which is made where there is none. Raises
    typer.BadParameter for what cannot be.
    """
    if os.path.isdir(output):  # false where a folder is closed to us
        return _in_folder(sources, output, format_name)
    if len(sources) == 1:
        if output == STANDARD_OUTPUT and sys.stdout.isatty():
            raise typer.BadParameter("The standard output is a terminal; send it somewhere.")
        _require_folder(output.parent)
        return [Planned(sources[0], output, output_format(format_name, output))]
    if output == STANDARD_OUTPUT:
        raise typer.BadParameter("The results of several recordings need a folder.")
    if output.exists():
        raise typer.BadParameter(
            f"{str(output)!r} is no folder, which the results of several recordings need."
        )
    _require_folder(output.parent)
    return _in_folder(sources, output, format_name)


def _require_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise typer.BadParameter(f"There is no folder {str(folder)!r}.")


def _in_folder(sources: Sequence[Path], folder: Path, format_name: str | None) -> list[Planned]:
    """Return results with the recordings' names, and their endings where no format is named and
    the endings mean one."""
    plan: dict[Path, Planned] = {}
    for source in sources:
        meant = None if format_name else BY_ENDING.get(source.suffix.lower())
        target = output_format(format_name or meant or DEFAULT_FORMAT, source)
        ending = source.suffix if meant else f".{target.extension}"
        output = folder / f"{source.stem}{ending}"
        if output in plan:
            raise typer.BadParameter(
                f"{str(plan[output].source)!r} and {str(source)!r} would both become "
                f"{str(output)!r}."
            )
        if output.exists() and output.samefile(source):
            raise typer.BadParameter(
                f"{str(source)!r} would be replaced by its result; name another folder."
            )
        plan[output] = Planned(source, output, target)
    return list(plan.values())
