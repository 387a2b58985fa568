"""MP3: counts the frames, because a decoder trusts the Xing header, or guesses the length from the first frames.

Where that header is missing, or counts only the first of several joined files, the decoder gets one that is made here. Tags and
other bytes between frames are left out. Sources: ISO 11172-3, ISO 13818-3, the Xing and LAME header as mpg123 reads it.
"""

import re
import struct
from typing import NamedTuple

from asrloop.audio.bitstream import CHECK_EVERY, Bitstream, Check, cut_short
from asrloop.errors import InvalidAudio

_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xeb]", re.DOTALL)
_FREE_FORMAT = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x00-\x0b]", re.DOTALL)


class _Kind(NamedTuple):
    """Properties that must stay the same within one bitstream."""

    version: int
    rate: int
    is_mono: bool

    @property
    def samples(self) -> int:
        """Samples per channel of one frame."""
        return 1152 if self.version == 3 else 576

    @property
    def tag(self) -> int:
        """Offset of the Xing header in a frame, in bytes: behind the side information."""
        return 4 + (17 if self.is_mono else 32) if self.version == 3 else 4 + (9 if self.is_mono else 17)


class _Run:
    """Successive frames of one kind, which make one bitstream."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind
        self.frames = 0
        self.ranges: list[list[int]] = []

    def add(self, position: int, size: int) -> None:
        self.frames += 1
        if self.ranges and self.ranges[-1][1] == position:
            self.ranges[-1][1] += size
        else:
            self.ranges.append([position, position + size])


def starts_like_mp3(content: memoryview) -> bool:
    """Return True when ``content`` begins with two frames, or is one frame. Raises InvalidAudio for a free bit rate."""
    if _FREE_FORMAT.match(content):
        raise InvalidAudio("AUDIO is an MP3 of free bit rate: encode it with a bit rate that the standard names")
    return _is_frame(content, 0)


def bitstreams(content: memoryview, check: Check) -> list[Bitstream]:
    """Return a bitstream for each run of frames of one kind. Raises InvalidAudio when frames are cut or missing."""
    runs: list[_Run] = []
    position = walked = 0
    while (parsed := _parse(content, position)) or (position := _resync(content, position, check)) >= 0:
        if parsed is None:
            continue
        kind, size = parsed
        if position + size > len(content):
            raise cut_short(f"its last MP3 frame says {size} bytes", f"{len(content) - position} follow")
        if not runs or runs[-1].kind != kind:
            runs.append(_Run(kind))
        runs[-1].add(position, size)
        position += size
        walked += 1
        if walked % CHECK_EVERY == 0:
            check()
    return [_stream(content, run) for run in runs]


def _parse(content: memoryview, position: int) -> tuple[_Kind, int] | None:
    """Return the kind and the bytes of the frame at ``position``; None when there is none."""
    header = content[position : position + 4]
    if len(header) < 4 or not _SYNC.match(header) or header[2] & 0x0C == 0x0C:
        return None
    version = header[1] >> 3 & 3
    kind = _Kind(version, _RATES[version][header[2] >> 2 & 3], header[3] >> 6 == 3)
    kbps = (_KBPS_1 if version == 3 else _KBPS_2)[header[2] >> 4]
    return kind, kind.samples * kbps * 125 // kind.rate + (header[2] >> 1 & 1)


def _is_frame(content: memoryview, position: int) -> bool:
    """Return True for a frame with another one or the end behind it. A header alone proves nothing: any data may have its bytes."""
    parsed = _parse(content, position)
    if parsed is None:
        return False
    behind = position + parsed[1]
    return behind == len(content) or _parse(content, behind) is not None


def _resync(content: memoryview, position: int, check: Check) -> int:
    """Find the next frame behind other bytes, such as a tag in the middle; -1 when there is none."""
    for tried, found in enumerate(_SYNC.finditer(content, position)):
        if _is_frame(content, found.start()):
            return found.start()
        if tried % CHECK_EVERY == 0:
            check()
    return -1


def _stream(content: memoryview, run: _Run) -> Bitstream:
    kind, first = run.kind, run.ranges[0]
    counted = _xing_frames(content[first[0] : first[1]], kind)
    slack = 3 * kind.samples
    pieces = [content[start:end] for start, end in run.ranges]
    frames = run.frames
    if counted is not None:
        frames -= 1  # the header's own frame holds no sound
        if frames < counted - 1:
            raise cut_short(f"its header says {counted * kind.samples} samples", f"{frames * kind.samples} are there")
        if frames <= counted + 1:
            # Its header is right, and knows the silence that the encoder put before and behind the sound.
            return Bitstream(pieces, slack=slack)
        parsed = _parse(content, first[0])
        pieces[0] = pieces[0][parsed[1] if parsed else 0 :]
    return Bitstream(
        [_xing_frame(content[first[0] : first[0] + 4], kind, frames), *pieces], frames * kind.samples, slack
    )


def _xing_frames(frame: memoryview, kind: _Kind) -> int | None:
    """Return the number of frames that the Xing header in the first frame says; None without one."""
    if bytes(frame[kind.tag : kind.tag + 4]) not in (b"Xing", b"Info") or len(frame) < kind.tag + 12:
        return None
    flags, count = struct.unpack_from(">II", frame, kind.tag + 4)
    return int(count) if flags & 1 and count else None


def _xing_frame(like: memoryview, kind: _Kind, frames: int) -> memoryview:
    """Make a silent frame of the kind of ``like`` with a Xing header that says ``frames``."""
    # 64 kbit/s, no check sum, no padding: long enough for the header at every rate.
    bit_rate = 5 if kind.version == 3 else 8
    head = bytes([0xFF, like[1] | 1, bit_rate << 4 | like[2] & 0x0C, like[3]])
    frame = head + bytes(kind.tag - 4) + struct.pack(">4sII", b"Xing", 1, frames)
    return memoryview(frame.ljust(kind.samples * 64 * 125 // kind.rate, b"\0"))
