"""Identifiers in the forms the contract prescribes."""

import re
import secrets
import string

ALPHABET = string.ascii_letters + string.digits
ACCEPTED = re.compile(r"[A-Za-z0-9_-]{1,64}")


def new_id() -> str:
    """Return a random 20-character identifier for a voice, sample, request or history item."""
    return "".join(secrets.choice(ALPHABET) for _ in range(20))


def new_trace_id() -> str:
    """Return 32 random hex digits, the form of error `request_id` and header `x-trace-id`."""
    return secrets.token_hex(16)


def is_acceptable(identifier: str) -> bool:
    """Tell whether a client's identifier may be looked up at all."""
    return ACCEPTED.fullmatch(identifier) is not None
