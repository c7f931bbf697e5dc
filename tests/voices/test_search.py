import base64
from contextlib import suppress
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from menura.errors import InvalidCursor, InvalidPageSize
from menura.storage.text import folded
from menura.voices.premade import premade_voices
from menura.voices.search import VoiceQuery, search_voices
from menura.voices.voice import Voice


def clone(number: int, name: str = "", **labels: str) -> Voice:
    return Voice(
        voice_id=f"clone{number}",
        own_id=f"clone{number}",
        name=name or f"Clone {number}",
        category="cloned",
        description="Recorded at home" if number % 2 else None,
        labels=labels,
        samples=(),
        created_at=1_000 + number,
    )


PREMADE = [premade.voice for premade in premade_voices().values()]
CLONES = [clone(number) for number in range(7)]
VOICES = [*reversed(CLONES), *PREMADE]


def ids(query: VoiceQuery, voices: list[Voice] | None = None) -> list[str]:
    page = search_voices(VOICES if voices is None else voices, query)
    return [voice.voice_id for voice in page.voices]


@given(
    page_size=st.integers(1, 100),
    sort=st.sampled_from([None, "name", "created_at_unix", "nonsense"]),
    direction=st.sampled_from([None, "asc", "desc"]),
    voice_type=st.sampled_from([None, "personal", "default"]),
)
def test_pages_together_are_the_whole(
    page_size: int, sort: str | None, direction: str | None, voice_type: str | None
) -> None:
    found: list[str] = []
    token = None
    while True:
        page = search_voices(
            VOICES,
            VoiceQuery(
                page_size=page_size,
                next_page_token=token,
                sort=sort,
                sort_direction=direction,
                voice_type=voice_type,
            ),
        )
        found += [voice.voice_id for voice in page.voices]
        token = page.next_page_token
        if token is None:
            break
    expected = {None: VOICES, "personal": CLONES, "default": PREMADE}[voice_type]
    assert sorted(found) == sorted(voice.voice_id for voice in expected)
    assert page.total == len(expected)


def test_clones_come_first_and_newest_first() -> None:
    found = ids(VoiceQuery(page_size=100))
    assert found[:7] == [f"clone{number}" for number in range(6, -1, -1)]
    assert found[7:] == [voice.voice_id for voice in PREMADE]


def test_sorting_by_name_and_time() -> None:
    voices = [clone(1, "beta"), clone(2, "Alpha"), clone(3, "gamma")]
    assert ids(VoiceQuery(sort="name"), voices) == ["clone2", "clone1", "clone3"]
    descending = VoiceQuery(sort="created_at_unix", sort_direction="desc")
    assert ids(descending, voices) == ["clone3", "clone2", "clone1"]


@pytest.mark.parametrize("sort", [None, "name", "created_at_unix"])
def test_a_voice_deleted_between_pages_neither_repeats_nor_hides_another(sort: str | None) -> None:
    first = search_voices(VOICES, VoiceQuery(page_size=3, sort=sort))
    left = [voice for voice in VOICES if voice not in first.voices]
    rest = ids(VoiceQuery(page_size=100, sort=sort, next_page_token=first.next_page_token), left)
    assert sorted(rest) == sorted(voice.voice_id for voice in left)


@pytest.mark.parametrize("voice_type", [None, "default"])
@pytest.mark.parametrize("sort", [None, "name", "created_at_unix"])
def test_clones_made_or_deleted_between_pages_hide_and_repeat_no_premade_voice(
    sort: str | None, voice_type: str | None
) -> None:
    def query(token: str | None) -> VoiceQuery:
        return VoiceQuery(page_size=9, sort=sort, voice_type=voice_type, next_page_token=token)

    for later in (PREMADE, [clone(90 + number) for number in range(4)] + VOICES):
        first = search_voices(VOICES, query(None))
        found, token = list(first.voices), first.next_page_token
        while token is not None:
            page = search_voices(later, query(token))
            found += page.voices
            token = page.next_page_token
        premade = [voice.voice_id for voice in found if voice.is_premade]
        assert sorted(premade) == sorted(voice.voice_id for voice in PREMADE)


