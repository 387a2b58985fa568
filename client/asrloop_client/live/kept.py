"""Audio that may lack its final text, kept for a new stream when the server is lost."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy.typing as npt

_SECONDS = 30.0
"""Audio kept before what the server has recognised, in whole chunks: longer than an open segment."""


class KeptAudio:
    """The last chunks [N] of a stream."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._chunks: deque[npt.NDArray[Any]] = deque()
        self.start = 0
        """The first sample that is still kept, counted from the start of the stream."""

    def append(self, chunk: npt.NDArray[Any]) -> None:
        """Keep a chunk."""
        self._chunks.append(chunk)

    def forget(self, recognised: float) -> None:
        """Drop chunks that end long before second `recognised` of the stream."""
        limit = (recognised - _SECONDS) * self._rate
        while self._chunks and self.start + self._chunks[0].size <= limit:
            self.start += self._chunks.popleft().size

    def since(self, seconds: float) -> tuple[float, list[npt.NDArray[Any]]]:
        """Return the kept audio from `seconds` on, and the second at which it begins."""
        at = self.start
        begin = max(round(seconds * self._rate), at)
        chunks = []
        for chunk in self._chunks:
            if at >= begin:
                chunks.append(chunk)  # the very object: one of them may be END_SEGMENT
            elif at + chunk.size > begin:
                chunks.append(chunk[begin - at :])
            at += chunk.size
        return begin / self._rate, chunks
