"""Limit on the bytes that are held in memory at once."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Budget:
    """Makes uploads wait until their bytes fit.

    Each kind of size has a part for itself: recordings wait among themselves, and neither podcasts nor clips wait for them.
    """

    def __init__(self, most: int) -> None:
        self._pools = [
            (most // 1024, _Pool(most // 16)),
            (most // 32, _Pool(most * 3 // 16)),
            (math.inf, _Pool(most * 3 // 4)),
        ]
        """Largest size, and the bytes for all of this kind."""

    @asynccontextmanager
    async def share(self, size: int, caller: str, seconds: float) -> AsyncIterator[None]:
        """Hold `size` bytes for `caller`. Raises TimeoutError when they do not fit within `seconds`."""
        pool = next(pool for largest, pool in self._pools if size <= largest)
        one = await pool.take(size, caller, seconds)
        try:
            yield
        finally:
            pool.give_back(one)


class _Share(NamedTuple):
    caller: str
    size: int
    turn: asyncio.Future[None]


class _Pool:
    """Bytes for which callers wait: next is who holds least, of equal ones who came first. A size above the limit counts as it."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._held: Counter[str] = Counter()
        """Bytes of each caller."""
        self._waiting: list[_Share] = []

    async def take(self, size: int, caller: str, seconds: float) -> _Share:
        one = _Share(caller, min(size, self._most), asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._give()
        try:
            async with asyncio.timeout(seconds):
                await one.turn
        except BaseException:
            if one in self._waiting:
                self._waiting.remove(one)
                self._give()
            else:  # its turn came in the same moment
                self.give_back(one)
            raise
        return one

    def give_back(self, one: _Share) -> None:
        self._free += one.size
        self._held[one.caller] -= one.size
        self._held += Counter()  # forgets callers who hold nothing
        self._give()

    def _give(self) -> None:
        while self._waiting:
            one = min(self._waiting, key=lambda each: self._held[each.caller])
            if one.size > self._free:
                return  # no smaller one passes: many of them could keep it waiting for ever
            self._waiting.remove(one)
            self._free -= one.size
            self._held[one.caller] += one.size
            if not one.turn.done():
                one.turn.set_result(None)
