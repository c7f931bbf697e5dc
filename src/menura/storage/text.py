"""Which texts every database can keep."""

import re

_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether a text has neither NUL, which PostgreSQL refuses, nor halves of surrogate pairs,
    which UTF-8 does not have."""
    return _NOT_TEXT.search(text) is None
