"""Policy without a model: hypothesis drives the scheduler in any order and the invariants hold."""

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asrloop.engine.scheduler import ENCODED_AHEAD, OTHERS_EVERY, QUEUE, Scheduler
from asrloop.engine.slots import LATER_EVERY
from asrloop.engine.utterance import Rank, State, Utterance
from asrloop.errors import Overloaded

SLOTS, INBOX, ENCODERS = 3, 4, 2
TURN_COST = 0.1


def utterance(arrived_at: float = 0.0, seconds: float = 1.0, rank: Rank = Rank.WHOLE) -> Utterance:
    return Utterance(
        np.zeros(int(seconds * 16_000), np.float32),
        16_000,
        arrived_at=arrived_at,
        rank=rank,
        is_speech=rank is Rank.WINDOW,
    )


def submit(scheduler: Scheduler, *utterances: Utterance) -> None:
    """Queue them as the engine does."""
    scheduler.check_room(len(utterances))
    for one in utterances:
        scheduler.add(one, one.arrived_at + TURN_COST * one.audio_seconds)


class AnyOrder(RuleBasedStateMachine):
    """Submits, encodes, admits and removes in any order; the model is one plain list in order of arrival."""

    batches = 1

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(SLOTS, INBOX, queue_timeout=1.0, encoders=ENCODERS, batches=self.batches)
        self.arrivals: list[Utterance] = []
        self.alive: list[Utterance] = []

    @rule(seconds=st.lists(st.sampled_from([1, 3, 30]), min_size=1, max_size=3))
    def submit(self, seconds: list[int]) -> None:
        newcomers = [utterance(len(self.arrivals), one) for one in seconds]
        count = len(newcomers)
        room = INBOX - len(self.scheduler.waiting[Rank.WHOLE])
        if count > room:
            with pytest.raises(Overloaded, match=f"the inbox holds {INBOX}"):
                submit(self.scheduler, *newcomers)
            return
        submit(self.scheduler, *newcomers)
        self.arrivals += newcomers
        self.alive += newcomers

    @rule()
    def start_encoding(self) -> None:
        waiting = list(self.scheduler.waiting[Rank.WHOLE])
        first = min(waiting, key=lambda one: one.arrived_at + TURN_COST * one.audio_seconds, default=None)
        chosen = self.scheduler.next_to_encode()
        assert chosen is None or chosen is first

    @precondition(lambda self: self.scheduler.encoding)
    @rule(data=st.data())
    def end_encoding(self, data: st.DataObject) -> None:
        self.scheduler.encode_done(data.draw(st.sampled_from(sorted(self.scheduler.encoding, key=self.arrivals.index))))

    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(self.scheduler.batches))
        emptiest = min(other.taken for other in self.scheduler.batches)
        encoded, before = list(self.scheduler.encoded), batch.taken
        admitted = self.scheduler.admit(batch)
        assert admitted == encoded[: len(admitted)]
        if before > emptiest or before == SLOTS:
            assert not admitted
        else:
            assert admitted or not encoded
        next_one = self.scheduler.next_to_admit()
        if next_one is None:
            assert not self.scheduler.encoded or all(other.taken == SLOTS for other in self.scheduler.batches)
        else:
            assert next_one.taken == min(other.taken for other in self.scheduler.batches) < SLOTS
            assert self.batches > 1
            assert not batch.taken or batch is not next_one or before > emptiest

    @precondition(lambda self: self.scheduler.running)
    @rule(data=st.data())
    def end_decoding(self, data: st.DataObject) -> None:
        running = sorted(self.scheduler.running, key=self.arrivals.index)
        self.scheduler.decode_done(data.draw(st.sampled_from(running)))

    @precondition(lambda self: any(batch.ending for batch in self.scheduler.batches))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from([batch for batch in self.scheduler.batches if batch.ending]))
        one = batch.free(data.draw(st.sampled_from(sorted(batch.ending))))
        if not one.is_finished:
            self.scheduler.gate(one)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.alive))
        self.alive.remove(gone)
        self.scheduler.finish(gone)
        self.scheduler.finish(gone)  # a second time changes nothing

    @invariant()
    def nobody_is_lost_or_doubled(self) -> None:
        everyone = self.scheduler.everyone()
        assert len(everyone) == len(set(everyone))
        assert set(everyone) == set(self.alive)

    @invariant()
    def each_is_where_its_state_says(self) -> None:
        scheduler = self.scheduler
        where = {
            State.WAITING: scheduler.waiting[Rank.WHOLE],
            State.ENCODING: {one for one in scheduler.encoding if not one.is_finished},
            State.ENCODED: scheduler.encoded,
            State.RUNNING: scheduler.running,
            State.GATED: scheduler.gated,
        }
        for state, container in where.items():
            assert all(one.state is state for one in container)
        for batch in scheduler.batches:
            assert all(one.state in (State.ENDING, State.FINISHED) for one in batch.ending.values())
        assert all(one.is_finished == (one not in self.alive) for one in self.arrivals)

    @invariant()
    def limits_hold(self) -> None:
        scheduler = self.scheduler
        in_slots = sum(batch.taken for batch in scheduler.batches)
        assert len(scheduler.waiting[Rank.WHOLE]) <= INBOX
        assert len(scheduler.encoding) <= ENCODERS
        under_way = in_slots + len(scheduler.encoded) + len(scheduler.encoding)
        assert under_way <= (SLOTS + ENCODED_AHEAD) * self.batches
        for batch in scheduler.batches:
            assert batch.taken <= SLOTS
            assert not set(batch.running) & set(batch.ending)
            assert all((one.batch, one.slot) == (batch.batch, slot) for slot, one in batch.running.items())


