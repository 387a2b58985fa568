"""Who is encoded, admitted and stepped next. Policy only: no thread, no clock, no model; the engine calls it under its lock.

An utterance moves  waiting -> encoding -> encoded -> running (in a slot) -> decoded -> finished.  The order of encoding is that of
arrival, but short audio goes before long audio that came a little earlier; everything behind it is first come, first served.
"""

import heapq
from collections import deque
from itertools import count

from asrloop.engine.errors import InvalidAudio, Overloaded
from asrloop.engine.utterance import State, Utterance

# Utterances encoded ahead of a free slot, so that a slot that falls free is filled at once.
ENCODED_AHEAD = 2
# While rows are stepped one core is left to them, unless so many wait that getting them into the batch comes first.
QUEUE = 3
# How many seconds earlier an utterance would have had to come for each second of its audio that it is longer than another.
LENGTH_WEIGHT = 0.1


class Scheduler:
    """Slots and the queue before them.

    Invariants: an utterance is in the container of its state and in no other; at most ``inbox`` wait; at most ``encoders``
    are encoded side by side; at most ``slots`` run, each in a slot of its own; at most ``slots + ENCODED_AHEAD`` are between
    the start of their encoding and their end.
    """

    def __init__(self, slots: int, inbox: int, queue_timeout: float, encoders: int = 1) -> None:
        self.slots = slots
        self.inbox = inbox
        self.queue_timeout = queue_timeout
        self.encoders = encoders
        self.waiting: dict[Utterance, None] = {}
        """In order of arrival."""
        self._turns: list[tuple[float, int, Utterance]] = []
        """A heap of those that wait, by their turn; who left is passed over. The number keeps equals in order of arrival."""
        self._arrivals = count()
        self.encoding: set[Utterance] = set()
        self.encoded: deque[Utterance] = deque()
        self.running: dict[int, Utterance] = {}
        self.decoded: set[Utterance] = set()
        self._free_slots = list(range(slots))  # a heap: low slots first, so that rows seldom change places

    def __repr__(self) -> str:
        return (
            f"Scheduler({len(self.waiting)} waiting, {len(self.encoding)} encoding, {len(self.encoded)} encoded, "
            f"{len(self.running)} of {self.slots} slots running, {len(self.decoded)} decoded)"
        )

    @property
    def is_idle(self) -> bool:
        """Whether no utterance is left."""
        return not self.everyone()

    def submit(self, *utterances: Utterance) -> None:
        """Queue utterances, all or none.

        Raises Overloaded when the inbox has no room for them now, InvalidAudio when it never will.
        """
        if len(utterances) > self.inbox:
            raise InvalidAudio(
                f"a batch of {len(utterances)} rows never fits: the inbox holds {self.inbox} (engine.inbox); send fewer rows"
            )
        if len(self.waiting) + len(utterances) > self.inbox:
            raise Overloaded(
                f"{len(self.waiting)} utterances wait already, {len(utterances)} more do not fit: "
                f"the inbox holds {self.inbox} (engine.inbox); retry later"
            )
        for utterance in utterances:
            self.waiting[utterance] = None
            turn = utterance.arrived_at + LENGTH_WEIGHT * utterance.audio_seconds
            heapq.heappush(self._turns, (turn, next(self._arrivals), utterance))

    def next_to_encode(self) -> Utterance | None:
        """Move the utterance whose turn it is to encoding, unless enough are being encoded or are encoded ahead."""
        under_way = len(self.encoding) + len(self.encoded) + len(self.running)
        side_by_side = self.encoders
        if self.running and len(self.waiting) < QUEUE:
            side_by_side = max(1, self.encoders - 1)
        if not self.waiting or under_way >= self.slots + ENCODED_AHEAD or len(self.encoding) >= side_by_side:
            return None
        while (utterance := heapq.heappop(self._turns)[2]) not in self.waiting:
            pass
        del self.waiting[utterance]
        utterance.state = State.ENCODING
        self.encoding.add(utterance)
        return utterance

    def encode_done(self, utterance: Utterance) -> None:
        """The utterance's encoding ended well: it may be admitted."""
        self.encoding.discard(utterance)
        utterance.state = State.ENCODED
        self.encoded.append(utterance)

    def admit(self) -> list[Utterance]:
        """Give free slots to encoded utterances and return those, each with its ``slot`` set."""
        admitted = []
        while self.encoded and self._free_slots:
            utterance = self.encoded.popleft()
            utterance.state = State.RUNNING
            utterance.slot = heapq.heappop(self._free_slots)
            self.running[utterance.slot] = utterance
            admitted.append(utterance)
        return admitted

    def decode_done(self, utterance: Utterance) -> None:
        """A running utterance has all its tokens: its slot is free again, it is not finished yet."""
        self._leave_slot(utterance)
        utterance.state = State.DECODED
        self.decoded.add(utterance)

    def finish(self, utterance: Utterance) -> None:
        """Take an utterance out of wherever it is; its slot, if it has one, is free again. A second time does nothing."""
        match utterance.state:
            case State.WAITING:
                del self.waiting[utterance]
                if not self.waiting:
                    self._turns.clear()
            case State.ENCODING:
                self.encoding.discard(utterance)
            case State.ENCODED:
                self.encoded.remove(utterance)
            case State.RUNNING:
                self._leave_slot(utterance)
            case State.DECODED:
                self.decoded.discard(utterance)
        utterance.state = State.FINISHED

    def waited_too_long(self, now: float) -> list[Utterance]:
        """Waiting utterances over the queue's time limit. Arrival order makes them a prefix of the queue."""
        late = []
        for utterance in self.waiting:
            if now - utterance.arrived_at <= self.queue_timeout:
                break
            late.append(utterance)
        return late

    def everyone(self) -> list[Utterance]:
        """All utterances that are not finished."""
        return [*self.decoded, *self.running.values(), *self.encoded, *self.encoding, *self.waiting]

    def _leave_slot(self, utterance: Utterance) -> None:
        if utterance.slot is None:
            raise AssertionError("running without a slot")
        del self.running[utterance.slot]
        heapq.heappush(self._free_slots, utterance.slot)
