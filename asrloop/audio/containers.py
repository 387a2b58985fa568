"""Names what the first bytes of a file say it is, where it is nothing that is decoded here."""

import re

from asrloop.errors import InvalidAudio

ACCEPTED = "WAV, FLAC, OGG, MP3, MP2, AIFF, AU, CAF or W64"
"""Files that are decoded."""

SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".mpga", ".oga", ".ogg", ".opus", ".snd", ".w64", ".wav",
    ".wave",
)  # fmt: skip
"""Endings of their names. The client, a package of its own, has the same list."""

_SEEN = (
    (re.compile(rb"\x1a\x45\xdf\xa3.{0,64}?webm", re.DOTALL), "WebM", "webm"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "Matroska", "mkv"),
    (re.compile(rb".{4}ftyp(M4A|M4B)", re.DOTALL), "M4A (MP4)", "m4a"),
    (re.compile(rb".{4}ftypqt", re.DOTALL), "QuickTime (MOV)", "mov"),
    (re.compile(rb".{4}ftyp3g", re.DOTALL), "3GP", "3gp"),
    (re.compile(rb".{4}(ftyp|moov|mdat|moof|styp)", re.DOTALL), "MP4", "mp4"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", re.DOTALL), "AAC", "aac"),
    (re.compile(rb"#!AMR"), "AMR", "amr"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), "WMA (ASF)", "wma"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "AVI", "avi"),
    (re.compile(rb"\x0b\x77"), "AC-3", "ac3"),
    (re.compile(rb"wvpk"), "WavPack", "wv"),
    (re.compile(rb"MAC "), "Monkey's Audio", "ape"),
    (re.compile(rb"FLV\x01"), "FLV", "flv"),
)


def not_decoded(seen: str, suffix: str) -> InvalidAudio:
    """Make the error for a container, or a codec in it, that is not decoded here."""
    return InvalidAudio(
        f"AUDIO is {seen}, which is not decoded here: send {ACCEPTED}, "
        f"such as the WAV that this makes: ffmpeg -i in.{suffix} -ac 1 -ar 16000 out.wav"
    )


def refused(content: memoryview) -> InvalidAudio | None:
    """Return the error that names the container of ``content``; None where its first bytes are those of none."""
    head = bytes(content[:128])
    return next((not_decoded(name, suffix) for magic, name, suffix in _SEEN if magic.match(head)), None)
