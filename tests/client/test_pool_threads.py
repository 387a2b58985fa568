"""ChannelPool under threads, with connections that only count."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asrloop_client.config import PoolConfig
from asrloop_client.errors import AsrError, ClientClosed, ClientForked, PoolExhausted
from asrloop_client.pool import ChannelPool


class Connection:
    closed = False

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


def make(**settings: object) -> ChannelPool[Connection]:
    return ChannelPool("host:1", PoolConfig(**{"min_channels": 1, "max_channels": 4, **settings}), Connection)


def test_64_threads_on_4_channels_never_have_more_than_4() -> None:
    pool = make(acquire_timeout=60)
    lock = threading.Lock()
    held: list[int] = []
    highest = 0

    def call(number: int) -> None:
        nonlocal highest
        for turn in range(20):
            member = pool.acquire()
            with lock:
                held.append(id(member))
                highest = max(highest, len(held))
                assert len(held) == len(set(held)), "two calls on one channel"
            time.sleep(0)
            with lock:
                held.remove(id(member))
            pool.release(member, broken=(number + turn) % 7 == 0)

    with ThreadPoolExecutor(64) as executor:
        list(executor.map(call, range(64)))
    assert 1 <= highest <= 4
    stats = pool.stats()
    assert stats.in_use == stats.waiting == stats.timeouts == 0
    assert stats.open <= 4


def test_a_call_without_a_channel_fails_after_the_acquire_timeout_and_says_what_to_do() -> None:
    pool = make(max_channels=1, acquire_timeout=0.05)
    member = pool.acquire()
    with pytest.raises(
        PoolExhausted, match=r"host:1: no channel came free in 0\.05 s; all 1 channels .* Raise max_channels"
    ):
        pool.acquire()
    assert pool.stats().acquire_waits == pool.stats().timeouts == 1
    pool.release(member)
    assert pool.acquire() is member


def test_the_error_is_a_timeout_error_too() -> None:
    assert issubclass(PoolExhausted, TimeoutError)
    assert issubclass(PoolExhausted, AsrError)


def test_a_waiting_thread_gets_the_released_channel() -> None:
    pool = make(max_channels=1, acquire_timeout=60)
    member = pool.acquire()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.acquire)
        while pool.stats().waiting == 0:
            time.sleep(0.001)
        pool.release(member)
        assert waiting.result() is member


def test_close_wakes_waiting_threads() -> None:
    pool = make(max_channels=1, acquire_timeout=60)
    member = pool.acquire()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(pool.acquire)
        while pool.stats().waiting == 0:
            time.sleep(0.001)
        pool.close()
        with pytest.raises(ClientClosed):
            waiting.result()
    assert member.connection.closed
    pool.release(member)
    pool.close()


def test_the_repr_shows_the_counts() -> None:
    pool = make()
    pool.acquire()
    assert repr(pool) == "<ChannelPool host:1: 1 in use, 0 idle, 1 of 4 open, 0 waiting>"
    pool.close()
    assert repr(pool) == "<ChannelPool host:1: 0 in use, 0 idle, 0 of 4 open, 0 waiting, closed>"


def test_another_process_is_told_to_make_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make()
    member = pool.acquire()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(ClientForked, match=f"made in process {parent} .* make the first client after the fork"):
        pool.acquire()
    pool.close()
    assert not member.connection.closed, "the child closed the parent's socket"
