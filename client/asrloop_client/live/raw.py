"""Live audio is raw PCM: find bytes that are a file instead, which would be taken for noise."""

from __future__ import annotations

import struct

from asrloop_client.errors import InvalidAudio

_MAGICS = (
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"OggS", "Ogg"),
    (4, b"ftyp", "MP4"),
    (0, b"fLaC", "FLAC"),
    (0, b"ID3\x02", "MP3"),
    (0, b"ID3\x03", "MP3"),
    (0, b"ID3\x04", "MP3"),
    (0, b"caff\0\1", "CAF"),
    (0, b"FORM", "AIFF"),
    (0, b"#!AMR", "AMR"),
)


def check_raw(content: bytes, rate: int) -> None:
    """Raise InvalidAudio if the first bytes of live audio of `rate` Hz are those of a file that is no such PCM."""
    found = next((name for at, magic, name in _MAGICS if content[at : at + len(magic)] == magic), None)
    found = found or _other_wav(content, rate)
    if found is not None:
        raise InvalidAudio(
            f"the audio is {found} (it begins with the bytes {content[:8].hex(' ')}). Send raw 16-bit mono PCM of {rate} Hz, "
            f"such as `ffmpeg -i FILE -f s16le -ac 1 -ar {rate} -` makes; in a browser use an AudioWorklet, not a MediaRecorder"
        )


def _other_wav(content: bytes, rate: int) -> str | None:
    """Return what a WAV holds; None for what is no WAV, or has the very samples behind its header."""
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt " or len(content) < 36:
        return None
    kind, channels, own_rate, _, _, bits = struct.unpack_from("<HHIIHH", content, 20)
    if (kind in (1, 0xFFFE), channels, own_rate, bits) == (True, 1, rate, 16):
        return None
    return f"a WAV file of {own_rate} Hz, {channels} channels, {bits} bits, format {kind}"
