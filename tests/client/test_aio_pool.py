"""AsyncChannelPool: the waiting around the shared policy."""

import asyncio

import pytest
from asrloop_client.aio_pool import AsyncChannelPool
from asrloop_client.config import PoolConfig
from asrloop_client.errors import ClientClosed, PoolExhausted


class Connection:
    closed = False

    async def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


def make(**settings: object) -> AsyncChannelPool[Connection]:
    return AsyncChannelPool("host:1", PoolConfig(**{"min_channels": 1, "max_channels": 1, **settings}), Connection)


def test_many_tasks_share_a_bounded_pool() -> None:
    async def run() -> None:
        pool = make(max_channels=4, acquire_timeout=60)
        busy = highest = 0

        async def call(number: int) -> None:
            nonlocal busy, highest
            member = await pool.acquire()
            busy += 1
            highest = max(highest, busy)
            await asyncio.sleep(0)
            busy -= 1
            await pool.release(member, broken=number % 7 == 0)

        await asyncio.gather(*(call(number) for number in range(200)))
        assert highest == 4
        assert repr(pool).startswith("<AsyncChannelPool host:1: 0 in use, ")

    asyncio.run(run())


def test_a_call_without_a_channel_raises_pool_exhausted() -> None:
    async def run() -> None:
        pool = make(acquire_timeout=0.01)
        member = await pool.acquire()
        with pytest.raises(PoolExhausted):
            await pool.acquire()
        await pool.release(member)
        assert await pool.acquire() is member

    asyncio.run(run())


def test_a_cancelled_wait_leaves_the_queue() -> None:
    async def run() -> None:
        pool = make(acquire_timeout=60)
        member = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.stats().waiting == 0
        await pool.release(member)
        assert pool.stats().idle == 1

    asyncio.run(run())


def test_a_wait_cancelled_just_after_it_was_served_gives_the_channel_back() -> None:
    async def run() -> None:
        pool = make(acquire_timeout=60)
        member = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        await pool.release(member)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.stats().in_use == 0

    asyncio.run(run())


def test_close_wakes_waiting_tasks() -> None:
    async def run() -> None:
        pool = make(acquire_timeout=60)
        member = await pool.acquire()
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(ClientClosed):
            await waiting
        assert member.connection.closed

    asyncio.run(run())
