"""FLAC: finds how long it is where the header does not say, as in files written to a pipe. Decodes nothing.

Source: RFC 9639. The last frame's header says which samples it holds, and so how long the file is.
"""

import struct
from collections.abc import Iterator

from asrloop.audio.bitstream import CHECK_EVERY, Bitstream, Check, cut_short

MAGIC = b"fLaC"
_TOTAL = (1 << 36) - 1
_MOST_TRIED = 20_000
"""Bytes 0xff at the end that are looked at for the last frame, which has some hundred of them."""
_FIRST_FRAME = 42
"""The earliest byte at which audio can begin: behind the magic and STREAMINFO."""


def tries() -> Iterator[int]:
    """Return a number for each byte that may be looked at in one file, of however many streams."""
    return iter(range(_MOST_TRIED))


def bitstreams(content: memoryview, source: bytes, start: int, left: Iterator[int], check: Check) -> list[Bitstream]:
    """Return the bitstream; ``content`` is a view of ``source`` from ``start`` on, ``left`` are the tries that are left.

    Raises InvalidAudio where the header is cut.
    """
    if len(content) < _FIRST_FRAME or content[4] & 0x7F != 0:
        raise cut_short(f"a FLAC of {len(content)} bytes", f"its header has {_FIRST_FRAME}")
    (longest_block,) = struct.unpack_from(">H", content, 10)
    (packed,) = struct.unpack_from(">Q", content, 18)
    if packed & _TOTAL:
        return [Bitstream([content], slack=longest_block)]
    total = _samples_until_the_end(content, source, start, longest_block, left, check)
    return [Bitstream([content], total, longest_block)]


def _samples_until_the_end(
    content: memoryview, source: bytes, start: int, longest_block: int, left: Iterator[int], check: Check
) -> int:
    position = start + len(content)
    for tried in left:
        position = source.rfind(b"\xff", start + _FIRST_FRAME, position)
        if position < 0:
            break
        end = _end_of_frame(content[position - start : position - start + 16], longest_block)
        if end is not None:
            return min(end, _TOTAL)
        if tried % CHECK_EVERY == 0:
            check()
    return 0


def _end_of_frame(header: memoryview, longest_block: int) -> int | None:
    """Return the number of the first sample behind the frame with this header; None when it is no frame header."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[3] & 1 or header[3] >> 4 > 10:
        return None
    block_code, rate_code = header[2] >> 4, header[2] & 15
    number = _coded_number(header[4:])
    if number is None or block_code == 0 or rate_code == 15:
        return None
    value, position = number[0], 4 + number[1]
    extra = {6: 1, 7: 2}.get(block_code, 0)
    crc = position + extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if crc >= len(header) or _crc8(header[:crc]) != header[crc]:
        return None
    if extra:
        block = int.from_bytes(header[position : position + extra], "big") + 1
    else:
        block = 192 if block_code == 1 else 144 << block_code if block_code < 6 else 1 << block_code
    is_variable = header[1] & 1
    return (value if is_variable else value * longest_block) + block


def _coded_number(field: memoryview) -> tuple[int, int] | None:
    """Return a number that is coded as in UTF-8, in up to seven bytes, and its length in bytes; None when it is malformed."""
    first = field[0]
    if first < 0x80:
        return first, 1
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(field) < length:
        return None
    value = first & (0x7F >> length)
    for byte in field[1:length]:
        if byte & 0xC0 != 0x80:
            return None
        value = value << 6 | byte & 0x3F
    return value, length


def _crc8(header: memoryview) -> int:
    crc = 0
    for byte in header:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
