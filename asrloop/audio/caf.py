"""Apple's CAF: finds the samples of PCM, and gives the decoder a header with their true size. Decodes nothing.

Source: Apple, Core Audio Format Specification 1.0.
"""

import struct

from asrloop.audio.bitstream import MOST_CHUNKS, UNKNOWN_FROM, Bitstream, claims_of, cut_short
from asrloop.audio.containers import CAF

MAGIC = b"caff"
_HEAD = 52
"""Bytes of the file's header and of the chunk `desc`, which comes first."""


def bitstreams(content: memoryview) -> list[Bitstream]:
    """Return the samples that are there; the file as it is for other codecs. Raises InvalidAudio where there is no chunk `data`."""
    if len(content) >= _HEAD and bytes(content[28:32]) not in (b"lpcm", b"alaw", b"ulaw"):
        return [Bitstream([content], container=CAF)]
    position = _HEAD
    for _ in range(MOST_CHUNKS):
        if position + 12 > len(content):
            break
        name, size = struct.unpack_from(">4sq", content, position)
        position += 12
        if name == b"data":
            available = len(content) - position
            there = available if size < 0 or size > available else size
            head = bytes(content[:_HEAD]) + struct.pack(">4sq", b"data", there)
            samples = content[position : position + there]
            return [Bitstream([memoryview(head), samples], claims=claims_of(size, available, UNKNOWN_FROM))]
        position += max(0, size)
    raise cut_short(f"a CAF of {len(content)} bytes", "without a data chunk")
