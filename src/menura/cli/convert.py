"""`menura convert`: change the voice of a file without a server."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from menura.audio.formats import FORMATS, OutputFormat, find_format
from menura.cli.options import DataOption, complain, complaints, run, say, settings_from
from menura.conversion.request import ConversionRequest, DurationLimits, SourcePlan
from menura.engine.interface import LATENCY_PROFILES
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
            source=SourcePlan(engine=engine, denoise=denoise, latency=LATENCY_PROFILES[0]),
            voice=await services.voices.profile(voice.own_id, engine),
            output_format=target,
            settings=asked.over(voice.effective_settings).decided(),
            seed=seed,
        )
        # What is there stays until the new file is whole.
        aside = output.with_name(output.name + ".part")
        try:
            with (
                Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    TaskProgressColumn(),
                    TimeRemainingColumn(),
                    console=complaints,
                    transient=True,
                ) as progress,
                source.open("rb") as reader,
                aside.open("wb") as writer,
            ):
                task = progress.add_task(f"{source.name} → {voice.name}", total=None)
                produced = services.conversion.convert_file(
                    reader,
                    writer,
                    request,
                    limits=DurationLimits(settings.min_seconds, 0),
                    progress=lambda done, total: progress.update(task, completed=done, total=total),
                )
            os.replace(aside, output)
        finally:
            aside.unlink(missing_ok=True)
        return produced.seconds


def convert(
    source: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Any audio or video file.")
    ],
    voice: Annotated[str, typer.Option(help="Name or id of the voice.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")],
    output_format_name: Annotated[
        str | None,
        typer.Option("--format", help="Output format; else what the ending means."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model id.")] = None,
    similarity: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    stability: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    style: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    boost: Annotated[bool | None, typer.Option(help="Speaker boost.")] = None,
    speed: Annotated[float | None, typer.Option(help="0.7 to 1.2.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1)] = None,
    denoise: Annotated[bool, typer.Option(help="Remove background noise first.")] = False,
    data: DataOption = None,
) -> None:
    """Change the voice of a recording."""
    settings = settings_from(data=data)
    target = output_format(output_format_name, output)

    async def work() -> float:
        asked = voice_settings(
            {
                "similarity_boost": similarity,
                "stability": stability,
                "style": style,
                "use_speaker_boost": boost,
                "speed": speed,
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
            secrets.randbelow(2**32) if seed is None else seed,
            denoise,
        )

    try:
        seconds = run(work())
    except OSError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    say(f"{output}: {seconds:.2f} s")
