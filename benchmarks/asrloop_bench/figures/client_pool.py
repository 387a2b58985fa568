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
MODELS = {"no work": "does_nothing", "transcribes": "asr_ensemble"}
WAYS = ("the pool", "one shared channel", "a channel per call")


def table(server: str, clips: Mapping[float, Samples], seconds: float, counts: Sequence[int] = CALLERS) -> str:
    """Markdown: time by model, length of the clip, number of callers and way, and how many times that of the pool it is.

    With several callers a time is the elapsed time over the requests, the inverse of throughput.

    ``server`` is a gRPC address; ``clips`` are f32 [N], 16 kHz, by their seconds; each row takes about ``seconds``.
    """
    lines = ["| server, clip, callers | " + " | ".join(WAYS) + " |", "| --- |" + " ---: |" * len(WAYS)]
    for name, model in MODELS.items():
        for length, samples in clips.items():
            for count in counts:
                row = " | ".join(_entries(_measured(server, model, samples, count, seconds)))
                lines.append(f"| {name}, {length:g} s, {count} caller{'s' if count > 1 else ''} | {row} |")
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


def _measured(server: str, model: str, samples: Samples, count: int, seconds: float) -> dict[str, Measured]:
    """The ways in turns; in every round each caller asks once, all at the same time."""
    with ExitStack() as stack:
        pools = (
            {"pool": PoolConfig(min_channels=count, max_channels=count)},
            {"pool": PoolConfig(min_channels=1, max_channels=1, calls_per_channel=count)},
            {"pooling": False},
        )
        clients = [stack.enter_context(AsrClient(server, model=model, **settings)) for settings in pools]
        arms = {
            way: lambda client=client: callers([lambda: client.transcribe(samples).text] * count)
            for way, client in zip(WAYS, clients, strict=True)
        }
        return interleave(arms, least_rounds=6, most_rounds=60, seconds=seconds)


def _entries(found: Mapping[str, Measured]) -> Iterator[str]:
    pool = found[WAYS[0]]
    for one in found.values():
        entry = f"{1000 * spread.median(one.rounds):.1f} ms"
        if one is not pool:
            entry += f", times {spread.ratio(one.rounds, pool.rounds)}"
        yield entry
