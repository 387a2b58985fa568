"""The points of load that a sweep measures, and how many requests each gets. Measures nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIXED = "mixed"
_FEWEST_REQUESTS, _MOST_REQUESTS = 10, 3000


@dataclass(frozen=True)
class Point:
    """One run of perf_analyzer: a closed loop of ``callers``, or Poisson arrivals at a share of the best throughput."""

    clips: str
    protocol: str
    callers: int | None = None
    rate_share: float | None = None

    @property
    def name(self) -> str:
        load = f"{self.callers} callers" if self.rate_share is None else f"Poisson at {self.rate_share:.0%}"
        return f"{self.clips}, {self.protocol}, {load}"


def plan(clip_sets: Sequence[str], callers: Sequence[int], rate_shares: Sequence[float]) -> list[Point]:
    """Return all points: the closed loops over gRPC first, because the rates of the open loops follow from them."""
    closed = [Point(clips, "grpc", callers=count) for clips in clip_sets for count in sorted(callers)]
    open_ = [Point(clips, "grpc", rate_share=share) for clips in clip_sets for share in rate_shares]
    ends = sorted({min(callers), max(callers)})
    transports = [
        Point(clips, protocol, callers=count) for clips in clip_sets for protocol in ("http", "shm") for count in ends
    ]
    return closed + open_ + transports


def quick_plan(clip_sets: Sequence[str], callers: Sequence[int], rate_shares: Sequence[float]) -> list[Point]:
    """Return the ends of every range, and the transports with one caller for one clip set only."""
    middle = sorted(rate_shares)[len(rate_shares) // 2 : len(rate_shares) // 2 + 1]
    few = plan(clip_sets, sorted({min(callers), max(callers)}), middle)
    kept = (clip_sets[0], min(callers))
    return [point for point in few if point.protocol == "grpc" or (point.clips, point.callers) == kept]


def request_count(throughput: float, seconds: float, callers: int, clips: int, rate: float | None = None) -> int:
    """Return the requests that take about ``seconds`` at ``throughput`` per second: every clip once, every caller twice.

    They are as many as arrive in a second at least, where they arrive at a ``rate``.
    """
    wanted = max(math.ceil(throughput * seconds), 2 * callers, _FEWEST_REQUESTS)
    return max(min(max(clips, wanted), _MOST_REQUESTS), arrivals(rate))


def arrivals(rate: float | None) -> int:
    """Return how many requests arrive in a second: perf_analyzer takes no smaller number of them."""
    return math.ceil(rate or 0)
