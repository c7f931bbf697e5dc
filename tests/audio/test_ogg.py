"""Chained Ogg: one stream after another in a file."""

import io

import numpy as np
import pytest

from menura import errors
from menura.audio.decode import open_decoder
from menura.audio.ogg import MAX_LINKS, OggLink
from menura.audio.resample import Resampler


class Trickle(io.BytesIO):
    """A source that gives at most 997 bytes at a time."""

    def read(self, size: int = -1, /) -> bytes:
        return super().read(min(size, 997) if size >= 0 else 997)


def read(data: bytes) -> tuple[np.ndarray, int]:
    decoder = open_decoder(Trickle(data))
    blocks = []
    while (block := decoder.read()).size:
        blocks.append(block)
    decoder.close()
    return np.concatenate(blocks), decoder.sample_rate


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
def test_every_link_is_heard(sounds, codec: str, links: list[tuple[int, int]]) -> None:
    first = links[0][0]
    data, meant = b"", []
    for rate, channels in links:
        samples = sounds.sweep(rate, rate)
        data += sounds.file(sounds.recipe("ogg", codec, rate, channels), samples)
        meant.append(resampled(samples, rate, first))
    heard, rate = read(data)
    assert rate == first
    padding = 128 if codec == "vorbis" else 0
    assert 0 <= heard.size - first * len(links) <= padding * len(links)
    for place, samples in enumerate(meant):
        at = place * heard.size // len(links)
        link = heard[at : at + first]
        assert abs(sounds.lag(link, samples)) <= padding
        assert sounds.signal_to_noise(link[2000:-2000], samples[2000:-2000]) > 15


def test_a_damaged_link_costs_no_other(sounds) -> None:
    samples = sounds.sweep(4 * 48000, 48000)
    mono = sounds.file(sounds.recipe("ogg", "libopus", 48000, 1), samples)
    stereo = sounds.file(sounds.recipe("ogg", "libopus", 48000, 2), samples)
    heard, _ = read(mono + stereo.replace(b"OpusHead", b"NoneHead") + stereo)
    assert heard.size == 2 * samples.size
    last_page = mono.rindex(b"OggS")
    heard, _ = read(mono[:last_page] + b"junk" * 3000 + stereo)
    assert 1.6 * samples.size < heard.size < 2 * samples.size
    heard, _ = read(mono + stereo[:500])
    assert heard.size == samples.size


def test_a_flood_of_links_is_refused(sounds) -> None:
    samples = sounds.sweep(48000, 48000)
    mono = sounds.file(sounds.recipe("ogg", "libopus", 48000, 1), samples)
    begin = mono[: mono.index(b"OggS", 4)]
    page = mono[mono.rindex(b"OggS") :]
    with pytest.raises(errors.InvalidAudio, match=f"more than {MAX_LINKS} chained streams"):
        read(mono + (begin + page) * MAX_LINKS)


def test_a_link_ends_where_the_next_begins(sounds) -> None:
    samples = sounds.sweep(48000, 48000)
    files = [sounds.file(sounds.recipe("ogg", "libopus", 48000, n), samples) for n in (1, 2)]
    for size in (1, 100, 4096):
        link = OggLink(Trickle(b"".join(files)))
        for place, data in enumerate(files):
            parts = []
            while part := link.read(size):
                assert len(part) <= size
                parts.append(part)
            assert b"".join(parts) == data
            assert link.tell() == sum(map(len, files[: place + 1]))
            assert link.go_on() is (place == 0)
