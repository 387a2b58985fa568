"""The scheduler: which utterance is encoded, admitted and stepped next. Policy only: no thread, no clock, no model.

An utterance moves  waiting -> encoding -> encoded -> running (in a slot) -> ending -> [gated] -> finished.  Utterances are encoded
by their turns, which the engine gives: the later they came and the longer they are, the later. Behind that it is first come, first
served. Live audio goes before all other, which keeps a share of the encodings and steps. An encoded utterance gets a slot in the
emptiest of the running batches.
"""

import heapq
from collections import deque
from itertools import count

from asrloop.engine.slots import BatchSlots
from asrloop.engine.utterance import Rank, State, Utterance
from asrloop.errors import InvalidAudio, Overloaded

# Utterances encoded for each batch ahead of a free slot, so that a slot that falls free is filled at once.
ENCODED_AHEAD = 2
# A core is left to each batch that is stepped, unless so many wait for each batch that getting them into it comes first.
QUEUE = 3
# Of so many encodings one is of other audio, if any waits, however much live audio does.
OTHERS_EVERY = 4
# While one of the last so many encodings was of live audio, a quarter of the slots is kept for it.
LATELY = 32


_Turn = tuple[float, int, Utterance]
"""The turn in seconds, a number that keeps equal turns in order of arrival, and the utterance."""


