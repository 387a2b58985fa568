"""How an utterance is encoded: resampled, parted at long pauses, encoded, admitted; and how the speech gate is asked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.audio import Samples, resampled
from asrloop.engine.attribution import Diarizer
from asrloop.engine.family import Family
from asrloop.engine.options import SPEAKERS
from asrloop.engine.recording import Recording
from asrloop.engine.request import Request
from asrloop.engine.utterance import Utterance
from asrloop.engine.work import Work
from asrloop.errors import DecodeFailed
from asrloop.speech.pauses import Spoken

HasSpeech = Callable[[Samples], bool]
FindSpoken = Callable[[Samples], Spoken]
FindQuiet = Callable[[Samples], NDArray[np.bool_]]


class Encoding:
    """Several threads may encode and listen at once."""

    def __init__(
        self,
        work: Work,
        family: Family[Any],
        has_speech: HasSpeech | None,
        find_spoken: FindSpoken | None,
        find_quiet: FindQuiet | None,
    ) -> None:
        """Without ``find_spoken`` nothing is parted; ``find_quiet`` is only asked where somebody wants the times of words."""
        self._work = work
        self._family = family
        self._has_speech = has_speech
        self._find_spoken = find_spoken
        self._find_quiet = find_quiet

    def encode(self, utterance: Utterance, alone: bool) -> None:
        """Encode an utterance; ``alone`` where there is no other. Whether it is speech is asked beside its first steps."""
        try:
            samples = resampled(utterance.take_samples(), utterance.sample_rate)
            self._let_speakers_be_found(utterance, samples)
            samples = self._first_part(utterance, samples)
            again = {"again": True} if utterance.is_again else {}
            encoded = self._family.encode(samples, utterance.options, alone=alone, **again)
            if utterance.is_speech and not utterance.is_again:
                self._listen_for_pauses(utterance, samples)
        except Exception as error:  # whatever the model raises concerns this request alone
            with self._work.lock:
                self._work.fail_row(utterance, DecodeFailed(f"{utterance.place}encoding failed: {error}"))
                self._work.scheduler.encode_done(utterance)
            return
        with self._work.lock:
            if not utterance.is_speech and not utterance.is_finished:
                self._work.listen(partial(self._ask_gate, utterance, samples))
            self._work.encoded(utterance, encoded)

    def _first_part(self, utterance: Utterance, samples: Samples) -> Samples:
        """Return what is to be encoded now: all, or what comes before the first long pause. The rest waits like other audio."""
        if not utterance.may_be_parted or self._find_spoken is None:
            return samples
        found = self._find_spoken(samples)
        utterance.spoken = found.start, found.end
        if not found.parts:
            return samples
        with self._work.lock:
            self._work.part(utterance, found)
            self._work.wake()
        return found.parts[0].samples

    def _listen_for_pauses(self, utterance: Utterance, samples: Samples) -> None:
        """Listen before the utterance can be finished: while its steps are made, where that waits for the gate."""
        if utterance.options.word_times and self._find_quiet is not None:
            utterance.quiet = self._find_quiet(samples)

    def _let_speakers_be_found(self, utterance: Utterance, samples: Samples) -> None:
        """Let it be found out who speaks in audio that is not cut, where somebody asks. What is cut is heard where it is cut."""
        if utterance.options.diarize != SPEAKERS:
            return
        with self._work.lock:
            if utterance.is_finished:
                return
            recording = self._work.ledger.recording(utterance)
            if recording.long is None and recording.diarizer is not None and not utterance.is_under_way:
                request = self._work.ledger.owner(utterance)
                self._work.listen(partial(self._find_speakers, request, recording, recording.diarizer, samples))
                self._work.wake()

    def _find_speakers(self, request: Request, recording: Recording, diarizer: Diarizer, samples: Samples) -> None:
        try:
            diarizer.hear(samples)
            turns = diarizer.finish()
        except Exception as error:  # whatever the diarizer raises concerns this request alone
            with self._work.lock:
                self._work.fail(request, DecodeFailed(f"telling speakers apart failed: {error}"))
            return
        with self._work.lock:
            self._work.heard(request, recording, turns)

    def _ask_gate(self, utterance: Utterance, samples: Samples) -> None:
        """Ask after the encoding, because nearly all audio has speech: waiting for the answer would hold up everybody."""
        try:
            if utterance.is_finished:
                return
            self._listen_for_pauses(utterance, samples)
            has_speech = self._has_speech is None or self._has_speech(samples)
        except Exception as error:  # whatever the detector raises concerns this request alone
            with self._work.lock:
                self._work.fail_row(utterance, DecodeFailed(f"listening for speech failed: {error}"))
            return
        with self._work.lock:
            self._work.gate_answered(utterance, has_speech=has_speech)
