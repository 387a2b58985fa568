"""Limit on the bytes that are held in memory at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Budget:
    """Makes uploads wait until their bytes fit.

    A quarter is for small ones alone, up to a thirty-second of all: they pass while large ones wait among themselves.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._small, self._large = _Pool(most // 4), _Pool(most - most // 4)

    @asynccontextmanager
    async def share(self, size: int, caller: str, seconds: float) -> AsyncIterator[None]:
        """Hold `size` bytes for `caller`. Raises TimeoutError when they do not fit within `seconds`."""
        pool = self._small if size <= self._most // 32 else self._large
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