class Scheduler:
    """Slots and the queue before them.

    Invariants: an utterance is in the container of its state and in no other; at most ``inbox`` whole recordings are taken on while
    they wait, and parts of theirs, and what is decoded once more, may come later; as many of live audio; at most ``encoders``
    utterances are encoded side by side; at most ``slots`` run or end in a batch, each in a slot of its own; at most
    ``slots + ENCODED_AHEAD`` for each batch are between the start of their encoding and their end.
    """

    def __init__(self, slots: int, inbox: int, queue_timeout: float, encoders: int = 1, batches: int = 1) -> None:
        """``slots`` are those of each of the ``batches``; ``inbox`` and ``encoders`` are for all together."""
        self.batches = [BatchSlots(number, slots) for number in range(batches)]
        self.slots = slots * batches
        self.inbox = inbox
        self.queue_timeout = queue_timeout
        self.encoders = encoders
        self.waiting: dict[Rank, dict[Utterance, None]] = {rank: {} for rank in Rank}
        """Waiting utterances in order of arrival."""
        self._turns: dict[Rank, list[_Turn]] = {rank: [] for rank in Rank}
        """Heaps of the waiting utterances by turn. Utterances that are no longer waiting are skipped."""
        self._arrivals = count()
        self.encoding: set[Utterance] = set()
        """With those that ended meanwhile: their encoding goes on until the graph returns."""
        self.encoded: deque[Utterance] = deque()
        """Live audio first, each in the order in which it was encoded."""
        self.listening = 0
        """How many things are or will be found out about audio beside its encoding. Each takes the place of one; live audio, for
        which that would be long, may pass one of them."""
        self.gated: set[Utterance] = set()
        self._live_in_a_row = 0
        """Encodings of live audio since the last one of other audio."""
        self._since_live = LATELY
        """Encodings since the last one of live audio."""

    def __repr__(self) -> str:
        return (
            f"Scheduler({sum(map(len, self.waiting.values()))} waiting, {len(self.encoding)} encoding, "
            f"{len(self.encoded)} encoded, {len(self.running)} of {self.slots} slots running, {self._taken} taken, "
            f"{len(self.gated)} gated)"
        )

    @property
    def running(self) -> list[Utterance]:
        """Running utterances of all batches."""
        return [utterance for batch in self.batches for utterance in batch.running.values()]

    @property
    def is_idle(self) -> bool:
        """True when no utterance is left."""
        return not self.everyone()

    @property
    def is_waiting(self) -> bool:
        """True when an utterance waits to be encoded."""
        return any(self.waiting.values())

    @property
    def has_only_one(self) -> bool:
        """True when there is no other utterance than the one that is being encoded."""
        if self.encoded or self.gated or len(self.encoding) > 1 or self.is_waiting:
            return False
        ending = (one for batch in self.batches for one in batch.ending.values())
        return not any(batch.running for batch in self.batches) and all(one.is_finished for one in ending)

    def check_room(self, rows: int, long_rows: int = 0, in_line: int = 0, *, is_live: bool = False) -> None:
        """Raise Overloaded when the inbox has no room for ``rows`` recordings now, InvalidAudio when it never will.

        ``long_rows`` of them are to be cut, which ``in_line`` others wait for already. These are counted apart: long recordings
        wait long, and short audio must not be refused for that; nor live audio for any of the two.
        """
        if rows > self.inbox:
            raise InvalidAudio(
                f"a batch of {rows} rows, or channels of rows, never fits: the inbox holds {self.inbox} (engine.inbox); send fewer"
            )
        whole = sum(not utterance.is_under_way for utterance in self.waiting[Rank.LIVE if is_live else Rank.WHOLE])
        for wait, more in ((whole, rows - long_rows), (in_line, long_rows)):
            if more and wait + more > self.inbox:
                raise Overloaded(
                    f"{wait} recordings wait already, {more} more do not fit: the inbox holds {self.inbox} (engine.inbox); "
                    "retry later"
                )

    def add(self, utterance: Utterance, turn: float) -> None:
        """Queue an utterance of a request that was taken on. The smallest ``turn`` is encoded first."""
        utterance.state = State.WAITING
        self.waiting[utterance.rank][utterance] = None
        heapq.heappush(self._turns[utterance.rank], (turn, next(self._arrivals), utterance))

    def next_to_encode(self) -> Utterance | None:
        """Move the utterance whose turn it is to encoding, unless enough are being encoded or are encoded ahead."""
        turns = self._next_turns()
        if turns is None:
            return None
        utterance = heapq.heappop(turns)[2]
        del self.waiting[utterance.rank][utterance]
        utterance.state = State.ENCODING
        self.encoding.add(utterance)
        is_live = utterance.rank is Rank.LIVE
        self._live_in_a_row = self._live_in_a_row + 1 if is_live else 0
        self._since_live = 0 if is_live else self._since_live + 1
        return utterance

    @property
    def may_encode(self) -> bool:
        """True when :meth:`next_to_encode` has one."""
        return self._next_turns() is not None

    def _next_turns(self) -> list[_Turn] | None:
        """Return the heap whose first is to be encoded next.

        One encoder is idle for each batch that is stepped, unless a queue has formed. Windows do not count: they hold an encoder
        for long, hence some, as many as there are batches, are always left to others, which are short.
        """
        busy = len(self.encoding) + self.listening
        if len(self.encoding) >= self.encoders or busy > self.encoders or not self.is_waiting:
            return None
        batches = len(self.batches)
        under_way = len(self.encoding) + len(self.encoded) + self._taken
        room = self.slots + ENCODED_AHEAD * batches - under_way
        most = max(1, self.encoders - batches)
        windows = sum(utterance.rank is Rank.WINDOW for utterance in self.encoding)
        queue = sum(map(len, self.waiting.values()))
        stepped = sum(bool(batch.running) for batch in self.batches) if queue < QUEUE * batches else 0
        at_once = max(1, self.encoders - stepped)
        heads = {}
        for rank, turns in self._turns.items():
            while turns and turns[0][2] not in self.waiting[rank]:
                heapq.heappop(turns)
            has_room = room > 0 if rank is Rank.LIVE else room > self._kept_for_live and busy < self.encoders
            has_encoder = windows < most if rank is Rank.WINDOW else len(self.encoding) - windows < at_once
            if turns and has_room and has_encoder:
                heads[rank] = turns
        live = heads.pop(Rank.LIVE, None)
        if live and (not heads or self._live_in_a_row + 1 < OTHERS_EVERY):
            return live
        return min(heads.values(), key=lambda turns: turns[0], default=None)

    @property
    def _kept_for_live(self) -> int:
        """Slots that only live audio may take."""
        return self.slots // 4 if self._since_live < LATELY else 0

    def encode_done(self, utterance: Utterance) -> None:
        """Note that an encoding ended, and let the utterance be admitted unless it is finished."""
        self.encoding.discard(utterance)
        if utterance.is_finished:
            return
        utterance.state = State.ENCODED
        before = len(self.encoded)
        if utterance.rank is Rank.LIVE:
            before = next((place for place, one in enumerate(self.encoded) if one.rank is not Rank.LIVE), before)
        self.encoded.insert(before, utterance)

    def admit(self, batch: BatchSlots) -> list[Utterance]:
        """Give free slots of ``batch`` to encoded utterances and return those, as long as no batch is emptier."""
        admitted = []
        while (emptiest := self.next_to_admit()) is not None and emptiest.taken == batch.taken:
            utterance = self.encoded.popleft()
            batch.take(utterance)
            admitted.append(utterance)
        return admitted

    def next_to_admit(self) -> BatchSlots | None:
        """Return the emptiest batch, if an encoded utterance may have a slot of it."""
        if not self.encoded:
            return None
        kept = 0 if self.encoded[0].rank is Rank.LIVE else self._kept_for_live
        return min(self.batches, key=lambda batch: batch.taken) if self.slots - self._taken > kept else None

    def next_to_be_stepped(self) -> BatchSlots | None:
        """Return a batch that has something to do, and no thread."""
        emptiest = self.next_to_admit()
        return next(
            (
                batch
                for batch in self.batches
                if not batch.is_stepped and (batch.running or batch.ending or batch is emptiest)
            ),
            None,
        )

    @property
    def _taken(self) -> int:
        return sum(batch.taken for batch in self.batches)

    def decode_done(self, utterance: Utterance) -> None:
        """Take a running utterance out of its batch: it has all its tokens. Its slot is taken until the family has freed it."""
        self._leave_batch(utterance)
        utterance.state = State.ENDING

    def gate(self, utterance: Utterance) -> None:
        """Keep an utterance, which was ending, until the speech gate answers."""
        utterance.state = State.GATED
        self.gated.add(utterance)

    def finish(self, utterance: Utterance) -> None:
        """Take an utterance out of wherever it is; its slot, if it has one, is ending. A second time does nothing.

        Its encoding, if that is under way, takes up an encoder until :meth:`encode_done`."""
        match utterance.state:
            case State.WAITING:
                del self.waiting[utterance.rank][utterance]
                if not self.waiting[utterance.rank]:
                    self._turns[utterance.rank].clear()
            case State.ENCODED:
                self.encoded.remove(utterance)
            case State.RUNNING:
                self._leave_batch(utterance)
            case State.GATED:
                self.gated.discard(utterance)
            case State.HELD | State.ENCODING | State.ENDING | State.FINISHED:
                pass
        utterance.state = State.FINISHED

    def waited_too_long(self, now: float) -> list[Utterance]:
        """Return waiting utterances over the queue's time limit. Arrival order makes them a prefix of each queue, but for parts of
        recordings that are being worked on: these are not refused."""
        late = []
        for queue in self.waiting.values():
            for utterance in queue:
                if now - utterance.arrived_at <= self.queue_timeout:
                    break
                if not utterance.is_under_way:
                    late.append(utterance)
        return late

    def everyone(self) -> list[Utterance]:
        """Return all utterances that are not finished."""
        ending = [one for batch in self.batches for one in batch.ending.values() if not one.is_finished]
        waiting = [utterance for queue in self.waiting.values() for utterance in queue]
        encoding = [one for one in self.encoding if not one.is_finished]
        return [*self.gated, *ending, *self.running, *self.encoded, *encoding, *waiting]

    def _leave_batch(self, utterance: Utterance) -> None:
        if utterance.batch is None:
            raise AssertionError("running in no batch")
        self.batches[utterance.batch].leave(utterance)
