"""Figures, what was asked of them, and what the same path costs without any conversion."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured number. limit: what it may be at most (at least, when `more_is_better`)."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    limit: float | None = None
    more_is_better: bool = False

    @property
    def kept(self) -> bool | None:
        """Whether the limit holds; None when there is none."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.more_is_better else self.value <= self.limit


@dataclass
class Report:
    """The figures of one run."""

    figures: list[Figure] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        floor: float | None = None,
        limit: float | None = None,
        more_is_better: bool = False,
    ) -> None:
        """Add a figure. floor: the same with the pass-through engine."""
        self.figures.append(Figure(name, value, unit, floor, limit, more_is_better))

    def print(self) -> None:
        """Print the table."""
        table = Table("what", "measured", "floor", "asked", "", title=_machine_line())
        for figure in self.figures:
            sign = "≥" if figure.more_is_better else "≤"
            table.add_row(
                figure.name,
                f"{_short(figure.value)} {figure.unit}",
                "" if figure.floor is None else f"{_short(figure.floor)} {figure.unit}",
                "" if figure.limit is None else f"{sign} {_short(figure.limit)} {figure.unit}",
                {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.kept],
            )
        Console(width=120).print(table)

    def write(self) -> Path:
        """Write the figures as JSON and return the file."""
        RESULTS.mkdir(exist_ok=True)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.started))
        path = RESULTS / f"{stamp}.json"
        document = {
            "started": self.started,
            "machine": _machine(),
            "figures": [asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return path


def _machine() -> dict[str, object]:
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "menura": version("menura"),
        "cores": os.cpu_count(),
        "load": load,
    }


def _machine_line() -> str:
    machine = _machine()
    load = machine["load"]
    shown = f", load {load[0]:.1f}" if isinstance(load, tuple) else ""
    return f"{machine['system']}, {machine['cores']} cores, Python {machine['python']}{shown}"


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
