"""Command line of the judging suite: `python -m evaluation --help`."""

from __future__ import annotations

import datetime
import os
import resource
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from evaluation import converters, report
from evaluation.command_line import run
from evaluation.corpus import CORPUS_RATE, Corpus, Samples
from evaluation.pairs import Pair, corpus_pairs, folder_pairs, write_pairs
from evaluation.referees import Bench
from evaluation.scores import judge
from menura.engine.interface import LATENCY_PROFILES, RECORDING, LatencyProfile

HERE = Path(__file__).resolve().parent
QUICK = 12
PICTURES = 12
console = Console()


def _result(converter: converters.Converter, pair: Pair, cache: Path) -> Samples:
    """Convert, or take the kept result of the same converter."""
    if converter.signature is None:
        return converter.convert(pair)
    path = cache / "converted" / converter.signature / f"{pair.name}.wav"
    if not path.is_file():
        result = converter.convert(pair)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        sf.write(part, result, CORPUS_RATE, format="WAV", subtype="FLOAT")
        part.replace(path)
        return result
    samples, _ = sf.read(path, dtype="float32")
    return np.asarray(samples, dtype=np.float32)


def _judged(
    names: list[str], folders: list[Path], latency: LatencyProfile, baselines: bool
) -> list[converters.Converter]:
    """The baselines, all or those that are named, what else is named, folders of results."""
    engines = [n for n in names if n not in converters.BASELINES]
    first = converters.BASELINES if baselines else [n for n in names if n not in engines]
    return [
        *(converters.converter(n) for n in first),
        *(converters.converter(n, latency) for n in engines),
        *(converters.from_folder(folder, folder.name) for folder in folders),
    ]


def _show(bench: Bench, pair: Pair, results: dict[str, Samples], start: Path) -> None:
    """Draw and write results of which somebody may want to see and hear something.

    start: of the files' names.
    """
    from evaluation.pictures import draw  # noqa: PLC0415  matplotlib takes a second

    kept = {n: s for n, s in results.items() if n not in {"source", "natural"}}
    start.parent.mkdir(parents=True, exist_ok=True)
    draw(bench, pair, kept, start.with_name(f"{start.name}.png"))
    for who, samples in kept.items():
        sf.write(start.with_name(f"{start.name}-{who}.wav"), samples, CORPUS_RATE)


def _cost(pairs: int, judged: int, began: float) -> str:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return (
        f"{pairs} pairs, {judged} converters: {time.monotonic() - began:.0f} s in all, "
        f"{spent.ru_utime + spent.ru_stime:.0f} s of one core beyond kept answers."
    )


def main(
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="source, natural, world, source_filter, neural, neural=FOLDER, a model id, "
            "module:Class or module:function; repeatable."
        ),
    ] = None,
    wavs: Annotated[
        list[Path] | None, typer.Option(help="Folder of results made elsewhere, <pair>.wav.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Folder with sources/ and targets/ instead of the corpus.")
    ] = None,
    corpus: Annotated[Path | None, typer.Option(help="Corpus folder.")] = None,
    group: Annotated[str | None, typer.Option(help="Only natural, arabic or synthetic.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs.")] = None,
    quick: Annotated[
        bool, typer.Option(help=f"The first {QUICK} pairs, cheap referees only, no pictures.")
    ] = False,
    baselines: Annotated[bool, typer.Option(help="Judge the baselines beside.")] = True,
    level: Annotated[int, typer.Option(min=0, max=4, help="Latency level of engines.")] = 3,
    whole: Annotated[
        bool, typer.Option("--whole", help="As recordings that are answered whole; no --level.")
    ] = False,
    nice: Annotated[int, typer.Option(help="Politeness towards other processes.")] = 5,
    name: Annotated[str, typer.Option(help="Ending of the report folder's name.")] = "",
    out: Annotated[Path, typer.Option(help="Where report folders go.")] = HERE / "reports",
    cache: Annotated[Path, typer.Option(help="Where answers are kept.")] = HERE / "cache",
    write_list: Annotated[
        Path | None, typer.Option(help="Only write the clips and the list of pairs there.")
    ] = None,
) -> None:
    """Judge voice converters on pairs of people that no training saw."""
    torch.set_num_threads(1)
    os.nice(nice)
    chosen = folder_pairs(pairs) if pairs else corpus_pairs(Corpus(corpus))
    chosen = [p for p in chosen if group is None or p.group == group]
    chosen = chosen[: limit or (QUICK if quick else None)]
    if not chosen:
        raise typer.BadParameter(f"no pairs in group {group!r}")
    if write_list:
        write_pairs(chosen, write_list)
        console.print(f"{len(chosen)} pairs in {write_list}")
        return
    latency = RECORDING if whole else LATENCY_PROFILES[level]
    judged = _judged(engine or [], wavs or [], latency, baselines)
    if not judged:
        raise typer.BadParameter("nothing to judge: name an --engine or --wavs")

    began = time.monotonic()
    bench, rows, problems = Bench(cache), [], []
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    title = name or "-".join(c.name for c in judged if c.name not in converters.BASELINES)
    title = title or "baselines"
    folder = out / f"{today}-{title.replace('/', '_')}"
    with Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        work = progress.add_task("judging", total=len(chosen) * len(judged))
        for number, pair in enumerate(chosen):
            shown: dict[str, Samples] = {}
            for converter in judged:
                progress.update(work, description=f"{converter.name}: {pair.name}")
                try:
                    result = _result(converter, pair, cache)
                    figures = judge(bench, pair, result, quick)
                except converters.LeftOutError as reason:
                    problems.append(f"left out: {converter.name}: {reason}")
                except ValueError as reason:
                    problems.append(f"FAILED: {converter.name}, {pair.name}: {reason}")
                else:
                    shown[converter.name] = result
                    rows.append(
                        {"pair": pair.name, "group": pair.group, "kind": pair.kind,
                         "converter": converter.name, "figures": figures}
                    )  # fmt: skip
                progress.advance(work)
            if not quick and number < PICTURES:
                _show(bench, pair, shown, folder / f"{number + 1:02}-{pair.name}")
            # After every pair, so that an interrupted run leaves its report behind.
            notes = [_cost(number + 1, len(judged), began), *dict.fromkeys(problems)]
            path = report.write(folder, title, rows, notes)
    console.print(path.read_text(encoding="utf-8"), soft_wrap=True, markup=False)
    console.print(f"report: {folder}")


if __name__ == "__main__":
    run(lambda: typer.run(main))
