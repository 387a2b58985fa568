"""AU of Sun and NeXT: compares the size of the sound with what is there. Decodes nothing.

Source: the manual page audio(7) of SunOS.
"""

import struct

from asrloop.audio.bitstream import Bitstream, claims_of

MAGIC = b".snd"


def bitstreams(content: memoryview) -> list[Bitstream]:
    """Return the file as it is: the decoder takes what is there."""
    start, size = struct.unpack_from(">II", bytes(content[4:12]).ljust(8, b"\0"))
    return [Bitstream([content], claims=claims_of(size, len(content) - start))]
