"""Options that several commands share, and how they become settings."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from menura.errors import MenuraError
from menura.services import CannotOpenError
from menura.settings import Settings, UnreadableSettingsError

console = Console()
if not console.is_terminal and "COLUMNS" not in os.environ:
    # Rich takes a pipe for a terminal of 80 columns, but who reads it wants whole lines.
    console.width = 1000
complaints = Console(stderr=True)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder.", envvar="MENURA_DATA", show_default=False),
]

T = TypeVar("T")


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


def say(text: str) -> None:
    """Print what may hold names that somebody else gave: nothing in it is markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print a refusal."""
    complaints.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a refusal becomes its sentence and exit code 1."""
    # Told to end, a command leaves as little behind as one that is interrupted.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return asyncio.run(work)
    except MenuraError as error:
        complain(error.message)
        raise typer.Exit(1) from None
    except CannotOpenError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        complaints.print("Stopped.")
        raise typer.Exit(130) from None
