"""The slots of one running batch: who is in which, and who takes part in the next step. Policy only, like the scheduler."""

import heapq

from asrloop.engine.utterance import Rank, State, Utterance

# Rows of a later rank take part in one of so many steps while there are rows of an earlier one.
LATER_EVERY = 3


class BatchSlots:
    """Invariant: a slot is free, running or ending."""

    def __init__(self, batch: int, slots: int) -> None:
        """``batch`` is its number, from 0."""
        self.batch = batch
        self.is_stepped = False
        """True while a thread steps it."""

        self.taken = 0
        """Number of slots that are not free."""
        self.running: dict[int, Utterance] = {}
        self.ending: dict[int, Utterance] = {}
        """Slots that the family has yet to free."""
        self._free = list(range(slots))  # a heap: low slots first, so that rows seldom change places
        self._without_later = dict.fromkeys(Rank, 0)
        """Steps since the last one with rows of a later rank."""

    def take(self, utterance: Utterance) -> None:
        """Give an utterance a free slot."""
        utterance.state = State.RUNNING
        utterance.batch, utterance.slot = self.batch, heapq.heappop(self._free)
        self.running[utterance.slot] = utterance
        self.taken += 1

    def next_to_step(self) -> list[tuple[int, Utterance]]:
        """Return the running by their slots. While rows of an earlier rank are among them, those of a later one seldom take part:
        somebody waits for the former, and steps of a few short rows are much faster."""
        rows = sorted(self.running.items())
        for rank in Rank:
            is_there = any(utterance.rank is rank for _, utterance in rows)
            self._without_later[rank] = (self._without_later[rank] + 1) % LATER_EVERY if is_there else 0
            if self._without_later[rank]:
                return [row for row in rows if row[1].rank <= rank]
        return rows

    def leave(self, utterance: Utterance) -> None:
        """Take a running utterance out of the batch. Its slot is taken until :meth:`free`."""
        if utterance.slot is None:
            raise AssertionError("running without a slot")
        self.ending[utterance.slot] = self.running.pop(utterance.slot)

    def free(self, slot: int) -> Utterance:
        """Return an ending utterance whose slot may be given to another now."""
        heapq.heappush(self._free, slot)
        self.taken -= 1
        return self.ending.pop(slot)
