"""What is accepted of the words that come with a voice."""

import pytest

from menura.errors import InvalidParameters
from menura.voices.card import clean_file_name, parse_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [("", None), ("null", None), (" ", None), ("{}", {}), ('{"age": "old"}', {"age": "old"})],
)
def test_labels(text: str, labels: dict[str, str] | None) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["[]", "x", '"x"', "3", '{"age": 3}', '{"age": null}', "{" * 9999])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameters) as refused:
        parse_labels(text)
    assert refused.value.param == "labels"


@pytest.mark.parametrize(
    ("claimed", "kept"),
    [
        ("me.wav", "me.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\voice one.mp3", "voice one.mp3"),
        ('a"b\r\nc.wav', "a_b__c.wav"),
        ("日本語.wav", "日本語.wav"),
        ("..", ""),
        (None, ""),
        ("x" * 300, "x" * 120),
        ("x" * 300 + ".flac", "x" * 115 + ".flac"),
        ("हिन्दी आवाज़.wav", "हिन्दी आवाज़.wav"),
        ("Zoe\u0308 take [1]! \N{BIRD}.wav", "Zo\u00eb take [1]! \N{BIRD}.wav"),
        ("left\u202eright.wav", "left_right.wav"),
    ],
)
def test_file_names_are_made_harmless(claimed: str | None, kept: str) -> None:
    assert clean_file_name(claimed) == kept
