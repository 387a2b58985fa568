"""AIFF and AIFF-C: compares the size of the sound with what is there. Decodes nothing.

Source: Apple, Audio Interchange File Format AIFF-C, 1991.
"""

import struct

from asrloop.audio.bitstream import Bitstream, claims_of


def is_aiff(content: memoryview) -> bool:
    return bytes(content[:4]) == b"FORM" and bytes(content[8:12]) in (b"AIFF", b"AIFC")


def bitstreams(content: memoryview) -> list[Bitstream]:
    """Return the file as it is: the decoder takes what is there."""
    position = 12
    while position + 8 <= len(content):
        name, size = struct.unpack_from(">4sI", content, position)
        position += 8
        if name == b"SSND":
            return [Bitstream([content], claims=claims_of(size, len(content) - position))]
        position += size + size % 2
    return [Bitstream([content])]
