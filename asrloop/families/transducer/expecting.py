"""Terms that a caller expects, at the joint: where the model says a token, one of a term may be said instead, and be taken back.

Blanks stand: a term takes the place of what the model says, and is not put where the model says nothing.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from asrloop.engine.family import Emission, joined
from asrloop.families.bias import Bias, Chosen
from asrloop.families.transducer.decoders import Floats, TransducerDecoder


class Stand(NamedTuple):
    """Where a slot stands in its audio."""

    frame: int
    tokens_here: int


class _Back(NamedTuple):
    """Where to go on when a term is taken back: behind the model's own token."""

    state: Any
    stand: Stand
    time: float


@dataclass
class Expecting:
    """The state of one slot whose caller expects terms."""

    bias: Bias
    _held: list[Emission] = field(default_factory=list)
    _back: _Back | None = None

    def decide(
        self, decoder: TransducerDecoder, slot: int, own: int, scores: Floats, stand: Stand, time: float
    ) -> tuple[Emission, Stand]:
        """Append a token where the model says ``own`` at ``time``, in seconds, and stands at ``stand`` afterwards.

        ``scores`` are the logits of all tokens, f32 [C]. Return what cannot be taken back any more, and where the slot stands.
        """
        chosen = self.bias.choose(own, scores - _log_sum(scores))
        if chosen.taken_back:
            return self._take_back(decoder, slot, chosen)
        if self.bias.unsure == 1:
            before = decoder.state(slot)
            decoder.accept([slot], [own])
            self._back = _Back(decoder.state(slot), stand, time)
            decoder.restore(slot, before)
        decoder.accept([slot], [chosen.token])
        self._held.append(Emission([chosen.token], [time], done=False, log_probs=[chosen.log_prob]))
        return self._told(len(self._held) - self.bias.unsure), stand

    def end(self, decoder: TransducerDecoder, slot: int, stand: Stand) -> tuple[Emission, Stand]:
        """Take the end of the audio. A term that is half said is taken back, and the slot stands earlier then."""
        chosen = self.bias.end()
        if chosen is not None:
            return self._take_back(decoder, slot, chosen)
        return self._told(len(self._held)), stand

    def _take_back(self, decoder: TransducerDecoder, slot: int, chosen: Chosen) -> tuple[Emission, Stand]:
        back = self._back
        if back is None:
            raise AssertionError("taken back without a trial")
        decoder.restore(slot, back.state)
        del self._held[-chosen.taken_back :]
        self._held.append(Emission([chosen.token], [back.time], done=False, log_probs=[chosen.log_prob]))
        return self._told(len(self._held)), back.stand

    def _told(self, ready: int) -> Emission:
        told, self._held = self._held[:ready], self._held[ready:]
        return joined(told)


def _log_sum(scores: Floats) -> float:
    greatest = scores.max()
    return float(greatest + np.log(np.exp(scores - greatest).sum()))
