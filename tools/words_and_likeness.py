"""Draw the line between words and likeness from the tables of docs/training-log.md.

    .venv-training/bin/python tools/words_and_likeness.py

The figures stand in the document alone; this reads them there, and writes
docs/pictures/words-and-likeness.png.
"""

import re
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"
LOG = DOCUMENTS / "training-log.md"
PICTURE = DOCUMENTS / "pictures" / "words-and-likeness.png"
HEADING = "## Whisper as a critic"


def lines_of(section: str) -> dict[str, list[tuple[str, float, float]]]:
    """Return, by network: the share kept, cosine to target less to source, the share lost."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    name = ""
    for row in re.findall(r"^\| (.*) \|$", section, re.M)[1:]:
        cells = [cell.strip() for cell in row.split("|")]
        name = cells[0] or name
        kept, difference, lost = cells[1].split()[0], float(cells[3]), float(cells[4])
        found.setdefault(name, []).append((kept, difference, lost))
    return found


def main() -> None:
    """Draw one line for each of the section's networks."""
    section = LOG.read_text("utf-8").split(HEADING)[1].split("\n## ")[0]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (name, points), marker in zip(lines_of(section).items(), "os^", strict=True):
        axes.plot(*zip(*((x, y) for _, x, y in points), strict=True), marker=marker, label=name)
        for kept, x, y in points:
            axes.annotate(kept, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel("likeness: cosine to the target less cosine to the source (more is better)")
    axes.set_ylabel("lost of the words (less is better)")
    axes.legend(title="networks; at each point, the share kept")
    axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