def test_filters() -> None:
    voices = [
        clone(1, "Anna", language="de", gender="female", use_case="news", accent="Bavarian"),
        clone(2, "Ben", language="en", gender="male", age="old", use_case="games"),
        clone(3, "Cleo", language="nl", gender="female"),
    ]
    assert ids(VoiceQuery(gender="Female"), voices) == ["clone3", "clone1"]
    assert ids(VoiceQuery(age="old"), voices) == ["clone2"]
    assert ids(VoiceQuery(accent="bavarian"), voices) == ["clone1"]
    assert ids(VoiceQuery(languages=["de", "en"]), voices) == ["clone2", "clone1"]
    assert ids(VoiceQuery(use_cases=["games"]), voices) == ["clone2"]
    assert ids(VoiceQuery(voice_ids=["clone3", "none"]), voices) == ["clone3"]
    assert ids(VoiceQuery(search="home NEWS"), voices) == ["clone1"]
    assert ids(VoiceQuery(search="clon"), voices) == ["clone3", "clone2", "clone1"]
    assert ids(VoiceQuery(category="cloned"), voices) == ["clone3", "clone2", "clone1"]
    # An accent may be a character of its own, as in the file names of macOS.
    for name, label, search in (
        ("Z\u00c9", "b\u00e9", "ze\u0301"),
        ("ZE\u0301", "be\u0301", "z\u00e9"),
    ):
        accented = [clone(4, name, accent=label), *voices]
        assert ids(VoiceQuery(search=search), accented) == ["clone4"]
        assert ids(VoiceQuery(accent=normalize("NFC", label)), accented) == ["clone4"]
        assert ids(VoiceQuery(accent=normalize("NFD", label)), accented) == ["clone4"]
    for nothing in (
        VoiceQuery(category="famous"),
        VoiceQuery(voice_type="community"),
        VoiceQuery(voice_type="nonsense"),
        VoiceQuery(fine_tuning_state="fine_tuned"),
        VoiceQuery(collection_id="c"),
        VoiceQuery(high_quality=True),
    ):
        assert ids(nothing, voices) == []


@pytest.mark.parametrize("page_size", [0, -1, 101])
def test_page_size_out_of_range(page_size: int) -> None:
    with pytest.raises(InvalidPageSize) as refused:
        search_voices(VOICES, VoiceQuery(page_size=page_size))
    assert refused.value.param == "page_size"


@pytest.mark.parametrize("sort", [None, "name", "created_at_unix"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_token_is_for_the_order_it_was_given_for(sort: str | None, direction: str) -> None:
    first = search_voices(VOICES, VoiceQuery(page_size=1, sort=sort, sort_direction=direction))
    for other in ("name", "created_at_unix", None):
        for way in ("asc", "desc"):
            query = VoiceQuery(
                next_page_token=first.next_page_token, sort=other, sort_direction=way
            )
            if other == sort and (way == direction or sort is None):
                search_voices(VOICES, query)
            else:
                with pytest.raises(InvalidCursor):
                    search_voices(VOICES, query)


@pytest.mark.parametrize("held", ["[]", "[NaN]", '[""]', '["", null, 1]', '["", [1], "a"]'])
def test_a_token_of_another_make_is_refused(held: str) -> None:
    token = base64.urlsafe_b64encode(held.encode()).decode().rstrip("=")
    with pytest.raises(InvalidCursor):
        search_voices(VOICES, VoiceQuery(next_page_token=token))


@given(st.text(min_size=1) | st.sampled_from(["W10", "WyJhIl0", "WzFd", "W1tdXQ", "e30", "bnVsbA"]))
def test_any_token_gives_a_page_or_a_refusal(token: str) -> None:
    with suppress(InvalidCursor):
        search_voices(VOICES, VoiceQuery(next_page_token=token))


def test_a_long_query_costs_the_same_for_many_voices_as_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def counted(text: str) -> str:
        read.append(text)
        return folded(text)

    monkeypatch.setattr("menura.voices.search.folded", counted)
    languages = [f"language {number}" for number in range(1000)]
    assert ids(VoiceQuery(search="b " * 1000, languages=languages)) == []
    assert len(read) < 2000
