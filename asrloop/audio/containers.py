"""Names the kinds of files: those that are decoded, and what the first bytes of a file say where it is nothing of that."""

import re
from collections.abc import Collection
from typing import NamedTuple

from asrloop.errors import InvalidAudio
from asrloop.formats import FORMATS, Format

_NAMES: dict[Format, tuple[str, ...]] = {
    "wav": ("WAV", "W64"),
    "flac": ("FLAC",),
    "ogg": ("OGG",),
    "mp3": ("MP3", "MP2"),
    "aiff": ("AIFF",),
    "au": ("AU",),
    "caf": ("CAF",),
    "webm": ("WebM", "Matroska"),
    "mp4": ("MP4", "M4A", "MOV", "3GP"),
    "aac": ("AAC",),
    "amr": ("AMR",),
    "wma": ("WMA",),
    "avi": ("AVI",),
    "flv": ("FLV",),
}

SUFFIXES = (
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
    ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpga", ".oga", ".ogg", ".opus", ".snd", ".w64", ".wav", ".wave", ".webm", ".wma",
)  # fmt: skip
"""Endings of their names. The client, a package of its own, has the same list."""


class Container(NamedTuple):
    """A container that FFmpeg reads, or nobody here."""

    name: str
    suffix: str
    format: Format | None = None
    demuxer: str = ""
    """FFmpeg's name of what takes it apart."""

    @property
    def as_wav(self) -> str:
        """Say what to send in its place."""
        return f"send the WAV that this makes: ffmpeg -i in.{self.suffix} -ac 1 -ar 16000 out.wav"


CAF = Container("CAF", "caf", "caf", "caf")

_SEEN = (
    (re.compile(rb"\x1a\x45\xdf\xa3.{0,64}?webm", re.DOTALL), Container("WebM", "webm", "webm", "matroska")),
    (re.compile(rb"\x1a\x45\xdf\xa3"), Container("Matroska", "mkv", "webm", "matroska")),
    (re.compile(rb".{4}ftyp(M4A|M4B)", re.DOTALL), Container("M4A (MP4)", "m4a", "mp4", "mov")),
    (re.compile(rb".{4}ftypqt", re.DOTALL), Container("QuickTime (MOV)", "mov", "mp4", "mov")),
    (re.compile(rb".{4}ftyp3g", re.DOTALL), Container("3GP", "3gp", "mp4", "mov")),
    (re.compile(rb".{4}(ftyp|moov|mdat|moof|styp)", re.DOTALL), Container("MP4", "mp4", "mp4", "mov")),
    (re.compile(rb".{4}(wide|free|skip).{4}", re.DOTALL), Container("QuickTime (MOV)", "mov", "mp4", "mov")),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]", re.DOTALL), Container("AAC", "aac", "aac", "aac")),
    (re.compile(rb"ADIF"), Container("AAC without frames (ADIF)", "aac")),
    (re.compile(rb"#!AMR"), Container("AMR", "amr", "amr", "amr")),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), Container("WMA (ASF)", "wma", "wma", "asf")),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), Container("AVI", "avi", "avi", "avi")),
    (re.compile(rb"FLV\x01"), Container("FLV", "flv", "flv", "flv")),
    (re.compile(rb"\x0b\x77"), Container("AC-3", "ac3")),
    (re.compile(rb"wvpk"), Container("WavPack", "wv")),
    (re.compile(rb"MAC "), Container("Monkey's Audio", "ape")),
)


def accepted(formats: Collection[Format] = FORMATS) -> str:
    """Return the names of what ``formats`` allows, the one that most people know of each first."""
    allowed = [_NAMES[each] for each in FORMATS if each in formats]
    names = [names[0] for names in allowed] + [name for names in allowed for name in names[1:]]
    first, comma, last = ", ".join(names).rpartition(", ")
    return f"{first} or {last}" if comma else last


ACCEPTED = accepted()
"""Files that are decoded where nothing is left out."""


def not_decoded(seen: str, suffix: str, formats: Collection[Format] = FORMATS) -> InvalidAudio:
    """Make the error for a container, or a codec in it, that is not decoded here."""
    return InvalidAudio(
        f"AUDIO is {seen}, which is not decoded here: send {accepted(formats)}, "
        f"such as the WAV that this makes: ffmpeg -i in.{suffix} -ac 1 -ar 16000 out.wav"
    )


def check_format(format_: Format, formats: Collection[Format], name: str = "") -> None:
    """Raise InvalidAudio for a file that ``audio.formats`` leaves out."""
    if format_ not in formats:
        seen = name or " or ".join(_NAMES[format_])
        raise InvalidAudio(
            f"AUDIO is {seen}, which this server does not take (audio.formats): send {accepted(formats)}"
        )


def container_of(content: memoryview) -> Container | None:
    """Return the container that the first bytes of ``content`` name; None where they are those of none."""
    head = bytes(content[:128])
    return next((container for magic, container in _SEEN if magic.match(head)), None)
