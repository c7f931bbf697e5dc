from menura.audio.formats import DEFAULT_FORMAT, FORMATS, STREAM_FORMATS, find_format


def test_the_contract_has_28_formats_and_21_of_them_stream() -> None:
    assert len({f.name for f in FORMATS}) == len(FORMATS) == 28
    assert len(STREAM_FORMATS) == 21
    assert {f.codec for f in set(FORMATS) - set(STREAM_FORMATS)} == {"wav"}


def test_names_say_what_the_formats_are() -> None:
    for f in FORMATS:
        codec, rate, *kbits = f.name.split("_")
        assert (f.codec, f.sample_rate) == (codec, int(rate))
        if kbits:
            assert f.bit_rate == int(kbits[0]) * 1000


def test_media_types_are_the_contracts() -> None:
    found = {f.codec: f.media_type for f in FORMATS}
    assert found == {
        "mp3": "audio/mpeg",
        "pcm": "audio/pcm",
        "ulaw": "audio/basic",
        "alaw": "audio/x-alaw-basic",
        "opus": "audio/ogg",
        "wav": "audio/wav",
    }


def test_formats_are_found_by_their_exact_name() -> None:
    assert find_format("pcm_16000") is not None
    assert find_format(DEFAULT_FORMAT) is not None
    for wrong in ("", "PCM_16000", "mp3", "mp3_44100_320", "pcm_16000 "):
        assert find_format(wrong) is None
