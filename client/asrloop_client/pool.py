"""A pool of channels to one server, for threads: it adds the waiting to PoolPolicy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from asrloop_client.config import PoolConfig
from asrloop_client.errors import ClientForked, PoolExhausted
from asrloop_client.pool_policy import Member, PoolPolicy, PoolStats


class Closable(Protocol):
    """What the pool needs of a connection."""

    def close(self) -> None:
        """Close it; calls still on it fail."""


ConnectionT = TypeVar("ConnectionT", bound=Closable)


class ChannelPool(Generic[ConnectionT]):
    """Hands out members to threads; each `acquire` is ended by one `release`."""

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

    def acquire(self, timeout: float | None = None) -> Member[ConnectionT]:
        """The least busy channel; waits `timeout` s for one (default `acquire_timeout`), in the order of arrival.

        Raises PoolExhausted, ClientClosed or ClientForked.
        """
        if os.getpid() != self._pid:
            raise forked(self._pid)
        member = self._policy.take()
        if member is None:
            member = self._wait(self._config.acquire_timeout if timeout is None else timeout)
        return member

    def release(self, member: Member[ConnectionT], broken: bool = False) -> None:
        """End the call; a broken channel is closed, and replaced when the next call needs it."""
        for connection in self._policy.release(member, broken):
            connection.close()

    def close_expired(self) -> None:
        """Close what has been idle or alive too long."""
        for connection in self._policy.expire():
            connection.close()

    def take_for_probe(self) -> Member[ConnectionT] | None:
        """An idle channel to check the server's health with; None while all are busy. Ended by `release`."""
        return self._policy.take_for_probe()

    def refill(self) -> list[ConnectionT]:
        """Open channels up to `min_channels`; returns the new ones, not yet connected."""
        return self._policy.refill()

    def close(self) -> None:
        """Close all channels. In a forked child it only forgets them: their sockets belong to the parent."""
        if os.getpid() != self._pid:
            return
        for connection in self._policy.close():
            connection.close()

    def stats(self) -> PoolStats:
        """Counts and state."""
        return self._policy.stats()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}: {self._policy!r}>"

    def _wait(self, timeout: float) -> Member[ConnectionT]:
        answered = threading.Event()
        place = self._policy.queue_up(answered.set)
        try:
            answered.wait(timeout)
        except BaseException:
            # KeyboardInterrupt: a member assigned in the meantime goes back.
            if not self._policy.give_up(place) and place.member is not None:
                self.release(place.member)
            raise
        if self._policy.give_up(place):
            raise exhausted(self.address, self._config, timeout)
        return place.result()


def exhausted(address: str, config: PoolConfig, waited: float) -> PoolExhausted:
    """The error of a call that got no channel in time."""
    return PoolExhausted(
        f"{address}: no channel came free in {waited:.3g} s; all {config.max_channels} channels have "
        f"{config.calls_per_channel} call(s). Raise max_channels, calls_per_channel or acquire_timeout, "
        "or call less at once."
    )


def forked(pid: int) -> ClientForked:
    """The error of a call in a child of the process that made the client."""
    return ClientForked(
        f"the client was made in process {pid} and is used in its child {os.getpid()}, where gRPC's threads do not "
        "exist. Start workers with the `spawn` method, or make the first client after the fork."
    )
