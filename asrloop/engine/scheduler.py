"""Who is encoded, admitted and stepped next. Policy only: no thread, no clock, no model; the engine calls it under its lock.

An utterance moves  waiting -> encoding -> encoded -> running (in a slot) -> decoded -> finished.  The order of encoding is that of
arrival, but short audio goes before long audio that came a little earlier; everything behind it is first come, first served.
"""

import heapq
from collections import deque
from itertools import count

from asrloop.engine.utterance import State, Utterance
from asrloop.errors import InvalidAudio, Overloaded

# Utterances encoded ahead of a free slot, so that a slot that falls free is filled at once.
ENCODED_AHEAD = 2
# While rows are stepped one core is left to them, unless so many wait that getting them into the batch comes first.
QUEUE = 3
# Windows take part in one of so many steps while there is a whole recording.
WINDOWS_EVERY = 3
# How many seconds earlier an utterance would have had to come for each second of its audio that it is longer than another.
LENGTH_WEIGHT = 0.1


_Turn = tuple[float, int, Utterance]
"""When it comes, in seconds; a number that keeps equals in order of arrival; whose."""


class Scheduler:
    """Slots and the queue before them.

    Invariants: an utterance is in the container of its state and in no other; at most ``inbox`` wait, windows apart; at most
    ``encoders`` are encoded side by side; at most ``slots`` run, each in a slot of its own; at most ``slots + ENCODED_AHEAD``
    are between the start of their encoding and their end.
    """

    def __init__(self, slots: int, inbox: int, queue_timeout: float, encoders: int = 1) -> None:
        self.slots = slots
        self.inbox = inbox
        self.queue_timeout = queue_timeout
        self.encoders = encoders
        self.waiting: dict[Utterance, None] = {}
        """In order of arrival."""
        self._turns: dict[bool, list[_Turn]] = {False: [], True: []}
        """Heaps of those that wait, by their turn: whole recordings, and windows of longer ones. Who left is passed over."""
        self._arrivals = count()
        self.encoding: set[Utterance] = set()
        self.encoded: deque[Utterance] = deque()
        self.running: dict[int, Utterance] = {}
        self.decoded: set[Utterance] = set()
        self._without_windows = 0
        """Steps since the last one with windows."""
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

    def submit(self, *utterances: Utterance, later: int = 0) -> None:
        """Queue utterances, all or none. Their request has as many other rows as ``later`` says, which are still to be cut.

        Raises Overloaded when the inbox has no room for them now, InvalidAudio when it never will.
        """
        rows = len(utterances) + later
        if rows > self.inbox:
            raise InvalidAudio(
                f"a batch of {rows} rows never fits: the inbox holds {self.inbox} (engine.inbox); send fewer rows"
            )
        if len(self.waiting) + rows > self.inbox:
            raise Overloaded(
                f"{len(self.waiting)} utterances wait already, {rows} more do not fit: "
                f"the inbox holds {self.inbox} (engine.inbox); retry later"
            )
        for utterance in utterances:
            self.add(utterance)

    def add(self, utterance: Utterance) -> None:
        """Queue an utterance of a request that was taken on already. Its turn is the later the more of that request is under way,
        so that requests take turns, however many rows and windows they have."""
        self.waiting[utterance] = None
        request = utterance.request
        request.seconds_under_way += utterance.audio_seconds
        turn = utterance.arrived_at + LENGTH_WEIGHT * request.seconds_under_way
        heapq.heappush(self._turns[utterance.is_window], (turn, next(self._arrivals), utterance))

    def next_to_encode(self) -> Utterance | None:
        """Move the utterance whose turn it is to encoding, unless enough are being encoded or are encoded ahead."""
        under_way = len(self.encoding) + len(self.encoded) + len(self.running)
        if not self.waiting or under_way >= self.slots + ENCODED_AHEAD or len(self.encoding) >= self.encoders:
            return None
        utterance = self._next_turn()
        if utterance is None:
            return None
        del self.waiting[utterance]
        utterance.state = State.ENCODING
        self.encoding.add(utterance)
        return utterance

    def _next_turn(self) -> Utterance | None:
        """While rows are stepped, one encoder is idle unless a queue has formed. Windows do not count: they hold an encoder for
        long, hence one is always left to whole recordings, which are short."""
        most = max(1, self.encoders - 1)
        windows = sum(utterance.is_window for utterance in self.encoding)
        at_once = most if self.running and len(self.waiting) < QUEUE else self.encoders
        heads = []
        for is_window, turns in self._turns.items():
            while turns and turns[0][2] not in self.waiting:
                heapq.heappop(turns)
            if turns and (windows < most if is_window else len(self.encoding) - windows < at_once):
                heads.append(turns)
        return heapq.heappop(min(heads, key=lambda turns: turns[0]))[2] if heads else None

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

    def next_to_step(self) -> list[tuple[int, Utterance]]:
        """The running by their slots. While whole recordings are among them, windows of longer ones seldom take part: somebody
        waits for the former, and steps of a few short rows are much faster."""
        rows = sorted(self.running.items())
        whole = [row for row in rows if not row[1].is_window]
        self._without_windows = (self._without_windows + 1) % WINDOWS_EVERY if whole else 0
        return whole if self._without_windows else rows

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
                    for turns in self._turns.values():
                        turns.clear()
            case State.ENCODING:
                self.encoding.discard(utterance)
            case State.ENCODED:
                self.encoded.remove(utterance)
            case State.RUNNING:
                self._leave_slot(utterance)
            case State.DECODED:
                self.decoded.discard(utterance)
            case State.FINISHED:
                return
        utterance.state = State.FINISHED
        utterance.request.seconds_under_way -= utterance.audio_seconds

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