class AnyOrderOfBatches(AnyOrder):
    """The same with several batches."""

    batches = 3


TestAnyOrder = AnyOrder.TestCase
TestAnyOrderOfBatches = AnyOrderOfBatches.TestCase


def test_low_slots_are_filled_first() -> None:
    scheduler = Scheduler(4, 8, 1.0)
    crowd = [utterance() for _ in range(4)]
    submit(scheduler, *crowd)
    while (one := scheduler.next_to_encode()) is not None:
        scheduler.encode_done(one)
    assert [one.slot for one in scheduler.admit(scheduler.batches[0])] == [0, 1, 2, 3]
    scheduler.finish(crowd[2])
    scheduler.finish(crowd[1])
    assert [scheduler.batches[0].free(slot) for slot in (2, 1)] == [crowd[2], crowd[1]]
    late = utterance()
    submit(scheduler, late)
    scheduler.next_to_encode()
    scheduler.encode_done(late)
    assert [one.slot for one in scheduler.admit(scheduler.batches[0])] == [1]


def test_only_those_over_the_limit_have_waited_too_long() -> None:
    scheduler = Scheduler(1, 8, queue_timeout=2.0)
    crowd = [utterance(arrived_at=at) for at in (0.0, 1.0, 1.5)]
    submit(scheduler, *crowd)
    assert scheduler.waited_too_long(now=2.0) == []
    assert scheduler.waited_too_long(now=3.1) == crowd[:2]


def test_short_audio_goes_before_long_audio_that_came_a_little_earlier() -> None:
    scheduler = Scheduler(slots=4, inbox=8, queue_timeout=9.0, encoders=4)
    long, soon, late = utterance(10.0, seconds=30), utterance(11.0, seconds=1), utterance(14.0, seconds=1)
    submit(scheduler, long, soon, late)
    assert [scheduler.next_to_encode() for _ in range(4)] == [soon, long, late, None]
    assert not any(scheduler.waiting.values())


def test_one_core_is_left_to_the_running_unless_a_queue_has_formed() -> None:
    scheduler = Scheduler(slots=4, inbox=8, queue_timeout=9.0, encoders=2)
    submit(scheduler, *(utterance() for _ in range(3)))
    for _ in range(2):
        assert scheduler.next_to_encode() is not None
    assert scheduler.next_to_encode() is None
    scheduler.encode_done(next(iter(scheduler.encoding)))
    scheduler.admit(scheduler.batches[0])
    assert scheduler.next_to_encode() is None
    submit(scheduler, *(utterance() for _ in range(QUEUE - 1)))
    assert scheduler.next_to_encode() is not None


