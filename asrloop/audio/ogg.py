"""OGG: walks the pages to check that the file is whole and to split a chain into its streams. Decodes nothing.

Source: RFC 3533. Internet radio and `cat a.ogg b.ogg` make chains; libsndfile stops after the first stream of one.
"""

from asrloop.audio.bitstream import CHECK_EVERY, Bitstream, Check, cut_short

MAGIC = b"OggS"
_HEADER = 27
_FIRST_PAGE = 0x02


def bitstreams(content: memoryview, source: bytes, check: Check) -> list[Bitstream]:
    """Return each stream of the chain; ``content`` is a view of ``source``. Raises InvalidAudio when the last page is cut."""
    starts, position, pages, in_head = [0], 0, 0, True
    while position + 4 <= len(content):
        if bytes(content[position : position + 4]) != MAGIC:
            position = source.find(MAGIC, position)
            if position < 0:
                break
        size, available = _size(content, position), len(content) - position
        if size > available:
            raise cut_short(f"its last OGG page says {size} bytes", f"{available} follow")
        # Interleaved streams have all their first pages at the start; a first page later starts the next in the chain.
        is_first = bool(content[position + 5] & _FIRST_PAGE)
        if is_first and not in_head:
            starts.append(position)
        in_head = is_first
        position += size
        pages += 1
        if pages % CHECK_EVERY == 0:
            check()
    ends = [*starts[1:], len(content)]
    return [Bitstream([content[start:end]]) for start, end in zip(starts, ends, strict=True)]


def _size(content: memoryview, position: int) -> int:
    """Return the size of a page in bytes, or the least that it can be where its header is cut."""
    table = position + _HEADER
    if table > len(content):
        return _HEADER
    count = content[table - 1]
    return _HEADER + count + sum(content[table : table + count])
