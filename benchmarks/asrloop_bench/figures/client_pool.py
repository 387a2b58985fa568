"""Ways for a client to connect, through a real server: its pool, one channel for all callers, a channel for every call."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Annotated

import typer
from asrloop_client import AsrClient, PoolConfig
from asrloop_client.pool import Pool

from asrloop.audio import Samples
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.method import markdown, spread
from asrloop_bench.method.interleave import Measured, callers, interleave, timed

CALLERS = (1, 8, 32)
MODELS = {"no work": "does_nothing", "transcribes": "asr_ensemble"}
WAYS = ("the pool", "one shared channel", "a channel per call")


def pool(run: Run, seconds: Annotated[float, typer.Option(help="Time for each of the twelve rows.")] = 20.0) -> str:
    """Compare the client's pool with one shared channel and with a channel per call."""
    with run.server(IDLE_MODELS) as server:
        return table(server.grpc, speech(1.0, 10.0), seconds)


def table(server: str, clips: Mapping[float, Samples], seconds: float, counts: Sequence[int] = CALLERS) -> str:
    """Return times by model, clip, number of callers and way, and their ratios to the pool's time, in Markdown.

    With several callers a time is the elapsed time over the requests, the inverse of throughput.

    ``server`` is a gRPC address; ``clips`` are f32 [N], 16 kHz, by their seconds; each row takes about ``seconds``.
    """
    rows = [
        [f"{name}, {length:g} s, {count} caller{'s' if count > 1 else ''}", *_measured(server, model, samples, count, seconds)]
        for name, model in MODELS.items() for length, samples in clips.items() for count in counts
    ]  # fmt: skip
    acquiring = f"Acquiring a channel of the pool and releasing it: {acquire_and_release():.1f} µs (p50)."
    return f"{markdown.table(['server, clip, callers', *WAYS], rows, numbers_from=1)}\n\n{acquiring}"


def acquire_and_release(times: int = 20_000) -> float:
    """Return the median of one acquire and its release, in microseconds, on one thread with no server."""
    pool = Pool(PoolConfig(), object, lambda _: None)

    def call() -> None:
        member = pool.take()
        if member is not None:
            pool.release(member)

    once = timed(call)
    return 1e6 * spread.median([once().rounds[0] for _ in range(times)])


def _measured(server: str, model: str, samples: Samples, count: int, seconds: float) -> list[str]:
    """Measure the ways in turns; in every round each caller asks once, all at the same time."""
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
        found = interleave(arms, least_rounds=6, most_rounds=60, seconds=seconds)
    ours, *others = found.values()
    return [_time(ours), *(f"{_time(one)}, times {spread.ratio(one.rounds, ours.rounds)}" for one in others)]


def _time(measured: Measured) -> str:
    return f"{1000 * spread.median(measured.rounds):.1f} ms"
