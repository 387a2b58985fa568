"""The pool's rules, with an injected clock and connections that are numbers: no sockets and no sleeping."""

import itertools

import pytest
from asrloop_client.config import PoolConfig
from asrloop_client.errors import ClientClosed, InvalidConfig
from asrloop_client.pool_policy import Member, PoolPolicy


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None, **settings: object) -> PoolPolicy[int]:
    config = PoolConfig(**{"min_channels": 1, "max_channels": 3, **settings})
    return PoolPolicy(config, itertools.count().__next__, clock or Clock())


def take(policy: PoolPolicy[int]) -> Member[int]:
    member = policy.take()
    assert member is not None
    return member


def test_an_idle_channel_is_reused_before_a_new_one_is_opened() -> None:
    policy = make()
    member = take(policy)
    assert policy.release(member) == []
    assert take(policy) is member
    assert repr(policy) == "1 in use, 0 idle, 1 of 3 open, 0 waiting"
    assert (policy.stats().created, policy.stats().reused) == (1, 1)


def test_a_new_channel_is_opened_before_one_is_shared() -> None:
    policy = make(calls_per_channel=2)
    assert len({id(take(policy)) for _ in range(3)}) == 3
    assert repr(policy) == "3 in use, 0 idle, 3 of 3 open, 0 waiting"


def test_a_shared_channel_is_the_least_busy_one() -> None:
    policy = make(calls_per_channel=3, max_channels=2)
    first, second = take(policy), take(policy)
    take(policy)
    take(policy)
    assert [first.in_flight, second.in_flight] == [2, 2]
    policy.release(second)
    assert take(policy) is second


def test_no_member_takes_more_than_its_calls_and_the_pool_no_more_than_its_channels() -> None:
    policy = make(calls_per_channel=2)
    members = [take(policy) for _ in range(6)]
    assert policy.take() is None
    assert sorted(member.in_flight for member in set(members)) == [2, 2, 2]


def test_waiting_calls_are_served_in_the_order_of_arrival() -> None:
    policy = make(max_channels=1)
    woken: list[str] = []
    member = take(policy)
    first = policy.queue_up(lambda: woken.append("first"))
    second = policy.queue_up(lambda: woken.append("second"))
    policy.release(member)
    assert woken == ["first"]
    assert first.result() is member
    assert not second.answered
    assert policy.take() is None, "a newcomer overtook the queue"
    policy.release(member)
    assert woken == ["first", "second"]


def test_a_call_that_gave_up_gets_nothing_and_holds_nobody_up() -> None:
    policy = make(max_channels=1)
    member = take(policy)
    impatient, patient = policy.queue_up(lambda: None), policy.queue_up(lambda: None)
    assert policy.give_up(impatient)
    policy.release(member)
    assert not impatient.answered
    assert patient.result() is member
    assert (policy.stats().acquire_waits, policy.stats().timeouts) == (2, 1)


def test_giving_up_too_late_keeps_the_place() -> None:
    policy = make(max_channels=1)
    member = take(policy)
    place = policy.queue_up(lambda: None)
    policy.release(member)
    assert not policy.give_up(place)
    assert place.result() is member


def test_room_that_came_free_between_take_and_queue_is_used() -> None:
    policy = make(max_channels=1)
    member = take(policy)
    assert policy.take() is None
    policy.release(member)
    assert policy.queue_up(lambda: None).result() is member


def test_a_broken_channel_is_closed_once_its_last_call_ends_and_takes_no_new_one() -> None:
    policy = make(calls_per_channel=2, max_channels=1)
    broken = take(policy)
    assert take(policy) is broken
    assert policy.release(broken, broken=True) == []
    assert policy.take() is None, "the broken channel still counts against the bound until it is closed"
    assert policy.release(broken, broken=True) == [broken.connection]
    assert take(policy) is not broken
    assert policy.stats().broken == 1


def test_a_broken_channel_is_replaced_for_whoever_waits() -> None:
    policy = make(max_channels=1)
    broken = take(policy)
    place = policy.queue_up(lambda: None)
    policy.release(broken, broken=True)
    assert place.result() is not broken