def test_windows_do_not_fill_the_inbox_and_what_waits_to_be_cut_is_counted_apart() -> None:
    scheduler = Scheduler(slots=1, inbox=2, queue_timeout=9.0)
    submit(scheduler, utterance())
    for _ in range(5):
        scheduler.add(utterance(rank=Rank.WINDOW), 0.0)
    scheduler.check_room(1, in_line=2)
    scheduler.check_room(2, long_rows=1, in_line=1)
    full = r"[12] recordings wait already, [12] more do not fit: the inbox holds 2 \(engine.inbox\)"
    for rows in ((2, 0, 0), (1, 1, 2), (2, 1, 2)):
        with pytest.raises(Overloaded, match=full):
            scheduler.check_room(*rows)


def encoded(scheduler: Scheduler, count: int) -> list[Utterance]:
    """The next to be encoded, all of whom wait for a slot then."""
    found = []
    for _ in range(count):
        one = scheduler.next_to_encode()
        assert one is not None
        scheduler.encode_done(one)
        found.append(one)
    return found


def test_live_audio_is_encoded_first_and_other_audio_keeps_a_share() -> None:
    scheduler = Scheduler(slots=40, inbox=40, queue_timeout=9.0, encoders=2)
    submit(scheduler, *(utterance() for _ in range(4)))
    for _ in range(2 * OTHERS_EVERY):
        scheduler.add(utterance(rank=Rank.LIVE), 99.0)
    ranks = [one.rank for one in encoded(scheduler, 2 * OTHERS_EVERY)]
    in_turn = [Rank.LIVE] * (OTHERS_EVERY - 1) + [Rank.WHOLE]
    assert ranks == 2 * in_turn


def test_live_audio_is_taken_on_however_many_files_wait() -> None:
    scheduler = Scheduler(slots=1, inbox=2, queue_timeout=9.0)
    submit(scheduler, utterance(), utterance())
    with pytest.raises(Overloaded):
        scheduler.check_room(1)
    scheduler.check_room(2, is_live=True)
    scheduler.add(utterance(rank=Rank.LIVE), 0.0)
    with pytest.raises(Overloaded, match="1 recordings wait already, 2 more"):
        scheduler.check_room(2, is_live=True)


def test_live_audio_finds_a_slot_while_files_fill_the_others() -> None:
    scheduler = Scheduler(slots=8, inbox=40, queue_timeout=9.0, encoders=2)
    scheduler.add(utterance(rank=Rank.LIVE), 0.0)
    submit(scheduler, *(utterance() for _ in range(20)))
    first, *_ = encoded(scheduler, 6 + ENCODED_AHEAD)
    assert scheduler.next_to_encode() is None
    assert len(scheduler.admit(scheduler.batches[0])) == 6
    late = [utterance(rank=Rank.LIVE) for _ in range(2)]
    for one in late:
        scheduler.add(one, 99.0)
    assert encoded(scheduler, 2) == late
    assert scheduler.admit(scheduler.batches[0]) == late
    for one in (first, *late):
        scheduler.finish(one)
    assert not any(one.rank is Rank.LIVE for one in scheduler.everyone())


def test_slots_are_not_kept_for_live_audio_where_there_is_none() -> None:
    scheduler = Scheduler(slots=8, inbox=40, queue_timeout=9.0, encoders=2)
    submit(scheduler, *(utterance() for _ in range(20)))
    encoded(scheduler, 8)
    assert len(scheduler.admit(scheduler.batches[0])) == 8


def test_steps_are_mostly_of_live_audio_while_there_is_some() -> None:
    scheduler = Scheduler(slots=4, inbox=8, queue_timeout=9.0, encoders=2)
    live, whole, window = (utterance(rank=rank) for rank in Rank)
    for one in (live, whole, window):
        scheduler.add(one, 0.0)
    encoded(scheduler, 3)
    assert scheduler.admit(scheduler.batches[0]) == [live, whole, window]
    steps = [{one for _, one in scheduler.batches[0].next_to_step()} for _ in range(LATER_EVERY**2)]
    assert [sum(one in rows for rows in steps) for one in (live, whole, window)] == [9, 3, 1]
