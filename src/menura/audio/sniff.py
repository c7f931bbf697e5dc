"""What a file is, by its bytes: names and media types of uploads are not to be trusted.

Only the demuxer named here is ever opened, so that no upload can reach one that reads playlists,
other files or the network.
"""

from dataclasses import dataclass

from menura.audio.mpeg import adts_frame_size, mpeg_audio_frame_size
from menura.errors import shown


@dataclass(frozen=True, slots=True)
class Kind:
    """A recognised kind of file.

    label: for a sentence, with its article ("an MP3 file").
    demuxer: FFmpeg's name; None when the kind holds no audio that can be read.
    """

    label: str
    demuxer: str | None


WAV = Kind("a WAV file", "wav")
MP4 = Kind("an MP4 or QuickTime file", "mov")
MPEG_AUDIO = Kind("an MP3 file", "mp3")
ADTS = Kind("an AAC file", "aac")
WINDOWS_MEDIA = Kind("a Windows Media file", "asf")

HEAD_SIZE = 4096
"""Bytes from the start in which nearly every file shows its kind."""

HEAD_SIZES = (1024, 2048, HEAD_SIZE, 65_536)
"""How many bytes to look at, more and more until they are enough: MP3 may begin with junk."""

_MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"OggS", Kind("an Ogg file", "ogg")),
    (0, b"fLaC", Kind("a FLAC file", "flac")),
    (0, b"\x1a\x45\xdf\xa3", Kind("a WebM or Matroska file", "matroska")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", WINDOWS_MEDIA),
    (0, b"#!AMR", Kind("an AMR file", "amr")),
    (0, b"FLV\x01", Kind("an FLV file", "flv")),
    (0, b"RIFX", Kind("a big-endian WAV file", "wav")),
    (0, b"riff\x2e\x91\xcf\x11", Kind("a Wave64 file", "w64")),
    (0, b"caff", Kind("a Core Audio file", "caf")),
    (0, b".snd", Kind("an AU file", "au")),
    (0, b"wvpk", Kind("a WavPack file", "wv")),
    (0, b"TTA1", Kind("a TTA file", "tta")),
    (0, b"MAC ", Kind("a Monkey's Audio file", "ape")),
    (0, b"MPCK", Kind("a Musepack file", "mpc8")),
    (0, b"MP+", Kind("a Musepack file", "mpc")),
    (0, b".RMF", Kind("a RealMedia file", "rm")),
    (0, b"Creative Voice File\x1a", Kind("a Creative Voice file", "voc")),
    (0, b"NIST_1A", Kind("a NIST SPHERE file", "nistsphere")),
    (0, b"\x00\x00\x01\xba", Kind("an MPEG program stream", "mpeg")),
    (0, b"\x0b\x77", Kind("an AC-3 file", "ac3")),
    (0, b"\x7f\xfe\x80\x01", Kind("a DTS file", "dts")),
    (0, b"\x00\x00\x01\xb3", Kind("an MPEG video stream without sound", None)),
    (0, b"ADIF", Kind("an AAC file of the ADIF kind", None)),
    (0, b"MThd", Kind("a MIDI file, which holds notes and no sound", None)),
    (0, b"DSD ", Kind("a DSD file", None)),
    (0, b"\x89PNG", Kind("a PNG image", None)),
    (0, b"\xff\xd8\xff", Kind("a JPEG image", None)),
    (0, b"GIF8", Kind("a GIF image", None)),
    (0, b"II*\x00", Kind("a TIFF image", None)),
    (0, b"MM\x00*", Kind("a TIFF image", None)),
    (0, b"%PDF", Kind("a PDF document", None)),
    (0, b"%!PS", Kind("a PostScript document", None)),
    (0, b"{\\rtf", Kind("an RTF document", None)),
    (0, b"PK\x03\x04", Kind("a ZIP archive or an Office document", None)),
    (0, b"PK\x05\x06", Kind("an empty ZIP archive", None)),
    (0, b"\x1f\x8b", Kind("a gzip archive", None)),
    (0, b"BZh", Kind("a bzip2 archive", None)),
    (0, b"\xfd7zXZ", Kind("an xz archive", None)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip archive", None)),
    (0, b"Rar!", Kind("a RAR archive", None)),
    (0, b"\x28\xb5\x2f\xfd", Kind("a Zstandard archive", None)),
    (257, b"ustar", Kind("a TAR archive", None)),
    (0, b"\x7fELF", Kind("a program", None)),
    (0, b"MZ", Kind("a program", None)),
    (0, b"\xca\xfe\xba\xbe", Kind("a program", None)),
    (0, b"\xd0\xcf\x11\xe0", Kind("an Office document", None)),
    (0, b"SQLite format 3", Kind("a SQLite database", None)),
    (0, b"Salted__", Kind("an encrypted file", None)),
    (0, b"age-encryption.org", Kind("an encrypted file", None)),
    (0, b"-----BEGIN PGP", Kind("an encrypted file", None)),
    (0, b"BM", Kind("a BMP image", None)),
)

_RIFF_FORMS: dict[bytes, Kind] = {
    b"WAVE": WAV,
    b"AVI ": Kind("an AVI file", "avi"),
    b"WEBP": Kind("a WebP image", None),
    b"RMID": Kind("a MIDI file, which holds notes and no sound", None),
    b"ACON": Kind("an animated cursor", None),
}

_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heif", b"mif1", b"msf1")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")


