"""`menura backup`: a copy of the data folder that can be served, made while the server runs."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from menura.accounts.service import KEY_FILE
from menura.cli.options import (
    DataOption,
    complain,
    complaints,
    require_data_folder,
    run,
    say,
    settings_from,
)
from menura.services import Services, open_services
from menura.settings import Settings
from menura.storage.database import SQLITE_FILE
from menura.storage.objects import ObjectMissing, Objects
from menura.storage.sweep import known_keys


def backup(
    folder: Annotated[
        Path, typer.Argument(help="Folder to make for the copy; it must not exist yet.")
    ],
    data: DataOption = None,
) -> None:
    """Copy the data folder (keys, voices, history, settings) while the server runs."""
    settings = settings_from(data=data)
    require_data_folder(settings)
    if settings.database_url is not None:
        complain("The database is not in the data folder: copy it with its own tools.")
        raise typer.Exit(1)
    if settings.objects_url is not None:
        # A copy served with the same setting would sweep from the store what came after it.
        complain(
            "objects_url is set, so audio is not in the data folder: copy it with its own tools."
        )
        raise typer.Exit(1)
    try:
        if folder.exists():
            complain(f"{str(folder)!r} exists already.")
            raise typer.Exit(1)
        count = run(_copy(settings, folder))
    except (OSError, sqlite3.Error) as error:
        complain(f"{str(folder)!r} cannot be made: {error}.")
        raise typer.Exit(1) from None
    say(f'{folder}: {count} objects. To use it: menura serve --data "{folder}"')


async def _copy(settings: Settings, folder: Path) -> int:
    async with open_services(settings, converting=False) as services:
        aside = await asyncio.to_thread(_folder_beside, folder)
        try:
            # First of all: its folders are their owner's alone, wherever they are moved to.
            copied = Objects(aside / "incoming", folder=aside / "objects")
            with Progress(
                console=complaints, transient=True, disable=not complaints.is_terminal
            ) as progress:
                # Twice, for what is stored while the first half is copied; what is deleted
                # meanwhile is swept from the copy at its first start.
                await _objects(services, aside, progress)
                await asyncio.to_thread(_database, settings.data, aside)
                count = await _objects(services, aside, progress)
            owner = (await services.accounts.local_account()).account_id
            await copied.claim(owner)
            for name in (KEY_FILE, "menura.toml"):
                if (settings.data / name).is_file():
                    await asyncio.to_thread(shutil.copy2, settings.data / name, aside / name)
            await asyncio.to_thread(aside.rename, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
    return count


def _folder_beside(folder: Path) -> Path:
    """Make a folder that is nobody else's and that only its owner reads."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))


async def _objects(services: Services, aside: Path, progress: Progress) -> int:
    """Copy what is not copied yet of all that rows refer to; return how many there are."""
    keys = await known_keys(services.database)
    count = 0
    for key in progress.track(keys, description="Audio and voices"):
        target = aside / "objects" / key
        if not target.exists():
            try:
                async with services.objects.local(key) as path:
                    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                    await asyncio.to_thread(shutil.copyfile, path, target)
            except (ObjectMissing, FileNotFoundError):
                continue
        count += 1
    return count


def _database(data: Path, aside: Path) -> None:
    copy = aside / SQLITE_FILE
    copy.touch(mode=0o600)
    with (
        closing(sqlite3.connect(data / SQLITE_FILE)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
