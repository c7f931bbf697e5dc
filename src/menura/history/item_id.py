"""Identifiers of history items: 20 characters that sort by time.

Since an identifier carries its own place in the order, a listing can go on after an item that
has been deleted meanwhile.
"""

import re
import secrets
import string

# In ASCII order, so that byte order is time order.
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
TIME_LENGTH = 9
LENGTH = 20

_FORM = re.compile(rf"[0-9A-Za-z]{{{LENGTH}}}")


def new_item_id(now: float) -> str:
    """Return a fresh identifier for an item begun at `now` (Unix seconds)."""
    left = int(now * 1_000_000)
    place = ""
    for _ in range(TIME_LENGTH):
        left, digit = divmod(left, len(DIGITS))
        place = DIGITS[digit] + place
    return place + "".join(secrets.choice(DIGITS) for _ in range(LENGTH - TIME_LENGTH))


def is_item_id(text: str) -> bool:
    """Tell whether this can be the identifier of an item."""
    return _FORM.fullmatch(text) is not None
