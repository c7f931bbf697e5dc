"""Chained Ogg: one stream after another in a file."""

import numpy as np
import pytest
from tests.audio.files import lag, make_file, signal_to_noise, sweep
from tests.audio.reading import Trickle, read

from menura import errors
from menura.audio.ogg import MAX_LINKS, OggLink
from menura.audio.resample import Resampler


def resampled(samples: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    if rate == to_rate:
        return samples
    stage = Resampler(rate, to_rate)
    return np.concatenate((stage.push(samples), stage.flush()))


@pytest.mark.parametrize(
    ("codec", "links"),
    [
        ("libopus", [(48000, 1), (48000, 2), (48000, 1)]),
        ("libopus", [(48000, 2), (48000, 2)]),
        ("vorbis", [(44100, 2), (22050, 2), (44100, 2)]),
        ("vorbis", [(44100, 2), (44100, 2), (44100, 2)]),
        ("flac", [(44100, 1), (48000, 1), (44100, 2)]),
    ],
)
def test_every_link_is_heard(codec: str, links: list[tuple[int, int]]) -> None:
    first = links[0][0]
    data, meant = b"", []
    for rate, channels in links:
        samples = sweep(rate, rate)
        data += make_file(samples, "ogg", codec, rate, channels)
        meant.append(resampled(samples, rate, first))
    heard, rate = read(Trickle(data, 997))
    assert rate == first
    padding = 128 if codec == "vorbis" else 0
    assert 0 <= heard.size - first * len(links) <= padding * len(links)
    for place, samples in enumerate(meant):
        at = place * heard.size // len(links)
        link = heard[at : at + first]
        assert abs(lag(link, samples)) <= padding
        assert signal_to_noise(link[2000:-2000], samples[2000:-2000]) > 15


def test_a_damaged_link_costs_no_other() -> None:
    samples = sweep(4 * 48000, 48000)
    mono = make_file(samples, "ogg", "libopus", 48000, 1)
    stereo = make_file(samples, "ogg", "libopus", 48000, 2)
    heard, _ = read(mono + stereo.replace(b"OpusHead", b"NoneHead") + stereo)
    assert heard.size == 2 * samples.size
    last_page = mono.rindex(b"OggS")
    heard, _ = read(mono[:last_page] + b"junk" * 3000 + stereo)
    assert 1.6 * samples.size < heard.size < 2 * samples.size
    heard, _ = read(mono + stereo[:500])
    assert heard.size == samples.size


def test_a_flood_of_links_is_refused() -> None:
    samples = sweep(48000, 48000)
    mono = make_file(samples, "ogg", "libopus", 48000, 1)
    begin = mono[: mono.index(b"OggS", 4)]
    page = mono[mono.rindex(b"OggS") :]
    with pytest.raises(errors.InvalidAudio, match=f"more than {MAX_LINKS} chained streams"):
        read(mono + (begin + page) * MAX_LINKS)


def test_a_link_ends_where_the_next_begins() -> None:
    samples = sweep(48000, 48000)
    files = [make_file(samples, "ogg", "libopus", 48000, n) for n in (1, 2)]
    for size in (1, 100, 4096):
        link = OggLink(Trickle(b"".join(files), 997))
        for place, data in enumerate(files):
            parts = []
            while part := link.read(size):
                assert len(part) <= size
                parts.append(part)
            assert b"".join(parts) == data
            assert link.tell() == sum(map(len, files[: place + 1]))
            assert link.go_on() is (place == 0)
