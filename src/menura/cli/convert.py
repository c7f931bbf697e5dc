"""`menura convert`: change the voice of a file without a server."""

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from menura.audio.formats import FORMATS, OutputFormat, find_format
from menura.cli.options import DataOption, complain, complaints, run, say, settings_from, visible
from menura.conversion.request import MAX_SEED, ConversionRequest, DurationLimits, SourcePlan
from menura.engine.interface import RECORDING
from menura.engine.registry import engine_for
from menura.services import open_services
from menura.settings import Settings
from menura.voices.settings import VoiceSettings, voice_settings

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
    """
    if output == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
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


async def _convert(
    settings: Settings,
    source: Path,
    output: Path,
    wanted: str,
    target: OutputFormat,
    model: str,
    asked: VoiceSettings,
    seed: int,
    denoise: bool,
) -> float:
    async with open_services(settings) as services:
        account = await services.accounts.local_account()
        voice = await services.voices.find(account.account_id, wanted)
        engine = engine_for(model)
        request = ConversionRequest(
            source=SourcePlan(engine=engine, denoise=denoise, latency=RECORDING),
            voice=await services.voices.profile(voice.own_id, engine),
            output_format=target,
            settings=asked.over(voice.effective_settings).decided(),
            seed=seed,
        )
        with (
            Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=complaints,
                transient=True,
                disable=not complaints.is_terminal,
            ) as progress,
            written(output) as writer,
            # Closed before the output takes its place, which may be the same.
            source.open("rb") as reader,
        ):
            task = progress.add_task(visible(f"{source.name} → {voice.name}"), total=None)
            work = asyncio.create_task(
                asyncio.to_thread(
                    services.conversion.convert_file,
                    reader,
                    writer,
                    request,
                    limits=DurationLimits(settings.min_seconds, 0),
                    progress=lambda done, total: progress.update(task, completed=done, total=total),
                )
            )
            try:
                produced = await asyncio.shield(work)
            except asyncio.CancelledError:
                # Its thread must have ended before the files are closed.
                await asyncio.to_thread(services.conversion.close)
                await asyncio.gather(work, return_exceptions=True)
                raise
        return produced.seconds


def convert(
    source: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="The recording: any audio or video file."),
    ],
    voice: Annotated[str, typer.Option(help="Name or id of the voice.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File for the result; - is the standard output."),
    ],
    output_format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Output format, such as mp3_44100_128; else the one that the file ending means.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Id of the model; else the default model.")
    ] = None,
    similarity: Annotated[
        float | None, typer.Option(help="How far to go to the target voice, 0 to 1.")
    ] = None,
    stability: Annotated[
        float | None, typer.Option(help="How steady the pitch is, 0 to 1.")
    ] = None,
    style: Annotated[
        float | None, typer.Option(help="How far to exaggerate the voice, 0 to 1.")
    ] = None,
    boost: Annotated[
        bool | None, typer.Option(help="Equalise the result to the voice's own recordings.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Stretch time by 1/speed, 0.7 to 1.2.")
    ] = None,
    transpose: Annotated[
        float | None,
        typer.Option(
            help="Move the pitch by so many semitones and keep the melody, as for singing; "
            "else it goes to where the voice speaks."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same result; else random."),
    ] = None,
    denoise: Annotated[
        bool, typer.Option(help="Remove background noise before the conversion.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Change the voice of a recording, without a server."""
    settings = settings_from(data=data)
    target = output_format(output_format_name, output)
    if os.path.isdir(output):  # false where a folder is closed to us
        raise typer.BadParameter(f"{output} is a folder; name a file in it.")
    if output == Path("-"):
        if sys.stdout.isatty():
            raise typer.BadParameter("The standard output is a terminal; send it somewhere.")
    elif not os.path.isdir(output.parent):
        raise typer.BadParameter(f"There is no folder {str(output.parent)!r}.")

    async def work() -> float:
        asked = voice_settings(
            {
                "similarity_boost": similarity,
                "stability": stability,
                "style": style,
                "use_speaker_boost": boost,
                "speed": speed,
                "transpose": transpose,
            }
        )
        return await _convert(
            settings,
            source,
            output,
            voice,
            target,
            model or settings.default_model,
            asked,
            secrets.randbelow(MAX_SEED + 1) if seed is None else seed,
            denoise,
        )

    try:
        seconds = run(work())
    except BrokenPipeError:
        # Who reads has had enough; what is left must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    if output == Path("-"):
        complaints.print(f"{seconds:.2f} s")
    else:
        say(f"{output}: {seconds:.2f} s")
