"""Query parameters and form fields as clients spell them.

An empty value counts as absent. What does not fit is a SchemaViolation at its location.
"""

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import Scope

from menura.errors import SchemaViolation, shown

Location = tuple[str, str]

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_MOST_PARAMETERS = 100


def query_of(scope: Scope, known: Collection[str]) -> dict[str, str]:
    """Return the known query parameters that have a value; others are ignored.

    Raises SchemaViolation for one that is given twice.
    """
    try:
        pairs = parse_qsl(
            scope.get("query_string", b"").decode("latin-1"), max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        raise SchemaViolation(
            ("query",), f"more than {_MOST_PARAMETERS} query parameters", "too_long"
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in known and value.strip():
            if name in found:
                raise repeated(("query", name))
            found[name] = value.strip()
    return found


def media_type(request: Request) -> str:
    """Return the media type that a request names for its body, in lower case, "" if none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def missing(location: Location) -> SchemaViolation:
    """Return the refusal of a request without a value that it must have."""
    return SchemaViolation(location, "Field required", "missing")


def repeated(location: Location) -> SchemaViolation:
    """Return the refusal of a value that may be given only once."""
    return SchemaViolation(location, "given more than once", "repeated")


def boolean(location: Location, text: str) -> bool:
    """Read true, false, 1, 0, yes, no, on, off in any case."""
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise SchemaViolation(location, f"{shown(text)} is neither true nor false", "bool_parsing")


def integer(location: Location, text: str, low: int, high: int) -> int:
    """Read a whole number from `low` to `high`."""
    refusal = f"{shown(text)} is not an integer from {low} to {high}"
    if not _INTEGER.fullmatch(text.strip()):
        raise SchemaViolation(location, refusal, "int_parsing")
    value = int(text)
    if not low <= value <= high:
        raise SchemaViolation(location, refusal, "out_of_range")
    return value


def choice(location: Location, text: str, allowed: Collection[str]) -> str:
    """Read one of a list of words."""
    if text.strip() not in allowed:
        raise SchemaViolation(location, f"{shown(text)} is not one of {', '.join(allowed)}", "enum")
    return text.strip()


def query_boolean(query: Mapping[str, str], name: str, default: bool) -> bool:
    """Read a boolean query parameter."""
    return boolean(("query", name), query[name]) if name in query else default
