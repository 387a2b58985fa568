"""Ways to reach a server, compared in turns: the client's pool and other channels, the gateway, HAProxy."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer
from asrloop_client import AsrClient, PoolConfig
from asrloop_client.pool import Pool

from asrloop.audio import Samples
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures.aims import compared
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.method import clips, markdown, spread
from asrloop_bench.method.interleave import Measured, callers, interleave, timed
from asrloop_bench.operations.balancer import balancing
from asrloop_bench.operations.gateway import Upload, gateway_for

CALLERS = (1, 8, 32)
MODELS = {"no work": "does_nothing", "transcribes": "asr_ensemble"}
CHANNELS = ("the pool", "one shared channel", "a channel per call")
UPLOADERS = 16
ACQUIRED = 20_000
A_ROUND = 4
"""Requests through HAProxy, and without it, in a round."""


def pool(run: Run, seconds: Annotated[float, typer.Option(help="Time for each of the twelve rows.")] = 20.0) -> str:
    """Compare the client's pool with one shared channel and with a channel per call."""
    with run.server(IDLE_MODELS) as server:
        return pool_table(server.grpc, speech(1.0, 10.0), seconds)


def pool_table(server: str, clips: Mapping[float, Samples], seconds: float, counts: Sequence[int] = CALLERS) -> str:
    """Return times by model, clip, number of callers and channels, and their ratios to the pool's time, in Markdown.

    With several callers a time is the elapsed time over the requests, the inverse of throughput.

    ``server`` is a gRPC address; ``clips`` are f32 [N], 16 kHz, by their seconds; each row takes about ``seconds``.
    """
    rows = [
        [f"{name}, {length:g} s, {count} caller{'s' if count > 1 else ''}", *_channels(server, model, samples, count, seconds)]
        for name, model in MODELS.items() for length, samples in clips.items() for count in counts
    ]  # fmt: skip
    own = Pool(PoolConfig(), object, lambda _: None)

    def acquire_and_release() -> None:
        if (member := own.take()) is not None:
            own.release(member)

    once = timed(acquire_and_release)
    taken = 1e6 * spread.median([once().rounds[0] for _ in range(ACQUIRED)])
    acquiring = f"Acquiring a channel of the pool and releasing it: {taken:.1f} µs (p50)."
    return f"{markdown.table(['server, clip, callers', *CHANNELS], rows, numbers_from=1)}\n\n{acquiring}"


def _channels(server: str, model: str, samples: Samples, count: int, seconds: float) -> list[str]:
    """Measure CHANNELS in turns; in every round each caller asks once, all at the same time."""
    with ExitStack() as stack:
        pools = (
            {"pool": PoolConfig(min_channels=count, max_channels=count)},
            {"pool": PoolConfig(min_channels=1, max_channels=1, calls_per_channel=count)},
            {"pooling": False},
        )
        clients = [stack.enter_context(AsrClient(server, model=model, **settings)) for settings in pools]
        asking = [[partial(_text, client, samples)] * count for client in clients]
        arms = {way: partial(callers, requests) for way, requests in zip(CHANNELS, asking, strict=True)}
        ours, *others = interleave(arms, least_rounds=6, most_rounds=60, seconds=seconds).values()
    ratios = [f"{_milliseconds(one, 1)}, times {spread.ratio(one.rounds, ours.rounds)}" for one in others]
    return [_milliseconds(ours, 1), *ratios]


def gateway(run: Run, seconds: Annotated[float, typer.Option(help="Time for each row.")] = 20.0) -> str:
    """Measure the time that the gateway adds to the transcription of a file."""
    samples = speech(1.0, 3.0, 10.0)
    rows = []
    with (
        run.server() as server,
        gateway_for(server.grpc, requests_per_minute="1000000") as address,
        AsrClient(server.grpc, pool=PoolConfig(max_channels=UPLOADERS)) as client,
    ):
        for length, count in [*((length, 1) for length in samples), (min(samples), UPLOADERS)]:
            file = clips.as_file(samples[length], "WAV")
            each = 1 if count == 1 else 4
            direct, through = compared(
                {
                    "direct": partial(callers, [partial(_text, client, file)] * count, each),
                    "gateway": partial(callers, [Upload(address, file) for _ in range(count)], each),
                },
                seconds,
            ).values()
            more = spread.median(_added(direct, through))
            ratio = f"{more:.2f} ms, {spread.ratio(through.rounds, direct.rounds)}x, {len(direct.rounds)} rounds"
            rows.append([f"{length:g} s, {count}", _milliseconds(direct, 2), _milliseconds(through, 2), ratio])
    return markdown.table(["file, callers", "asr_file", "through the gateway", "more"], rows, numbers_from=1)


def balancer(
    run: Run, rounds: Annotated[int, typer.Option(help="Rounds that count, of 4 requests each way.", min=6)] = 60
) -> str:
    """Measure the time that HAProxy adds to a request: one caller, with and without it in turns."""
    rows = []
    with run.server(IDLE_MODELS) as server, balancing([(server.grpc, int(server.http.rpartition(":")[2]))]) as proxy:
        for name, model in MODELS.items():
            with AsrClient(server.grpc, model=model) as direct, AsrClient(proxy.address, model=model) as behind:
                for seconds, samples in speech(1.0, 10.0).items():
                    arms = [timed(partial(client.transcribe, samples), A_ROUND) for client in (direct, behind)]
                    both = dict(zip(("without", "with"), arms, strict=True))
                    found = interleave(both, least_rounds=rounds, most_rounds=rounds, seconds=0)
                    without, through = found.values()
                    low, middle, high = (spread.percentile(_added(without, through), share) for share in (25, 50, 75))
                    adds = f"{middle:+.2f} ms ({low:+.2f} to {high:+.2f})"
                    ratio = spread.ratio(through.rounds, without.rounds)
                    rows.append([f"{name}, {seconds:g} s", _milliseconds(without, 1), adds, ratio])
    table = markdown.table(["server, clip, 1 caller", "without", "HAProxy adds", "times"], rows, numbers_from=0)
    return f"{table}\n\n{rounds} rounds; in brackets the quartiles and the 95% interval."


def _text(client: AsrClient, audio: Samples | bytes) -> str:
    return client.transcribe(audio).text


def _added(before: Measured, after: Measured) -> list[float]:
    return [1000 * (two - one) for one, two in zip(before.rounds, after.rounds, strict=True)]


def _milliseconds(measured: Measured, digits: int) -> str:
    return f"{1000 * spread.median(measured.rounds):.{digits}f} ms"
