"""OGG: walks the pages to leave out damaged and cut ones, to split a chain into its streams, and to unwrap FLAC. Decodes nothing.

Sources: RFC 3533; RFC 9639 section 10.1 for FLAC. Internet radio and `cat a.ogg b.ogg` make chains; libsndfile stops after the
first stream of one, and opens no FLAC in OGG.
"""

import zlib
from collections.abc import Iterator

from asrloop.audio import flac
from asrloop.audio.bitstream import CHECK_EVERY, MOST_CHUNKS, Bitstream, Check, check_streams, cut_short, pieces_of
from asrloop.errors import InvalidAudio

MAGIC = b"OggS"
_HEADER = 27
_FIRST_PAGE = 0x02
_SHORTEST_PAGE = 0.02
"""Seconds of sound in the shortest page that encoders write: one packet of Opus."""
_MOST_WRONG = 1_000
"""Damaged pages of a file that is still read."""
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in the other order."""
_FLAC, _FLAC_HEAD = b"\x7fFLAC", 9
"""Start of the first packet of FLAC, and the bytes before the header of native FLAC in it."""


def bitstreams(content: memoryview, source: bytes, max_seconds: float, check: Check) -> list[Bitstream]:
    """Return each stream of the chain; ``content`` is a view of ``source``.

    A last page that is cut is left out but for its whole packets. Raises InvalidAudio where there is no page, or too many.
    """
    starts: list[int] = []
    ranges: list[list[list[int]]] = []
    end, in_head = 0, False
    for start, page, is_right in _pages(content, source, max_seconds, check):
        # Interleaved streams have all their first pages at the start; a first page later starts the next in the chain. So does a
        # damaged one: without it what follows cannot be read, and must not look like a part of the stream before.
        is_first = bool(page[5] & _FIRST_PAGE)
        if not starts or (is_first and not in_head):
            starts.append(start)
            ranges.append([])
            check_streams(len(starts), len(content))
        in_head = is_first
        if not is_right:
            continue
        if ranges[-1] and ranges[-1][-1][1] == start:
            ranges[-1][-1][1] += len(page)
        else:
            ranges[-1].append([start, start + len(page)])
        end = start + len(page)
    if not any(ranges):
        raise cut_short(f"an OGG of {len(content)} bytes", "without a whole page")
    streams: list[Bitstream] = []
    tries = flac.tries()
    for start, until, whole in zip(starts, [*starts[1:], len(content)], ranges, strict=True):
        if bytes(content[start + _HEADER + 1 :][: len(_FLAC)]) == _FLAC:
            native = _native_flac(content[start:until], source[start:until], max_seconds, check)
            try:
                streams += flac.bitstreams(memoryview(native), native, 0, tries, check)
            except InvalidAudio:  # the last of a chain may be cut in its header
                if not streams:
                    raise
        else:
            torn = _mended(content[end:]) if until == len(content) and bytes(content[end : end + 4]) == MAGIC else b""
            streams.append(Bitstream([*pieces_of(content, whole), *([memoryview(torn)] if torn else [])]))
    return streams


def _pages(
    content: memoryview, source: bytes, max_seconds: float, check: Check, with_torn: bool = False
) -> Iterator[tuple[int, memoryview, bool]]:
    """Yield the pages, each with its place in ``source`` and whether its checksum is right; ``with_torn`` also what is there of a
    last one that is cut.

    Those with a wrong one must not reach the decoder: it looks for the next page within each, which takes time in the square of
    their number. Bytes between pages are passed over. Raises InvalidAudio for too many.
    """
    position = pages = wrong = empty = 0
    most = MOST_CHUNKS + int(max_seconds / _SHORTEST_PAGE)
    while (position := source.find(MAGIC, position)) >= 0:
        size = _size(content, position)
        page = content[position : position + size]
        if len(page) < size:
            if with_torn and len(page) >= _HEADER:
                yield position, page, True
            return
        pages += 1
        if pages % CHECK_EVERY == 0:
            check()
        if _checksum(bytes(page[:22]) + bytes(4) + bytes(page[26:])) != int.from_bytes(page[22:26], "little"):
            wrong += 1
            yield position, page, False
            position += len(MAGIC)
        else:
            empty += len(page) == _HEADER + page[_HEADER - 1]
            yield position, page, True
            position += size
        if wrong > _MOST_WRONG:
            raise InvalidAudio(f"AUDIO is an OGG with over {_MOST_WRONG} damaged pages: send the file again")
        if pages > most or empty > MOST_CHUNKS:
            raise InvalidAudio(
                f"AUDIO is an OGG with over {most} pages, more than {max_seconds:g} s need, or over {MOST_CHUNKS} empty ones; "
                "encode it again"
            )


def _mended(page: memoryview) -> bytes:
    """Return the whole packets of a page that is cut, as a page: it may hold a second. Nothing where there is no whole packet."""
    if len(page) < _HEADER or page[5] & _FIRST_PAGE or len(page) >= _size(page, 0):
        return b""
    start = _HEADER + page[_HEADER - 1]
    size = packets = sound = 0
    for number, lacing in enumerate(page[_HEADER:start], 1):
        size += lacing
        if start + size > len(page):
            break
        if lacing < 255:  # the last of its packet
            packets, sound = number, size
    if not packets:
        return b""
    head = bytes(page[:22]) + bytes(4) + bytes([packets]) + bytes(page[_HEADER : _HEADER + packets])
    whole = head + bytes(page[start : start + sound])
    return whole[:22] + _checksum(whole).to_bytes(4, "little") + whole[26:]


def _checksum(page: bytes) -> int:
    """Return the CRC of RFC 3533: zlib's with all bits in the other order, from 0 and without inversion."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _native_flac(content: memoryview, source: bytes, max_seconds: float, check: Check) -> bytes:
    """Return FLAC without OGG around it: the packets of the first stream, one behind the other. Its frames are smaller than pages,
    so that a page that is cut holds some."""
    serial, native = bytes(content[14:18]), bytearray()
    for _, page, is_right in _pages(content, source, max_seconds, check, with_torn=True):
        if is_right and bytes(page[14:18]) == serial:
            native += page[_HEADER + page[_HEADER - 1] :]
    return bytes(native[_FLAC_HEAD:])


def _size(content: memoryview, position: int) -> int:
    """Return the size of a page in bytes, or the least that it can be where its header is cut."""
    table = position + _HEADER
    if table > len(content):
        return _HEADER
    count = content[table - 1]
    return _HEADER + count + sum(content[table : table + count])
