"""The loop of a batch: free slots, admit, step all rows, as long as it has any. Here a step is taken."""

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from asrloop.engine.family import Batch, Emission, Ended
from asrloop.engine.slots import BatchSlots
from asrloop.engine.utterance import Utterance
from asrloop.engine.work import Work
from asrloop.errors import DecodeFailed


class StepLoop:
    """One thread at a time runs it: the ``admit``, ``step`` and ``finish`` of its ``batch`` are called nowhere else."""

    def __init__(self, work: Work, batch: Batch[Any], slots: BatchSlots, stepped: Callable[[int, float], None]) -> None:
        """``slots`` are those of ``batch``; ``stepped`` hears of each step: its rows, and how many seconds it took."""
        self._work = work
        self._batch = batch
        self._slots = slots
        self._stepped = stepped

    def run(self) -> None:
        """Step until the batch is empty."""
        work, slots = self._work, self._slots
        while True:
            self._free_slots()
            with work.lock:
                admitted = work.scheduler.admit(slots)
                if not slots.running:
                    if slots.ending:
                        continue
                    slots.is_stepped = False
                    return
            for utterance in admitted:
                self._admit(utterance)
            self._free_slots()  # a row whose draft was right is done by now: it must not wait for the others' step
            with work.lock:
                running = slots.next_to_step()
                work.wake()
            if not running:
                continue
            started = work.clock()
            emissions = self._step([slot for slot, _ in running])
            self._stepped(len(running), work.clock() - started)
            with work.lock:
                for (_, utterance), emission in zip(running, emissions, strict=True):
                    work.decided(utterance, emission)

    def _admit(self, utterance: Utterance) -> None:
        if utterance.slot is None:
            raise AssertionError("admitted without a slot")
        work, admitted_at = self._work, self._work.clock()
        try:
            emission = self._batch.admit(utterance.slot, utterance.encoded, utterance.options)
        except Exception as error:  # whatever the model raises concerns this request alone
            with work.lock:
                work.fail_row(utterance, DecodeFailed(f"{utterance.place}admission failed: {error}"))
            return
        finally:
            utterance.encoded = None
        with work.lock:
            if utterance.is_finished:  # cancelled meanwhile
                return
            utterance.admitted_at = admitted_at
            if emission.tokens or emission.done:
                draft = utterance.options.draft.tokens
                agreed = takewhile(lambda pair: pair[0] == pair[1], zip(draft, emission.tokens, strict=False))
                utterance.draft_accepted = sum(1 for _ in agreed)
                work.decided(utterance, emission)

    def _step(self, slots: list[int]) -> list[Emission | DecodeFailed]:
        """Step all rows at once; when that fails, one by one, so that only the row at fault fails."""
        try:
            return list(self._batch.step(slots))
        except Exception as error:  # whatever the model raises
            if len(slots) == 1:
                return [DecodeFailed(f"decoding failed: {error}")]
            return [emission for slot in slots for emission in self._step([slot])]

    def _free_slots(self) -> None:
        """Tell the family of the rows that ended, however they did, and give their slots back."""
        work, slots = self._work, self._slots
        if not slots.ending:
            return
        with work.lock:
            ending = [(slot, one, () if one.is_finished else tuple(one.tokens)) for slot, one in slots.ending.items()]
        for slot, utterance, kept in ending:
            found: Ended | DecodeFailed
            try:
                found = self._batch.finish(slot, kept)
            except Exception as error:  # whatever the model raises concerns this request alone
                found = DecodeFailed(f"{utterance.place}the end of decoding failed: {error}")
            with work.lock:
                work.freed(slots, slot, found)
