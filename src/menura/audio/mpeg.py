"""The headers of bare MPEG audio and AAC streams, and what an MP3 file says of its length."""

MPEG1_KBITS = {
    3: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
MPEG2_KBITS = {
    3: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    1: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of MPEG-1, and of MPEG-2 and 2.5: by the header's field for the layer, in which 3 is
layer I and 1 is layer III, and by its index."""
MPEG1_RATES = (44100, 48000, 32000)
"""Sample rates in Hz by the header's index; those of MPEG-2 are half, of MPEG-2.5 a quarter."""


def mpeg_audio_frame_size(header: bytes) -> int:
    """Return the bytes of the MPEG audio frame whose four-byte header this is, 0 for none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    index, rate_index = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 0 or index in (0, 15) or rate_index == 3:
        return 0
    mpeg1 = version == 3
    rate = MPEG1_RATES[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    kbits = (MPEG1_KBITS if mpeg1 else MPEG2_KBITS)[layer][index]
    padding = header[2] >> 1 & 1
    if layer == 3:
        return (12_000 * kbits // rate + padding) * 4
    samples = 576 if layer == 1 and not mpeg1 else 1152
    return samples // 8 * 1000 * kbits // rate + padding


def adts_frame_size(header: bytes) -> int:
    """Return the bytes of the ADTS frame (AAC) that begins with these seven bytes, 0 for none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if header[2] >> 2 & 15 < 13 and size > 7 else 0


def mp3_length(head: bytes) -> int | None:
    """Return the samples of an MP3 file without the encoder's delay and padding.

    From the Xing or Info frame with LAME's extension; None where there is none. `head` begins
    with the first frame.
    """
    if not mpeg_audio_frame_size(head):
        return None
    mpeg1, one_channel = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    side_info = (17 if one_channel else 32) if mpeg1 else (9 if one_channel else 17)
    at = 4 + side_info
    if head[at : at + 4] not in (b"Xing", b"Info"):
        return None
    flags = int.from_bytes(head[at + 4 : at + 8])
    if not flags & 1:
        return None
    frames = int.from_bytes(head[at + 8 : at + 12])
    at += 12 + (4 if flags & 2 else 0) + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    extension = head[at : at + 24]
    if len(extension) < 24 or extension[:4] not in (b"LAME", b"Lavf", b"Lavc"):
        return None
    gaps = int.from_bytes(extension[21:24])
    samples = frames * (1152 if mpeg1 else 576) - (gaps >> 12) - (gaps & 0xFFF)
    return samples if samples > 0 else None
