"""Audio that was sent last, kept for a new stream when the server is lost."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy.typing as npt

from asrloop_client.control.channel import LOG

_SECONDS = 30.0
"""Audio kept at least, in whole chunks."""


class KeptAudio:
    """The last chunks [N] of a stream. Positions are samples from its start."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._chunks: deque[npt.NDArray[Any]] = deque()
        self._end = 0
        self.start = 0
        """Position of the first sample that is still kept."""

    def append(self, chunk: npt.NDArray[Any]) -> None:
        """Keep a chunk, and drop those that are too old."""
        self._chunks.append(chunk)
        self._end += chunk.size
        while self._chunks and self._end - self.start - self._chunks[0].size >= _SECONDS * self._rate:
            self.start += self._chunks.popleft().size

    def since(self, seconds: float) -> tuple[float, list[npt.NDArray[Any]]]:
        """Return the kept audio from `seconds` on, and the second at which it begins; logs a warning if some is lost."""
        wanted, at = round(seconds * self._rate), self.start
        begin = max(wanted, at)
        if begin > wanted:
            LOG.warning("%.1f s of live audio were lost with their server", (begin - wanted) / self._rate)
        chunks = []
        for chunk in self._chunks:
            chunks.append(chunk[max(0, begin - at) :])
            at += chunk.size
        return begin / self._rate, chunks
