"""Writes what was found as markdown: tables, the bars beside them, the pictures' names."""

from __future__ import annotations

import json
import math
from pathlib import Path

from evaluation.scores import MEASURES, Figures, Measure, Spread, intervals, summary

NOTHING = "\N{EN DASH}"
ONLY_TARGET = {
    "resemblyzer_target", "resemblyzer_source", "resemblyzer_nearer", "own_target", "own_source",
    "own_nearer", "distillmos", "dnsmos", "dnsmos_speech", "pitch_offset",
}  # fmt: skip
"""What makes sense of the target's natural speech, which says other words than the source."""


def _cell(measure: Measure, figures: Figures, spread: Spread, name: str) -> str:
    value = figures.get(measure.key, math.nan)
    if math.isnan(value) or (name == "natural" and measure.key not in ONLY_TARGET):
        return NOTHING
    told = f"{value:.{measure.digits}f}"
    low, high = spread.get(measure.key, (value, value))
    if low == high:
        return told
    return f"{told} ({low:.{measure.digits}f} to {high:.{measure.digits}f})"


def table(columns: dict[str, list[Figures]]) -> list[str]:
    """Measures down, converters across, first bar and goal at the right."""
    heads = [f"{name} ({len(found)})" for name, found in columns.items()]
    told = [(summary(found), intervals(found), name) for name, found in columns.items()]
    lines = [
        "| median over pairs | " + " | ".join(heads) + " | first bar | goal |",
        "|---" * (len(heads) + 3) + "|",
    ]
    for measure in MEASURES:
        cells = [_cell(measure, *each) for each in told]
        if any(cell != NOTHING for cell in cells):
            text = " | ".join(
                [measure.heading, *cells, measure.bar or NOTHING, measure.goal or NOTHING]
            )
            lines.append(f"| {text} |")
    return lines


def parts(rows: list[dict[str, object]]) -> dict[str, list[dict[str, object]]]:
    """The groups that are reported apart, those with results only."""
    groups: dict[str, list[dict[str, object]]] = {}
    for group in dict.fromkeys(str(row["group"]) for row in rows):
        inside = [row for row in rows if row["group"] == group]
        groups[group] = inside
        if group in {"natural", "folder"}:
            for kind in ("same", "cross"):
                chosen = [row for row in inside if row["kind"] == kind]
                if chosen:
                    groups[f"{group}, {kind} sex"] = chosen
    return groups


def write(folder: Path, title: str, rows: list[dict[str, object]], notes: list[str]) -> Path:
    """Write summary.md and figures.json; give the summary's path.

    rows: one per result, with pair, group, kind, converter and figures.
    """
    lines = [f"# {title}", ""]
    for name, inside in parts(rows).items():
        by_converter: dict[str, list[Figures]] = {}
        for row in inside:
            by_converter.setdefault(str(row["converter"]), []).append(row["figures"])  # type: ignore[arg-type]
        lines += [f"## {name}", "", *table(by_converter), ""]
    lines += [
        "Shares, clicks and joint traces are means; lag is the median of the amount. In brackets:",
        "where 95 % of draws of as many pairs lie (bootstrap). Pairs share people, so that is a",
        "little too narrow.",
        "Nobody listened.",
        "",
        *notes,
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    path = folder / "summary.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
