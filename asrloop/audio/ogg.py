"""OGG: walks the pages to leave out one that is cut, to split a chain into its streams, and to unwrap FLAC. Decodes nothing.

Sources: RFC 3533; RFC 9639 section 10.1 for FLAC. Internet radio and `cat a.ogg b.ogg` make chains; libsndfile stops after the
first stream of one, and opens no FLAC in OGG.
"""

import zlib
from collections.abc import Iterator

from asrloop.audio import flac
from asrloop.audio.bitstream import CHECK_EVERY, Bitstream, Check
from asrloop.errors import InvalidAudio

MAGIC = b"OggS"
_HEADER = 27
_FIRST_PAGE = 0x02
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in the other order."""
_FLAC, _FLAC_HEAD = b"\x7fFLAC", 9
"""Start of the first packet of FLAC, and the bytes before the header of native FLAC in it."""


def bitstreams(content: memoryview, source: bytes, check: Check) -> list[Bitstream]:
    """Return each stream of the chain; ``content`` is a view of ``source``. A last page that is cut is left out."""
    starts, end, in_head = [0], 0, True
    for start, page in _pages(content, source, check):
        # Interleaved streams have all their first pages at the start; a first page later starts the next in the chain.
        is_first = bool(page[5] & _FIRST_PAGE)
        if is_first and not in_head:
            starts.append(start)
        in_head = is_first
        end = start + len(page)
    streams: list[Bitstream] = []
    for start, until in zip(starts, [*starts[1:], len(content)], strict=True):
        if bytes(content[start + _HEADER + 1 :][: len(_FLAC)]) == _FLAC:
            native = _native_flac(content[start:until], source[start:until], check)
            try:
                streams += flac.bitstreams(memoryview(native), native, 0, check)
            except InvalidAudio:  # the last of a chain may be cut in its header
                if not streams:
                    raise
        else:
            torn = _mended(content[end:]) if until == len(content) and bytes(content[end : end + 4]) == MAGIC else b""
            streams.append(Bitstream([content[start : min(until, end)], *([memoryview(torn)] if torn else [])]))
    return streams


def _pages(
    content: memoryview, source: bytes, check: Check, with_torn: bool = False
) -> Iterator[tuple[int, memoryview]]:
    """Yield the whole pages, each with its place in ``source``; ``with_torn`` also what is there of a last one that is cut.

    Bytes between pages are passed over.
    """
    position = pages = 0
    while (position := source.find(MAGIC, position)) >= 0:
        size = _size(content, position)
        if position + size > len(content) and not (with_torn and len(content) - position >= _HEADER):
            return
        yield position, content[position : position + size]
        position += size
        pages += 1
        if pages % CHECK_EVERY == 0:
            check()


def _mended(page: memoryview) -> bytes:
    """Return the whole packets of a page that is cut, as a page: it may hold a second. Nothing where there is no whole packet."""
    if len(page) < _HEADER or page[5] & _FIRST_PAGE:
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


def _native_flac(content: memoryview, source: bytes, check: Check) -> bytes:
    """Return FLAC without OGG around it: the packets of the first stream, one behind the other. Its frames are smaller than pages,
    so that a page that is cut holds some."""
    serial, native = bytes(content[14:18]), bytearray()
    for _, page in _pages(content, source, check, with_torn=True):
        if bytes(page[14:18]) == serial:
            native += page[_HEADER + page[_HEADER - 1] :]
    return bytes(native[_FLAC_HEAD:])


def _size(content: memoryview, position: int) -> int:
    """Return the size of a page in bytes, or the least that it can be where its header is cut."""
    table = position + _HEADER
    if table > len(content):
        return _HEADER
    count = content[table - 1]
    return _HEADER + count + sum(content[table : table + count])
