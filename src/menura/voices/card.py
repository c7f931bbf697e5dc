"""What the maker of a voice says of it, and which of that is accepted.

Names of uploaded files are made harmless here too: they are shown and sent back like the rest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from unicodedata import category, normalize

from menura.errors import InvalidParameters, shown
from menura.storage.text import is_storable

LONGEST_NAME = 100
LONGEST_TEXT = 2000
MOST_LABELS = 20
LONGEST_LABEL = 100
LONGEST_FILE_NAME = 120
_LONGEST_ENDING = 10


@dataclass(frozen=True, slots=True)
class Card:
    """What is said of a voice. None leaves what is stored as it is."""

    name: str
    description: str | None = None
    labels: Mapping[str, str] | None = None
    consent: str | None = None

    def check(self) -> None:
        """Raise InvalidParameters for what is empty, too long, too much or no text."""
        if not self.name.strip():
            raise InvalidParameters("name must not be empty.", param="name")
        limits = (
            ("name", self.name, LONGEST_NAME),
            ("description", self.description, LONGEST_TEXT),
            ("consent", self.consent, LONGEST_TEXT),
        )
        for field, text, longest in limits:
            if text is not None and len(text) > longest:
                raise InvalidParameters(
                    f"{field} may have at most {longest} characters, not {len(text)}.", param=field
                )
            if text is not None and not is_storable(text):
                raise InvalidParameters(
                    f"{field} {text[:40]!a} holds characters that cannot be stored as text.",
                    param=field,
                )
        _check_labels(self.labels or {})


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MOST_LABELS:
        raise InvalidParameters(
            f"A voice may have at most {MOST_LABELS} labels, not {len(labels)}.", param="labels"
        )
    for name, value in labels.items():
        if len(name) > LONGEST_LABEL or len(value) > LONGEST_LABEL:
            raise InvalidParameters(
                f"Label {name[:40]!r}: name and value may have at most {LONGEST_LABEL} characters.",
                param="labels",
            )
        if not is_storable(name + value):
            raise InvalidParameters(
                f"Label {name[:40]!a} holds characters that cannot be stored as text.",
                param="labels",
            )


def parse_labels(text: str) -> dict[str, str] | None:
    """Read the form field `labels`: a JSON object of strings; `null` and nothing mean none given.

    Raises InvalidParameters.
    """
    if not text.strip():
        return None
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        labels = text
    if labels is None:
        return None
    if not isinstance(labels, dict):
        raise InvalidParameters(
            f"labels must be a JSON object of strings, not {shown(text)}.", param="labels"
        )
    for name, value in labels.items():
        if not isinstance(value, str):
            raise InvalidParameters(
                f"Label {name[:40]!r} must be a string, not {shown(value)}.", param="labels"
            )
    return labels


def clean_file_name(name: str | None) -> str:
    """Return the last part of a claimed file name without anything that could do harm, at most
    LONGEST_FILE_NAME characters, of which its ending is kept."""
    last = PurePosixPath(PureWindowsPath(name or "").name).name
    last = "".join("_" if _does_harm(sign) else sign for sign in normalize("NFC", last))
    last = last.strip(". ")
    ending = PurePosixPath(last).suffix[:_LONGEST_ENDING]
    if len(last) > LONGEST_FILE_NAME:
        last = last[: LONGEST_FILE_NAME - len(ending)] + ending
    return last


def _does_harm(sign: str) -> bool:
    """Tell whether a character is a quote, a path's, or not one that is seen."""
    return sign in '"/\\' or category(sign) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