def test_idle_channels_go_after_the_timeout_down_to_the_minimum() -> None:
    clock = Clock()
    policy = make(clock, min_channels=1, max_channels=5, idle_timeout=300)
    members = [take(policy) for _ in range(4)]
    busy = members.pop()
    for member in members:
        policy.release(member)
    clock.now = 299
    assert policy.expire() == []
    clock.now = 300
    # Three idle, one busy: the busy one alone satisfies the minimum.
    assert len(policy.expire()) == 3
    assert repr(policy) == "1 in use, 0 idle, 1 of 5 open, 0 waiting"
    policy.release(busy)
    clock.now = 10_000
    assert policy.expire() == [], "the minimum stays, however long it idles"
    assert policy.stats().evicted == 3


def test_the_longest_idle_go_first() -> None:
    clock = Clock()
    policy = make(clock, min_channels=1, idle_timeout=10)
    members = [take(policy) for _ in range(3)]
    for now, member in zip((3, 1, 2), members, strict=True):
        clock.now = now
        policy.release(member)
    clock.now = 100
    assert set(policy.expire()) == {members[1].connection, members[2].connection}
    assert take(policy) is members[0]


def test_sequential_use_leaves_the_surplus_idle() -> None:
    clock = Clock()
    policy = make(clock, idle_timeout=10)
    members = [take(policy) for _ in range(3)]
    for member in members:
        policy.release(member)
    for clock.now in range(1, 12):
        policy.release(take(policy))
    assert len(policy.expire()) == 2


def test_an_aged_channel_is_closed_when_its_call_ends_and_replaced() -> None:
    clock = Clock()
    policy = make(clock, max_age=60)
    old, idle = take(policy), take(policy)
    policy.release(idle)
    clock.now = 60
    assert policy.expire() == [idle.connection]
    assert policy.release(old) == [old.connection]
    assert policy.refill() != []
    assert take(policy) not in (old, idle)


def test_refill_opens_up_to_the_minimum_and_no_more() -> None:
    policy = make(min_channels=3, max_channels=5)
    assert len(policy.refill()) == 3
    assert policy.refill() == []


def test_a_probe_uses_no_busy_channel_and_opens_none_beyond_the_minimum() -> None:
    policy = make(min_channels=1)
    probe = policy.take_for_probe()
    assert probe is not None
    policy.release(probe)
    assert policy.take() is probe
    assert policy.take_for_probe() is None
    assert (policy.stats().created, policy.stats().reused) == (1, 0)


def test_without_reuse_each_channel_serves_one_call() -> None:
    policy = make(min_channels=0, reuse=False)
    first = take(policy)
    assert policy.release(first) == [first.connection]
    assert take(policy) is not first


def test_closing_returns_all_channels_and_fails_those_that_wait() -> None:
    policy = make(max_channels=1)
    member = take(policy)
    place = policy.queue_up(lambda: None)
    assert policy.close() == [member.connection]
    with pytest.raises(ClientClosed):
        place.result()
    with pytest.raises(ClientClosed, match="Make a new one"):
        policy.take()
    assert policy.release(member) == [], "closed twice"


def test_a_channel_that_cannot_be_made_fails_the_call_that_needed_it() -> None:
    made = iter([0])

    def open_connection() -> int:
        try:
            return next(made)
        except StopIteration:
            raise OSError("no more sockets") from None

    policy = PoolPolicy(PoolConfig(min_channels=1, max_channels=1), open_connection, Clock())
    member = take(policy)
    place = policy.queue_up(lambda: None)
    policy.release(member, broken=True)
    with pytest.raises(OSError, match="no more sockets"):
        place.result()


@pytest.mark.parametrize(
    "settings",
    [
        {"min_channels": 0},
        {"min_channels": 6, "max_channels": 5},
        {"calls_per_channel": 0},
        {"acquire_timeout": -1},
        {"idle_timeout": -1},
        {"max_age": 0},
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match=f"{next(iter(settings))} is .*give"):
        PoolConfig(**settings)
