"""Whatever calls do in whatever order, the pool's bounds hold and nobody waits while there is room."""

import asyncio
import itertools

from asrloop_client.control.state import stats_of
from asrloop_client.pool import Member, Pool
from asrloop_client.settings import PoolConfig
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule


class PoolMachine(RuleBasedStateMachine):
    """Holds what a set of callers would hold, and counts the connections that are really open."""

    running = Bundle("running")
    waiting = Bundle("waiting")

    @initialize(
        bounds=st.tuples(st.integers(1, 3), st.integers(0, 3)),
        calls_per_channel=st.integers(1, 3),
    )
    def start(self, bounds: tuple[int, int], calls_per_channel: int) -> None:
        self.now = 0.0
        self.open: set[int] = set()
        self.numbers = itertools.count()
        self.calls: dict[Member[int], int] = {}
        self.queue: list[asyncio.Task[Member[int]]] = []
        self.handed_over: list[Member[int]] = []
        self.config = PoolConfig(
            min_channels=bounds[0],
            max_channels=sum(bounds),
            calls_per_channel=calls_per_channel,
            idle_timeout=20.0,
        )
        self.policy = Pool(self.config, self.open_connection, self.close, lambda: self.now)
        self.loop = asyncio.new_event_loop()

    def open_connection(self) -> int:
        number = next(self.numbers)
        self.open.add(number)
        return number

    def close(self, connection: int) -> None:
        assert connection in self.open, "closed twice"
        self.open.remove(connection)

    def settle(self) -> None:
        """Let tasks that can go on do so."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def teardown(self) -> None:
        for task in self.queue:
            task.cancel()
        self.settle()
        self.loop.close()

    def got(self, member: Member[int]) -> Member[int]:
        assert member.connection in self.open, "a closed channel was handed out"
        self.calls[member] = self.calls.get(member, 0) + 1
        return member

    def collect(self) -> None:
        """Count the members that were handed to waiting calls; these are then running, though in no bundle."""
        self.settle()
        for place in [place for place in self.queue if place.done()]:
            self.queue.remove(place)
            self.handed_over.append(self.got(place.result()))

    @rule(target=running)
    def take(self) -> object:
        member = self.policy.take()
        if member is None:
            self.queue.append(self.loop.create_task(self.policy.acquire()))
            self.collect()
            return None
        return self.got(member)

    def end(self, member: Member[int], broken: bool) -> None:
        self.calls[member] -= 1
        self.policy.release(member, broken)
        self.collect()

    @rule(member=consumes(running), broken=st.booleans())
    def release(self, member: Member[int] | None, broken: bool) -> None:
        if member is not None:
            self.end(member, broken)

    @rule(broken=st.booleans())
    def release_handed_over(self, broken: bool) -> None:
        if self.handed_over:
            self.end(self.handed_over.pop(0), broken)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.queue:
            place = data.draw(st.sampled_from(self.queue))
            self.queue.remove(place)
            place.cancel()
            self.settle()

    @rule(seconds=st.sampled_from([1.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.policy.expire()
        self.collect()

    @rule()
    def refill(self) -> None:
        self.policy.refill()
        self.collect()

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.open) <= self.config.max_channels
        assert all(count <= self.config.calls_per_channel for count in self.calls.values())
        stats = stats_of(self.policy)
        assert stats.open == len(self.open)
        assert stats.calls == sum(self.calls.values())
        assert stats.waiting == len(self.queue)

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if self.queue:
            assert len(self.open) == self.config.max_channels
            usable = [m for m, count in self.calls.items() if count and m.connection in self.open and not m.retired]
            assert all(self.calls[member] == self.config.calls_per_channel for member in usable)
            assert stats_of(self.policy).idle == 0


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestPoolBounds = PoolMachine.TestCase
