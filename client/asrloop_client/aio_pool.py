"""A pool of channels to one server, for one asyncio loop: it adds the waiting to PoolPolicy."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from asrloop_client.config import PoolConfig
from asrloop_client.pool import exhausted, forked
from asrloop_client.pool_policy import Member, PoolPolicy, PoolStats


class AsyncClosable(Protocol):
    """What the pool needs of a connection."""

    async def close(self) -> None:
        """Close it; calls still on it fail."""


ConnectionT = TypeVar("ConnectionT", bound=AsyncClosable)


class AsyncChannelPool(Generic[ConnectionT]):
    """Hands out members to tasks; each `acquire` is ended by one `release`."""

    def __init__(
        self,
        address: str,
        config: PoolConfig,
        open_connection: Callable[[], ConnectionT],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._config = config
        self._policy = PoolPolicy(config, open_connection, clock)
        self._pid = os.getpid()

    async def acquire(self, timeout: float | None = None) -> Member[ConnectionT]:
        """As ChannelPool.acquire; a cancelled wait leaves the queue."""
        if os.getpid() != self._pid:
            raise forked(self._pid)
        member = self._policy.take()
        if member is None:
            member = await self._wait(self._config.acquire_timeout if timeout is None else timeout)
        return member

    async def release(self, member: Member[ConnectionT], broken: bool = False) -> None:
        """As ChannelPool.release."""
        await _close_all(self._policy.release(member, broken))

    async def close_expired(self) -> None:
        """As ChannelPool.close_expired."""
        await _close_all(self._policy.expire())

    def take_for_probe(self) -> Member[ConnectionT] | None:
        """As ChannelPool.take_for_probe."""
        return self._policy.take_for_probe()

    def refill(self) -> list[ConnectionT]:
        """As ChannelPool.refill."""
        return self._policy.refill()

    async def close(self) -> None:
        """As ChannelPool.close."""
        if os.getpid() == self._pid:
            await _close_all(self._policy.close())

    def stats(self) -> PoolStats:
        """Counts and state."""
        return self._policy.stats()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}: {self._policy!r}>"

    async def _wait(self, timeout: float) -> Member[ConnectionT]:
        answered = asyncio.Event()
        place = self._policy.queue_up(answered.set)
        try:
            async with asyncio.timeout(timeout):
                await answered.wait()
        except TimeoutError:
            if self._policy.give_up(place):
                raise exhausted(self.address, self._config, timeout) from None
        except BaseException:
            # Cancelled: a member assigned in the meantime goes back.
            if not self._policy.give_up(place) and place.member is not None:
                await self.release(place.member)
            raise
        return place.result()


async def _close_all(connections: list[ConnectionT]) -> None:
    for connection in connections:
        await connection.close()
