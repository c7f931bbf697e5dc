"""`menura convert`: change the voice of files without a server."""

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
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

from menura.cli.options import DataOption, complain, complaints, run, say, settings_from, visible
from menura.cli.results import STANDARD_OUTPUT, Planned, planned, written
from menura.conversion.request import MAX_SEED, ConversionRequest, DurationLimits, SourcePlan
from menura.engine.interface import RECORDING
from menura.engine.registry import engine_for
from menura.errors import MenuraError
from menura.services import open_services
from menura.settings import Settings
from menura.voices.settings import VoiceSettings, voice_settings


async def _convert(
    settings: Settings,
    plan: Sequence[Planned],
    wanted: str,
    model: str,
    asked: VoiceSettings,
    seed: int | None,
    denoise: bool,
) -> list[float | BaseException]:
    """Return the seconds made of each recording, or why there are none."""
    async with open_services(settings) as services:
        account = await services.accounts.local_account()
        voice = await services.voices.find(account.account_id, wanted)
        engine = engine_for(model)
        profile = await services.voices.profile(voice.own_id, engine)
        decided = asked.over(voice.effective_settings).decided()
        places = asyncio.Semaphore(min(settings.processes or settings.cores, settings.max_streams))
        started: list[asyncio.Task[float]] = []
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=complaints,
            transient=True,
            disable=not complaints.is_terminal,
        ) as progress:
            whole = progress.add_task(f"{len(plan)} recordings", total=len(plan))
            progress.update(whole, visible=len(plan) > 1)

            def convert_one(each: Planned) -> float:
                request = ConversionRequest(
                    source=SourcePlan(engine=engine, denoise=denoise, latency=RECORDING),
                    voice=profile,
                    output_format=each.target,
                    settings=decided,
                    seed=secrets.randbelow(MAX_SEED + 1) if seed is None else seed,
                )
                task = progress.add_task(visible(f"{each.source.name} → {voice.name}"), total=None)
                try:
                    with (
                        written(each.output) as writer,
                        # Closed before the output takes its place, which may be the same.
                        each.source.open("rb") as reader,
                    ):
                        return services.conversion.convert_file(
                            reader,
                            writer,
                            request,
                            limits=DurationLimits(settings.min_seconds, 0),
                            progress=lambda done, total: progress.update(
                                task, completed=done, total=total
                            ),
                        ).seconds
                finally:
                    progress.remove_task(task)
                    progress.advance(whole)

            async def in_turn(each: Planned) -> float:
                async with places:
                    started.append(asyncio.create_task(asyncio.to_thread(convert_one, each)))
                    return await asyncio.shield(started[-1])

            try:
                return await asyncio.gather(*map(in_turn, plan), return_exceptions=True)
            except asyncio.CancelledError:
                # Threads must have ended before the command does: they tidy up after themselves.
                await asyncio.to_thread(services.conversion.close)
                await asyncio.gather(*started, return_exceptions=True)
                raise


def convert(
    sources: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="SOURCE...",
            help="The recordings: any audio or video files.",
        ),
    ],
    voice: Annotated[str, typer.Option(help="Name or id of the voice.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File for the result, - for the standard output, or a folder for results with the "
            "recordings' names.",
        ),
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
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="In a folder, make anew what is there; else it is left as it is."
        ),
    ] = False,
    data: DataOption = None,
) -> None:
    """Change the voice of recordings, without a server.

    Of several, as many are converted at a time as there are cores. A run that was stopped goes on
    where it was when it is started again.
    """
    settings = settings_from(data=data)
    in_folder = len(sources) > 1 or os.path.isdir(output)
    plan = planned(sources, output, output_format_name)
    wanted = [each for each in plan if overwrite or not in_folder or not each.output.exists()]

    async def work() -> list[float | BaseException]:
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
        made = await _convert(
            settings, wanted, voice, model or settings.default_model, asked, seed, denoise
        )
        if not in_folder and isinstance(made[0], BaseException):
            raise made[0]
        return made

    try:
        if in_folder:
            output.mkdir(exist_ok=True)
        made = run(work())
    except BrokenPipeError:
        # Who reads has had enough; what is left must not be tried again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    if output == STANDARD_OUTPUT:
        (seconds,) = made
        complaints.print(f"{seconds:.2f} s")
        return
    _tell(wanted, made, len(plan) - len(wanted))


def _tell(plan: Sequence[Planned], made: Sequence[float | BaseException], left: int) -> None:
    """Say what became of each recording, and end with 1 if anything went wrong."""
    wrong = False
    for each, result in zip(plan, made, strict=True):
        if isinstance(result, (MenuraError, OSError)):
            wrong = True
            reason = result.message if isinstance(result, MenuraError) else str(result)
            complain(f"{each.source}: {reason}")
        elif isinstance(result, BaseException):
            raise result
        else:
            say(f"{each.output}: {result:.2f} s")
    if left:
        say(f"{left} there already and left as they are; --overwrite makes them anew.")
    if wrong:
        raise typer.Exit(1)
