"""Ways for a client to connect, through a real server: its pool, one channel for all callers, a channel for every call."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from asrloop_client import AsrClient, PoolConfig
from asrloop_client.pool import Pool

from asrloop.audio import Samples
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, callers, interleave, timed

CALLERS = (1, 8, 32)
SECONDS = (1.0, 10.0)
WAYS = ("the pool", "one shared channel", "a channel per call")


def table(server: str, clips: Mapping[float, Samples], seconds: float, counts: Sequence[int] = CALLERS) -> str:
    """Markdown: time by way, length of the clip and number of callers, and how many times faster the pool is.

    With several callers a time is the elapsed time over the requests, the inverse of throughput.

    ``server`` is a gRPC address; ``clips`` are f32 [N], 16 kHz, by their seconds; each cell takes about ``seconds``.
    """
    lines = ["| clip, callers | " + " | ".join(WAYS) + " |", "| --- |" + " ---: |" * len(WAYS)]
    for length, samples in clips.items():
        for count in counts:
            cell = " | ".join(_entries(_measured(server, samples, count, seconds)))
            lines.append(f"| {length:g} s, {count} caller{'s' if count > 1 else ''} | {cell} |")
    return "\n".join(
        [*lines, "", f"Acquiring a channel of the pool and releasing it: {acquire_and_release():.1f} µs (p50)."]
    )


def acquire_and_release(times: int = 20_000) -> float:
    """Median of one acquire and its release, in microseconds, on one thread with no server."""
    pool = Pool(PoolConfig(), object, lambda _: None)

    def call() -> None:
        member = pool.take()
        if member is not None:
            pool.release(member)

    once = timed(call)
    return 1e6 * spread.median([once().rounds[0] for _ in range(times)])


def _measured(server: str, samples: Samples, count: int, seconds: float) -> dict[str, Measured]:
    """The ways in turns; in every round each caller asks once, all at the same time."""
    with ExitStack() as stack:
        pools = (
            {"pool": PoolConfig(min_channels=count, max_channels=count)},
            {"pool": PoolConfig(min_channels=1, max_channels=1, calls_per_channel=count)},
            {"pooling": False},
        )
        clients = [stack.enter_context(AsrClient(server, **settings)) for settings in pools]
        arms = {
            way: lambda client=client: callers([lambda: client.transcribe(samples).text] * count)
            for way, client in zip(WAYS, clients, strict=True)
        }
        return interleave(arms, least_rounds=5, most_rounds=60, seconds=seconds)


def _entries(found: Mapping[str, Measured]) -> Iterator[str]:
    pool = found[WAYS[0]]
    for one in found.values():
        gain = "" if one is pool else f" ({spread.ratio(one.rounds, pool.rounds).estimate:.2f}x)"
        yield f"{1000 * spread.median(one.rounds):.1f} ms{gain}"
