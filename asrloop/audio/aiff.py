"""AIFF and AIFF-C: finds the samples, and gives the decoder a header without the other chunks. Decodes nothing.

Source: Apple, Audio Interchange File Format AIFF-C, 1991.
"""

import struct

from asrloop.audio.bitstream import MOST_CHUNKS, Bitstream, claims_of, cut_short

_LONGEST_COMM = 1024


def is_aiff(content: memoryview) -> bool:
    return bytes(content[:4]) == b"FORM" and bytes(content[8:12]) in (b"AIFF", b"AIFC")


def bitstreams(content: memoryview) -> list[Bitstream]:
    """Return the samples that are there. Raises InvalidAudio where there is no chunk `COMM` or `SSND`."""
    position, form, sound = 12, None, None
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(content) or (form and sound):
            break
        name, size = struct.unpack_from(">4sI", content, position)
        position += 8
        if name == b"COMM" and size <= _LONGEST_COMM:
            form = struct.pack(">4sI", name, size) + bytes(content[position : position + size + size % 2])
        elif name == b"SSND":
            sound = position, size
        position += size + size % 2
    if not form or not sound:
        raise cut_short(f"an AIFF of {len(content)} bytes", "without the chunks COMM and SSND")
    start, size = sound
    available = len(content) - start
    samples = content[start : start + size if size else None]
    head = struct.pack(">4sI4s", b"FORM", 0, bytes(content[8:12])) + form + struct.pack(">4sI", b"SSND", len(samples))
    return [Bitstream([memoryview(head), samples], claims=claims_of(size, available))]
