"""Filtering, sorting and paging of voices, as `GET /v2/voices` offers them."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from menura.errors import InvalidCursor, InvalidPageSize
from menura.storage.text import folded
from menura.voices.voice import Voice

LARGEST_PAGE = 100

_OWN_TYPES = {"personal", "non-default", "non-community", "saved"}
_SORT_KEYS = {"created_at_unix", "name"}


@dataclass(frozen=True, slots=True)
class VoiceQuery:
    """What is looked for; None and empty mean no restriction.

    search: words that must all occur in name, description, labels or category.
    languages, use_cases: any of them. The rest compares with the label of that name.
    An unknown value finds nothing.
    """

    page_size: int = 10
    next_page_token: str | None = None
    search: str | None = None
    sort: str | None = None
    sort_direction: str | None = None
    voice_type: str | None = None
    category: str | None = None
    fine_tuning_state: str | None = None
    collection_id: str | None = None
    voice_ids: Sequence[str] = ()
    gender: str | None = None
    age: str | None = None
    accent: str | None = None
    languages: Sequence[str] = ()
    use_cases: Sequence[str] = ()
    min_notice_period_days: int | None = None
    high_quality: bool = False


@dataclass(frozen=True, slots=True)
class VoicePage:
    """One page of a search. total: voices found on all pages together."""

    voices: tuple[Voice, ...]
    total: int
    next_page_token: str | None


def search_voices(voices: Iterable[Voice], query: VoiceQuery) -> VoicePage:
    """Return one page of the voices that the query finds.

    Without `sort` clones come first, newest first, then the premade voices in their own order.
    Raises InvalidPageSize and InvalidCursor.
    """
    if not 1 <= query.page_size <= LARGEST_PAGE:
        raise InvalidPageSize(
            f"page_size must be from 1 to {LARGEST_PAGE}, not {query.page_size}.", param="page_size"
        )
    listed = list(voices)
    # Only premade voices are numbered: clones come and go between pages.
    premade = [voice.own_id for voice in listed if voice.is_premade]
    places = {own_id: place for place, own_id in enumerate(premade)}
    # Folded once for all voices: both may be long.
    labels, words = _wanted_labels(query), set(folded(query.search or "").split())
    keyed = [
        (_sort_key(voice, places, query.sort), voice)
        for voice in listed
        if _matches(voice, query, labels, words)
    ]
    descending = query.sort_direction == "desc" and query.sort in _SORT_KEYS
    keyed.sort(key=lambda pair: pair[0], reverse=descending)
    start = 0
    if query.next_page_token:
        last = _read_token(query.next_page_token, _order(query))
        try:
            start = sum(key >= last if descending else key <= last for key, _ in keyed)
        except TypeError:
            raise _bad_token(query.next_page_token) from None
    page = keyed[start : start + query.page_size]
    more = start + len(page) < len(keyed)
    return VoicePage(
        voices=tuple(voice for _, voice in page),
        total=len(keyed),
        next_page_token=_token(page[-1][0], _order(query)) if more else None,
    )


SortKey = list[int | str]


def _sort_key(voice: Voice, places: Mapping[str, int], sort: str | None) -> SortKey:
    """Return a key no two voices share, so that a page can begin behind a deleted voice."""
    if sort == "name":
        return [folded(voice.name), voice.own_id]
    if sort == "created_at_unix":
        return [voice.created_at or 0, voice.own_id]
    if voice.is_premade:
        return [1, places[voice.own_id], voice.own_id]
    return [0, -(voice.created_at or 0), voice.own_id]


def _wanted_labels(query: VoiceQuery) -> dict[str, set[str]]:
    """Return which values each label may have; those that may have any are left out."""
    asked: tuple[tuple[str, Iterable[str | None]], ...] = (
        ("gender", [query.gender]),
        ("age", [query.age]),
        ("accent", [query.accent]),
        ("language", query.languages),
        ("use_case", query.use_cases),
    )
    wanted = {name: {folded(value) for value in values if value} for name, values in asked}
    return {name: values for name, values in wanted.items() if values}


def _matches(
    voice: Voice, query: VoiceQuery, labels: Mapping[str, set[str]], words: set[str]
) -> bool:
    return (
        _is_of_type(voice, query.voice_type)
        and (not query.category or voice.category == query.category)
        # No voice here is fine-tuned, in a collection, shared or of the library.
        and not query.fine_tuning_state
        and not query.collection_id
        and not query.min_notice_period_days
        and not query.high_quality
        and (not query.voice_ids or bool({voice.own_id, voice.voice_id} & set(query.voice_ids)))
        and all(folded(voice.labels.get(name, "")) in values for name, values in labels.items())
        and _contains(voice, words)
    )


def _is_of_type(voice: Voice, voice_type: str | None) -> bool:
    if not voice_type:
        return True
    if voice_type == "default":
        return voice.is_premade
    return voice_type in _OWN_TYPES and not voice.is_premade


def _contains(voice: Voice, words: set[str]) -> bool:
    if not words:
        return True
    texts = [voice.name, voice.description or "", voice.category, *voice.labels.values()]
    text = folded("\n".join(texts))
    return all(word in text for word in words)


def _order(query: VoiceQuery) -> str:
    """Return what tells one order of voices from another."""
    if query.sort not in _SORT_KEYS:
        return ""
    return f"{query.sort} {'desc' if query.sort_direction == 'desc' else 'asc'}"


def _token(key: SortKey, order: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, *key]).encode()).decode().rstrip("=")


def _read_token(token: str, order: str) -> SortKey:
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        held = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, list) or len(held) < 3 or held[0] != order:
        raise _bad_token(token)
    if not all(isinstance(part, int | str) for part in held):
        raise _bad_token(token)
    return held[1:]


def _bad_token(token: str) -> InvalidCursor:
    return InvalidCursor(
        f"next_page_token {token[:40]!r} was not given out for this order of voices.",
        param="next_page_token",
    )