def id3_size(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag that `head` begins with, 0 for none."""
    if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:10]):
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def sniff(head: bytes) -> Kind | None:
    """Return what a file that begins with `head` is, None when that is unknown."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _RIFF_FORMS.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Kind("an AIFF file", "aiff")
    if head[4:8] in _MP4_BOXES and (head[4:8] == b"mdat" or head[0] < 16):
        if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
            return Kind("a HEIF or AVIF image", None)
        return MP4
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset):
            return kind
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return Kind("an MPEG transport stream", "mpegts")
    if len(head) > 388 and head[4] == head[196] == head[388] == 0x47:
        return Kind("an MPEG transport stream", "mpegts")
    if head[:1] == b"\x56" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return Kind("an AAC file in LOAS", "loas")
    if _is_utf16(head):
        return Kind("text", None)
    frame = _first_frame(head)
    return frame[1] if frame else _sniff_text(head)


def is_enough(head: bytes) -> bool:
    """Whether `head` shows the kind of file and what must be known of it to read it well."""
    kind = sniff(head)
    if kind is None or kind.demuxer is None:
        return False
    if kind is MP4:
        return mp4_index_first(head) is not None
    if kind in (MPEG_AUDIO, ADTS):
        return _first_frame(head, strictly=True) is not None
    return kind is not WINDOWS_MEDIA or len(head) >= HEAD_SIZE


def mp4_index_first(head: bytes) -> bool | None:
    """Whether an MP4 file can be read in order: its index (or a fragment's) is before its data.

    None when `head` is too short to tell.
    """
    at = 0
    while at + 8 <= len(head):
        size = int.from_bytes(head[at : at + 4])
        name = head[at + 4 : at + 8]
        if name in (b"moov", b"moof", b"sidx"):
            return True
        if name == b"mdat" or size < 8:
            return False
        at += size
    return None


_ASF_ENCRYPTION_OBJECTS = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


def asf_is_encrypted(head: bytes) -> bool:
    """Whether a Windows Media file's header holds a (plain or extended) encryption object."""
    return any(guid in head for guid in _ASF_ENCRYPTION_OBJECTS)


def junk_before_frames(head: bytes) -> int:
    """Return the bytes before the first frame of a bare MPEG or AAC stream, such as an APE tag."""
    frame = _first_frame(head)
    return frame[0] if frame else 0


def _first_frame(head: bytes, strictly: bool = False) -> tuple[int, Kind] | None:
    """Find two frames in a row of a bare MPEG or AAC stream, junk before them allowed.

    strictly: one frame is not enough, even if `head` ends with it.

    Returns where they begin and what they are.
    """
    at = head.find(b"\xff")
    while at >= 0:
        for kind, size_of in ((ADTS, adts_frame_size), (MPEG_AUDIO, mpeg_audio_frame_size)):
            size = size_of(head[at : at + 8])
            following = head[at + size : at + size + 8]
            if size and (size_of(following) or (at == 0 and len(following) < 7 and not strictly)):
                return at, kind
        at = head.find(b"\xff", at + 1)
    return None


def _is_utf16(head: bytes) -> bool:
    """Whether this is text behind a byte order mark, which might pass for an MPEG frame."""
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
    return len(text) > 1 and all(char.isprintable() or char.isspace() for char in text[:500])


def _sniff_text(head: bytes) -> Kind | None:
    sample = head.decode("utf-8", "replace")
    if not sample.strip(" \t\r\n\ufffd") or any(
        ord(char) < 32 and char not in "\t\n\r\f" for char in sample
    ):
        return None
    if sample[:-1].count("\ufffd") > len(sample) // 50:
        return None
    start = sample.lstrip("\ufeff \t\r\n")[:200].lower()
    if start.startswith("#extm3u"):
        return Kind("a playlist", None)
    if start.startswith(("<!doctype html", "<html")):
        return Kind("a web page", None)
    if start.startswith("<svg") or (start.startswith("<?xml") and "<svg" in start):
        return Kind("an SVG image", None)
    if start.startswith(("{", "[")):
        return Kind("JSON text", None)
    return Kind(f"text ({shown(sample.strip())})", None)
