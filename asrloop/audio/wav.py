"""WAV, RF64 and Wave64: finds the samples, whatever order and sizes the chunks have. Decodes nothing.

The decoder gets a plain header that is made here: unknown sizes and chunks other than ``fmt`` never reach it. Sources: RIFF
(Multimedia Programming Interface 1.0), EBU Tech 3306 (RF64), the Wave64 specification of Sonic Foundry.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from asrloop.audio import mp3
from asrloop.audio.bitstream import MOST_CHUNKS, UNKNOWN_FROM, Bitstream, Check, claims_of, cut_short
from asrloop.errors import InvalidAudio

MP3_IN_WAV = 0x0055
_KNOWN_CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"bext", b"cue ", b"smpl", b"PEAK", b"id3 ", b"JUNK")
_W64_MAGIC = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_LONGEST_FMT = 1024


class _Chunk(NamedTuple):
    name: bytes
    start: int
    size: int
    """Bytes by the header, perhaps more than there are."""


def is_wav(content: memoryview) -> bool:
    head = bytes(content[:16])
    return (head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE") or head == _W64_MAGIC


def bitstreams(content: memoryview, max_seconds: float, check: Check) -> list[Bitstream]:
    """Return the samples that are there behind a plain header. Raises InvalidAudio where the header is cut."""
    wave64 = bytes(content[:4]) == b"riff"
    wide: int | None = None  # size of the data chunk in RF64
    form = data = None
    for chunk in islice(_wave64_chunks(content) if wave64 else _riff_chunks(content), MOST_CHUNKS):
        if chunk.name == b"ds64" and len(content) >= chunk.start + 16:
            (wide,) = struct.unpack_from("<Q", content, chunk.start + 8)
        elif chunk.name == b"fmt " and form is None:
            form = content[chunk.start : chunk.start + min(chunk.size, _LONGEST_FMT)]
        elif chunk.name == b"data" and data is None:
            data = chunk
            if wide is not None and chunk.size == 0xFFFFFFFF:
                data = chunk._replace(size=wide)
        if form is not None and data is not None:
            break
    if data is None:
        raise cut_short(f"a WAV of {len(content)} bytes", "without a data chunk")
    if form is None or len(form) < 16:
        raise InvalidAudio("AUDIO is a WAV without a fmt chunk, which holds its rate: write it again")
    available, is_wide = len(content) - data.start, wide is not None or wave64
    is_piped = data.size == 0 and not _only_chunks_follow(content, data.start)
    samples = content[data.start :] if is_piped else content[data.start : data.start + data.size]
    unknown_from = 1 << 62 if is_wide and data.size != 0xFFFFFFFF else UNKNOWN_FROM
    if struct.unpack_from("<H", form)[0] == MP3_IN_WAV:
        return mp3.bitstreams(samples, max_seconds, check)
    if len(samples) >= 0xFFFF_0000:
        raise InvalidAudio(f"AUDIO is a WAV of {len(samples)} bytes: the limit is 4 GiB; send FLAC")
    pad = len(form) % 2
    head = struct.pack("<4sI4s4sI", b"RIFF", 28 + len(form) + pad + len(samples), b"WAVE", b"fmt ", len(form))
    head += bytes(form) + bytes(pad) + struct.pack("<4sI", b"data", len(samples))
    return [Bitstream([memoryview(head), samples], claims=claims_of(data.size, available, unknown_from))]


def _only_chunks_follow(content: memoryview, position: int) -> bool:
    """Return True when only chunks follow from ``position`` on, so that a data chunk of size 0 is really empty."""
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(content):
            return position >= len(content)
        name, size = struct.unpack_from("<4sI", content, position)
        if not name.isascii() or not name.strip().isalnum() or size > len(content) - position - 8:
            return False
        position += 8 + size + size % 2
    return True  # sound does not look like so many chunks


def _riff_chunks(content: memoryview) -> Iterator[_Chunk]:
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        yield _Chunk(name, position + 8, size)
        position += 8 + size
        # Some writers forget the byte that pads an odd size.
        if size % 2 and bytes(content[position : position + 4]) not in _KNOWN_CHUNKS:
            position += 1


def _wave64_chunks(content: memoryview) -> Iterator[_Chunk]:
    position = 40
    while position + 24 <= len(content):
        name, size = struct.unpack_from("<4s12xQ", content, position)
        size = max(size, 24)
        yield _Chunk(name, position + 24, size - 24)
        position += (size + 7) // 8 * 8
