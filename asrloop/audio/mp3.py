"""MP3 and MP2: counts the frames, because a decoder trusts the Xing header, or guesses the length from the first frames.

Where that header is missing, or counts other frames than are there, the decoder gets one that is made here. Tags and other bytes
between frames are left out, and a last frame that is cut.

Sources: ISO 11172-3, ISO 13818-3, the Xing and LAME header as mpg123 reads it.
"""

import re
import struct
from typing import NamedTuple

from asrloop.audio.bitstream import CHECK_EVERY, Bitstream, Check, check_streams, claims_of, pieces_of
from asrloop.audio.pcm import check_duration
from asrloop.errors import InvalidAudio

_KBPS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS_LAYER_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2-\xf5\xfa-\xfd][\x10-\xeb]", re.DOTALL)
_FREE_FORMAT = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x00-\x0b]", re.DOTALL)
_MOST_TRIED = 100_000
"""Places that look like the start of a frame and are none, in all of a file: in other data one byte in 5,000 is."""
_SEARCHED, _ENOUGH = 8192, 3
"""A file that begins within a frame has this many frames in a row within its first bytes: fewer may be chance."""


class _Kind(NamedTuple):
    """Properties that must stay the same within one bitstream."""

    version: int
    rate: int
    is_mono: bool
    layer_2_kbps: int = 0
    """Bit rate of layer 2, which has no Xing header: where it changes, the decoder's guess of the length is wrong. 0 for MP3."""

    @property
    def samples(self) -> int:
        """Samples per channel of one frame."""
        return 1152 if self.version == 3 or self.layer_2_kbps else 576

    @property
    def tag(self) -> int:
        """Offset of the Xing header in a frame, in bytes: behind the side information."""
        return 4 + (17 if self.is_mono else 32) if self.version == 3 else 4 + (9 if self.is_mono else 17)


class _Run:
    """Successive frames of one kind and one file, which make one bitstream."""

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


def is_part(content: memoryview) -> bool:
    """Return True when ``content`` is a later part of an MP3, which begins anywhere within a frame."""
    return any(_frames_from(content, found.start()) == _ENOUGH for found in _SYNC.finditer(content[:_SEARCHED]))


def _frames_from(content: memoryview, position: int) -> int:
    """Count successive frames of one kind from ``position`` on, up to _ENOUGH."""
    kind = None
    for count in range(_ENOUGH):
        parsed = _parse(content, position)
        if parsed is None or parsed[0] != (kind or parsed[0]):
            return count
        kind, position = parsed[0], position + parsed[1]
    return _ENOUGH


def bitstreams(content: memoryview, max_seconds: float, check: Check) -> list[Bitstream]:
    """Return a bitstream for each run of frames of one kind. Raises TooLong, and InvalidAudio for too many runs."""
    runs: list[_Run] = []
    position = walked = 0
    seconds = 0.0
    left = _MOST_TRIED
    while position >= 0:
        parsed = _parse(content, position)
        if parsed is None:
            position, left = _resync(content, position, left, check)
            continue
        kind, size = parsed
        if position + size > len(content):
            break
        # Each of joined files has its own Xing header, with the silence that its encoder added.
        if not runs or runs[-1].kind != kind or _xing_frames(content[position : position + size], kind) is not None:
            runs.append(_Run(kind))
            check_streams(len(runs), len(content))
        runs[-1].add(position, size)
        position += size
        walked += 1
        seconds += kind.samples / kind.rate
        if walked % CHECK_EVERY == 0:
            check()
            check_duration(seconds, max_seconds)
    return [_stream(content, run) for run in runs]


def _parse(content: memoryview, position: int) -> tuple[_Kind, int] | None:
    """Return the kind and the bytes of the frame at ``position``; None when there is none."""
    header = content[position : position + 4]
    if len(header) < 4 or not _SYNC.match(header) or header[2] & 0x0C == 0x0C:
        return None
    version, is_layer_2 = header[1] >> 3 & 3, header[1] >> 1 & 3 == 2
    kbps = (_KBPS_2 if version != 3 else _KBPS_LAYER_2 if is_layer_2 else _KBPS_1)[header[2] >> 4]
    kind = _Kind(version, _RATES[version][header[2] >> 2 & 3], header[3] >> 6 == 3, kbps if is_layer_2 else 0)
    return kind, kind.samples * kbps * 125 // kind.rate + (header[2] >> 1 & 1)


