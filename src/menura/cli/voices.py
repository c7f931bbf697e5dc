"""`menura voices`: list, add, remove and show voices."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from menura.cli.options import DataOption, cell, complain, console, run, say, settings_from, visible
from menura.services import Services, open_services
from menura.voices.card import Card
from menura.voices.store import Maker, Upload
from menura.voices.voice import Voice

CONSENT = "Stated on the command line: the speaker is the maker, or has agreed to this clone."

app = typer.Typer(
    no_args_is_help=True, help="List, show, add and remove voices of the local account."
)


@app.command("list")
def show_all(data: DataOption = None) -> None:
    """List every voice."""

    async def work() -> list[Voice]:
        async with open_services(settings_from(data=data), converting=False) as services:
            account = await services.accounts.local_account()
            return await services.voices.all(account.account_id)

    table = Table(
        Column("Name", overflow="fold", min_width=10),
        Column("Id", no_wrap=True, min_width=20),
        Column("Kind", no_wrap=True, min_width=7),
        Column("Speaker", overflow="fold"),
        Column("Description", overflow="fold"),
    )
    for voice in run(work()):
        labels = voice.labels
        speaker = (labels.get(name, "").replace("_", " ") for name in ("gender", "age", "accent"))
        table.add_row(
            cell(voice.name),
            voice.voice_id,
            voice.category,
            cell(", ".join(filter(None, speaker))),
            cell(voice.description or labels.get("description", "")),
        )
    console.print(table)


@app.command("show")
def show(
    voice: Annotated[str, typer.Argument(help="Name or id of the voice.")], data: DataOption = None
) -> None:
    """Show one voice: labels, settings, recordings."""

    async def work() -> Voice:
        async with open_services(settings_from(data=data), converting=False) as services:
            account = await services.accounts.local_account()
            return await services.voices.find(account.account_id, voice)

    found = run(work())
    table = Table(show_header=False)
    table.add_row("Name", cell(found.name))
    table.add_row("Id", found.voice_id)
    table.add_row("Kind", found.category)
    table.add_row("Description", cell(found.description or ""))
    for label, value in found.labels.items():
        table.add_row(cell(label), cell(value))
    for setting, number in found.effective_settings.given().items():
        table.add_row(setting, str(number))
    for sample in found.samples or ():
        seconds = "" if sample.seconds is None else f", {sample.seconds:.1f} s"
        table.add_row("Recording", cell(f"{sample.file_name}{seconds}"))
    if found.recording_quality_reason:
        table.add_row("Quality", found.recording_quality_reason)
    if found.category == "cloned":
        table.add_row("Consent", cell(found.consent or "nothing was stated"))
    console.print(table)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name of the new voice.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="Recordings of the voice, 10 to 60 s in all."
        ),
    ],
    description: Annotated[str | None, typer.Option(help="What the voice is like.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A label, for example gender=female; may be repeated.")
    ] = None,
    denoise: Annotated[
        bool, typer.Option(help="Remove background noise before the voice is measured.")
    ] = False,
    consent: Annotated[
        bool | None,
        typer.Option(
            "--consent/--no-consent",
            help="State that this is your voice or that its owner has agreed.",
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """Clone a voice from recordings."""
    labels = dict(_label(text) for text in label or ())
    if consent is None:
        consent = typer.confirm("Is this your own voice, or has its owner agreed to this clone?")
    if not consent:
        complain("A voice is cloned only with its owner's consent.")
        raise typer.Exit(1)

    async def work() -> Voice:
        async with open_services(settings_from(data=data), converting=False) as services:
            account = await services.accounts.local_account()
            tier = services.settings.tiers[account.tier or services.settings.default_tier]
            # Where there is no room for all, the first ones would lie there until a server starts.
            with ExitStack() as received:
                return await services.voices.create(
                    Maker(account.account_id, None, tier.voices),
                    Card(name, description, labels, CONSENT),
                    [_received(services, path, received) for path in files],
                    remove_background_noise=denoise,
                )

    made = run(work())
    say(f"{made.name}: {made.voice_id}")
    if made.recording_quality_reason:
        say(made.recording_quality_reason)


@app.command("remove")
def remove(
    voice: Annotated[str, typer.Argument(help="Name or id of the voice.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    data: DataOption = None,
) -> None:
    """Delete a cloned voice and its recordings."""

    async def work() -> Voice:
        async with open_services(settings_from(data=data), converting=False) as services:
            account = await services.accounts.local_account()
            found = await services.voices.find(account.account_id, voice)
            if not yes:
                typer.confirm(f"Delete {visible(found.name)} and its recordings?", abort=True)
            await services.voices.delete(account.account_id, found.voice_id)
            return found

    say(f"Deleted {run(work()).name}.")


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"A label must have the form name=value, not {text!r}.")
    return name, value


def _received(services: Services, path: Path, received: ExitStack) -> Upload:
    writer = services.voices.receive()
    received.callback(writer.abandon)
    with path.open("rb") as file:
        shutil.copyfileobj(file, writer)
    return Upload(path.name, writer)
