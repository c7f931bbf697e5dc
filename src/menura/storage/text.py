"""Which texts every database can keep, and which count as the same."""

import re
from unicodedata import normalize

_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether a text has neither NUL, which PostgreSQL refuses, nor halves of surrogate pairs,
    which UTF-8 does not have."""
    return _NOT_TEXT.search(text) is None


def folded(text: str) -> str:
    """Return a text as searches compare it: the same for capitals and small letters, and whether
    accents are characters of their own, as in file names of macOS, or part of their letters."""
    return normalize("NFC", text.casefold())