def _is_frame(content: memoryview, position: int) -> bool:
    """Return True for a frame with another one or the end behind it. A header alone proves nothing: any data may have its bytes."""
    parsed = _parse(content, position)
    if parsed is None:
        return False
    behind = position + parsed[1]
    return len(content) - 4 < behind <= len(content) or _parse(content, behind) is not None


def _resync(content: memoryview, position: int, left: int, check: Check) -> tuple[int, int]:
    """Find the next frame behind other bytes, such as a tag in the middle; -1 when there is none.

    ``left`` is how many places may be tried; also returns how many are left. Raises InvalidAudio when they are used up.
    """
    for found in _SYNC.finditer(content, position):
        if _is_frame(content, found.start()):
            return found.start(), left
        left -= 1
        if left % CHECK_EVERY == 0:
            check()
        if left <= 0:
            raise InvalidAudio(
                f"AUDIO is an MP3 with over {_MOST_TRIED} places that look like frames and are none; encode it again"
            )
    return -1, left


def _stream(content: memoryview, run: _Run) -> Bitstream:
    kind, first = run.kind, run.ranges[0]
    counted = _xing_frames(content[first[0] : first[1]], kind)
    slack = 3 * kind.samples
    pieces = pieces_of(content, run.ranges)
    frames = run.frames
    parsed = _parse(content, first[0])
    behind = parsed[1] if parsed else 0
    if kind.layer_2_kbps:
        silent = _unpadded_frame(content[first[0] : first[0] + 4], kind)
        return Bitstream([silent, *pieces], (1 + frames) * kind.samples, slack)
    if counted is not None:
        frames -= 1  # the header's own frame holds no sound
        if counted - 1 <= frames <= counted + 1:
            # Its header is right, and knows the silence that the encoder put before and behind the sound.
            sized = _sized(pieces[0][:behind], kind, sum(map(len, pieces)))
            return Bitstream([sized, pieces[0][behind:], *pieces[1:]], slack=slack)
        pieces[0] = pieces[0][behind:]
    header = _xing_frame(content[first[0] : first[0] + 4], kind, frames)
    return Bitstream([header, *pieces], frames * kind.samples, slack, claims_of(counted or 0, frames))


def _unpadded_frame(like: memoryview, kind: _Kind) -> memoryview:
    """Make a silent frame without padding of the kind of ``like``: by the first one's size the decoder guesses the length, and
    behind a padded one it would stop too early."""
    head = bytes([0xFF, like[1] | 1, like[2] & 0xFD, like[3]])
    return memoryview(head.ljust(kind.samples * kind.layer_2_kbps * 125 // kind.rate, b"\0"))


def _xing_frames(frame: memoryview, kind: _Kind) -> int | None:
    """Return the number of frames that the Xing header in the first frame says; None without one."""
    if bytes(frame[kind.tag : kind.tag + 4]) not in (b"Xing", b"Info") or len(frame) < kind.tag + 12:
        return None
    flags, count = struct.unpack_from(">II", frame, kind.tag + 4)
    return int(count) if flags & 1 and count else None


def _sized(frame: memoryview, kind: _Kind, size: int) -> memoryview:
    """Return the frame of a Xing header with the true ``size`` of its stream in bytes: libmpg123 writes to the server's log of each
    that says another."""
    (flags,) = struct.unpack_from(">I", frame, kind.tag + 4)
    place = kind.tag + 8 + 4 * (flags & 1)
    if not flags & 2 or len(frame) < place + 4:
        return frame
    return memoryview(bytes(frame[:place]) + struct.pack(">I", size) + bytes(frame[place + 4 :]))


def _xing_frame(like: memoryview, kind: _Kind, frames: int) -> memoryview:
    """Make a silent frame of the kind of ``like`` with a Xing header that says ``frames``."""
    # 64 kbit/s, no check sum, no padding: long enough for the header at every rate.
    bit_rate = 5 if kind.version == 3 else 8
    head = bytes([0xFF, like[1] | 1, bit_rate << 4 | like[2] & 0x0C, like[3]])
    frame = head + bytes(kind.tag - 4) + struct.pack(">4sII", b"Xing", 1, frames)
    return memoryview(frame.ljust(kind.samples * 64 * 125 // kind.rate, b"\0"))
