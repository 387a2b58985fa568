"""What HAProxy before a server costs: the same requests with and without it, in turns."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer
from asrloop_client import AsrClient, AsrError

from asrloop import config, paths
from asrloop.audio import SAMPLE_RATE, Samples, from_file
from asrloop.cli import one_line_errors
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets
from asrloop_bench.checkout import IDLE_MODELS, ROOT
from asrloop_bench.figures.client_pool import MODELS
from asrloop_bench.method import machine_load, markers, provenance, spread, target
from asrloop_bench.operations.balancer import balancing
from asrloop_bench.terminal import console

PAGE = ROOT / "docs" / "operations.md"
CLIPS = (1, 10)
A_ROUND = 4
"""Requests of each way in a round."""

WARM_UP = 5


def balancer(
    rounds: Annotated[int, typer.Option(help="Rounds that count, of 4 requests each way.", min=6)] = 60,
    write: Annotated[bool, typer.Option("--write", help="Also write the table of docs/operations.md.")] = False,
) -> None:
    """What HAProxy costs a request: one caller, with and without it in turns."""
    with one_line_errors(AsrError), ExitStack() as stack:
        settings = config.load()
        about, before = provenance.describe(settings), machine_load.sample()
        server = stack.enter_context(target.started(settings, more_repositories=[IDLE_MODELS]))
        proxy = stack.enter_context(balancing([(server.grpc, int(server.http.rpartition(":")[2]))]))
        speech = from_file((moonshine_assets(paths.cache()) / MOONSHINE_SPEECH[0]).read_bytes(), 60)
        lines = ["| server, clip, 1 caller | without | HAProxy adds | times |", "| ---: | ---: | ---: | ---: |"]
        during = []
        for name, model in MODELS.items():
            ways = [stack.enter_context(AsrClient(address, model=model)) for address in (server.grpc, proxy.address)]
            for seconds in CLIPS:
                moment = machine_load.now()
                without, with_it = _took(ways, speech[: SAMPLE_RATE * seconds], rounds)
                during.append(machine_load.between(moment, machine_load.now()))
                more = sorted(1000 * (two - one) for one, two in zip(without, with_it, strict=True))
                lines.append(
                    f"| {name}, {seconds} s | {1000 * spread.median(without):.1f} ms | {spread.median(more):+.2f} ms "
                    f"({spread.percentile(more, 25):+.2f} to {spread.percentile(more, 75):+.2f}) "
                    f"| {spread.ratio(with_it, without)} |"
                )
        lines += [
            "",
            f"`asrloop-bench balancer --write`, {rounds} rounds; in brackets the quartiles and the 95% interval. "
            f"{provenance.in_words(about)}; {machine_load.in_words(before, during)}.",
        ]
        text = "\n".join(lines)
        console.print(text, markup=False)
        if write:
            markers.write(PAGE, text, "balancer")


def _took(ways: Sequence[AsrClient], clip: Samples, rounds: int) -> list[list[float]]:
    """Seconds a request in each round, by each of the ways."""
    took: list[list[float]] = [[] for _ in ways]
    for number in range(WARM_UP + rounds):
        for way in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            for _ in range(A_ROUND):
                ways[way].transcribe(clip, sample_rate=SAMPLE_RATE)
            if number >= WARM_UP:
                took[way].append((time.perf_counter() - began) / A_ROUND)
    return took
