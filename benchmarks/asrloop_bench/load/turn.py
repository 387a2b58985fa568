"""The results of one turn of closed-loop callers, and the numbers that are drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Request(NamedTuple):
    """One request of a caller: its clip, and its begin and end on the monotonic clock, in seconds."""

    caller: int
    clip: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Turn:
    """Requests of ``callers`` closed loops that sent until ``until``, and the texts that each clip got."""

    callers: int
    until: float
    requests: Sequence[Request]
    texts: dict[str, set[str]]

    @property
    def latencies(self) -> list[float]:
        """Seconds of requests that were sent while all callers were in their loops; of all where there are none."""
        return [one.seconds for one in self._steady()]

    def latencies_of(self, clips: Sequence[str]) -> list[float]:
        """Return the same, of these clips only."""
        return [one.seconds for one in self._steady() if one.clip in clips]

    def seconds_per_request(self) -> float:
        """Return the inverse of throughput while every caller has a request under way.

        Counted from the moment when every caller has had its first answer. A request counts by the share of its time that lies
        within, so that answers that come in bunches do not make it jump. Where that moment lies behind the turn: elapsed time over
        requests.
        """
        begin = self._all_begun()
        if begin >= self.until:  # the requests are longer than the turn
            elapsed = max(one.ended for one in self.requests) - min(one.began for one in self.requests)
            return elapsed / len(self.requests)
        done = sum(max(0.0, min(one.ended, self.until) - max(one.began, begin)) / one.seconds for one in self.requests)
        return (self.until - begin) / done

    def _all_begun(self) -> float:
        first: dict[int, float] = {}
        for one in self.requests:
            first[one.caller] = min(one.ended, first.get(one.caller, one.ended))
        return max(first.values())

    def _steady(self) -> list[Request]:
        begin = self._all_begun()
        return [one for one in self.requests if one.began >= begin] or list(self.requests)
