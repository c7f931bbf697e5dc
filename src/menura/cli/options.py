"""Options that several commands share, and how they become settings."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.text import Text

from menura.errors import MenuraError
from menura.services import CannotOpenError
from menura.settings import Settings, UnreadableSettingsError


class _Answers(Console):
    """What a command answers, on standard output.

    Where that cannot be written, as on a full disk, the command ends with a plain sentence.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            # What is left in the buffer would be tried, and complained of, once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            complain(f"The answer cannot be written: {error.strerror}.")
            raise typer.Exit(1) from None


# A name between colons is no picture.
console = _Answers(emoji=False)
if not console.is_terminal and "COLUMNS" not in os.environ:
    # Rich takes a pipe for a terminal of 80 columns, but who reads it wants whole lines.
    console.width = 1000
complaints = Console(stderr=True, emoji=False)

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data folder; else ~/.local/share/menura.",
        envvar="MENURA_DATA",
        show_default=False,
    ),
]

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def settings_from(**flags: Any) -> Settings:
    """Return the settings with those flags over them that were given.

    Ends the command with a plain sentence for every value that does not fit.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            reason = problem["msg"].removeprefix("Value error, ")
            complain(f"{name} = {problem['input']!r}: {reason}." if name else f"{reason}.")
        raise typer.Exit(2) from None
    except SettingsError as error:
        complain(f"{error}: {error.__cause__}.")
        raise typer.Exit(2) from None
    except UnreadableSettingsError as error:
        complain(str(error))
        raise typer.Exit(2) from None


def address_in_url(host: str, port: int) -> str:
    """Return host and port as a URL has them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def visible(text: str) -> str:
    """Return a text without what would speak to the terminal instead of the reader: whoever may
    name a voice could else move its cursor, colour it, or fill its clipboard."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def cell(text: str) -> Text:
    """Return what may hold names that somebody else gave, for a table: nothing in it is markup."""
    return Text(visible(text))


def say(text: str) -> None:
    """Print what may hold names that somebody else gave: nothing in it is markup."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print a refusal."""
    complaints.print(visible(text), style="red", markup=False, highlight=False, soft_wrap=True)


def require_data_folder(settings: Settings) -> None:
    """End a command that only reads, where there is no data folder: opening one would make it."""
    if settings.database_url is None and not settings.data.exists():
        complain(f"There is no data folder {str(settings.data)!r}; `menura serve` makes one.")
        raise typer.Exit(1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a refusal becomes its sentence and exit code 1, a signal its own."""
    stopped: list[int] = []
    try:
        return asyncio.run(_stoppable(work, stopped))
    except MenuraError as error:
        complain(error.message)
        raise typer.Exit(1) from None
    except CannotOpenError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        with suppress(OSError):  # the terminal may be what is gone
            complaints.print("Stopped.")
        raise typer.Exit(128 + (stopped[0] if stopped else signal.SIGINT)) from None


async def _stoppable(work: Coroutine[Any, Any, T], stopped: list[int]) -> T:
    """Do the work, and give it up in good order when told to end or when the terminal goes, as an
    interrupt does by itself; a script's background jobs hear no interrupts."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def stop(number: int) -> None:
        stopped.append(number)
        task.cancel()

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) == signal.SIG_IGN:
            continue
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    return await work
