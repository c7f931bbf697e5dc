"""`menura doctor`: what is installed, which limits hold, is the data folder healthy."""

import asyncio
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import av
import typer
from rich.table import Table

from menura import __version__
from menura.accounts.service import KEY_FILE
from menura.audio.formats import FORMATS
from menura.cli.options import DataOption, address_in_url, cell, console, settings_from
from menura.services import CannotOpenError, open_services
from menura.settings import UNLIMITED, Settings, usable_cores
from menura.storage.database import SQLITE_FILE
from menura.storage.sweep import missing

LIBRARIES = ("av", "numpy", "onnxruntime", "soxr", "fastapi", "uvicorn", "sqlalchemy", "obstore")
LOW_DISK = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. good: null for a plain fact."""

    subject: str
    found: str
    good: bool | None = None


def installed() -> Iterator[Finding]:
    """Yield what this installation consists of."""
    yield Finding("Menura", __version__)
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("Cores", f"{usable_cores()} of {os.cpu_count()}")
    for name in LIBRARIES:
        yield Finding(name, version(name))
    encoders = {"mp3": "libmp3lame", "opus": "libopus"}
    lacking = [name for name, codec in encoders.items() if codec not in av.codecs_available]
    yield Finding(
        "Encoders",
        f"all {len(FORMATS)} formats" if not lacking else f"missing: {', '.join(lacking)}",
        not lacking,
    )


def limits(settings: Settings) -> Iterator[Finding]:
    """Yield the limits that hold."""

    def bounded(value: float, unit: str) -> str:
        return f"{value:,.10g} {unit}" if value else "no limit"

    yield Finding("Listens on", address_in_url(settings.host, settings.port))
    yield Finding("Upload", bounded(settings.max_upload_bytes, "bytes"))
    yield Finding("Length", bounded(settings.max_seconds, "s"))
    yield Finding("Conversions at once", str(settings.max_streams))
    yield Finding("Computing at once", str(settings.cores))
    yield Finding("Processes that convert", f"up to {settings.processes or settings.cores}")
    tier = settings.tiers[settings.default_tier]
    credit = (
        "no limit of credits" if tier.credits >= UNLIMITED else f"{tier.credits:,} credits a month"
    )
    yield Finding(
        "Tier of the local account",
        f"{settings.default_tier}: {tier.concurrency} at once, {credit}",
    )


async def data_folder(settings: Settings) -> list[Finding]:
    """Return the state of the data folder."""
    if settings.database_url is None and not settings.data.exists():
        return [Finding("Data folder", f"none at {settings.data}: menura serve makes it")]
    findings = [Finding("Data folder", str(settings.data))]
    async with open_services(settings) as services:
        wrong = await services.database.check()
        findings.append(Finding("Database", "; ".join(wrong) or "healthy", not wrong))
        gone = await missing(services.database, services.objects)
        told = f"{len(gone)} are gone, such as {gone[0]}" if gone else "all there"
        findings.append(Finding("Stored audio and voices", told, not gone))
        if (settings.data / KEY_FILE).exists():
            works = await services.accounts.key_file_works()
            told = "admits its holder" if works else "revoked or expired: menura keys create NAME"
            findings.append(Finding("Key in the key file", told, works))
        else:
            findings.append(Finding("Key file", "none: menura keys create NAME makes a key"))
    for subject, name in (("Key file", KEY_FILE), ("Database file", SQLITE_FILE)):
        path = settings.data / name
        if path.exists() and os.name != "nt":
            private = path.stat().st_mode & 0o077 == 0
            told = "only its owner reads it" if private else f"others may read: chmod 600 '{path}'"
            findings.append(Finding(subject, told, private))
    free = shutil.disk_usage(settings.data).free
    findings.append(Finding("Free disk", f"{free / 2**30:.1f} GiB", free > LOW_DISK))
    return findings


def doctor(data: DataOption = None) -> None:
    """Report what is installed, which limits hold, and whether the data folder is healthy."""
    settings = settings_from(data=data)
    findings = [*installed(), *limits(settings)]
    try:
        findings += asyncio.run(data_folder(settings))
    except CannotOpenError as error:
        findings.append(Finding("Data folder", str(error), False))
    except Exception as error:
        # Whatever it is that keeps the folder from being opened, it is what is looked for.
        findings.append(Finding("Data folder", f"{settings.data}: {error}", False))
    table = Table("", "Subject", "Found", show_edge=False)
    for finding in findings:
        mark = {None: "", True: "[green]ok[/green]", False: "[red]bad[/red]"}[finding.good]
        table.add_row(mark, finding.subject, cell(finding.found))
    console.print(table)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)
