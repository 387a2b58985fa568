"""What HAProxy before a server costs: the same requests with and without it, in turns."""

import time
from contextlib import ExitStack
from typing import Annotated

import typer
from asrloop_client import AsrClient, AsrError

from asrloop import config, paths
from asrloop.audio import SAMPLE_RATE, from_file
from asrloop.cli import one_line_errors
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets
from asrloop_bench.checkout import ROOT
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
        server = stack.enter_context(target.started(settings))
        proxy = stack.enter_context(balancing([(server.grpc, int(server.http.rpartition(":")[2]))]))
        ways = [stack.enter_context(AsrClient(address)) for address in (server.grpc, proxy.address)]
        speech = from_file((moonshine_assets(paths.cache()) / MOONSHINE_SPEECH[0]).read_bytes(), 60)
        lines = ["| clip, 1 caller | without | HAProxy adds | times |", "| ---: | ---: | ---: | ---: |"]
        during = []
        for seconds in CLIPS:
            clip = speech[: SAMPLE_RATE * seconds]
            took: tuple[list[float], list[float]] = ([], [])
            moment = machine_load.now()
            for number in range(WARM_UP + rounds):
                for way in (0, 1) if number % 2 else (1, 0):
                    began = time.perf_counter()
                    for _ in range(A_ROUND):
                        ways[way].transcribe(clip, sample_rate=SAMPLE_RATE)
                    if number >= WARM_UP:
                        took[way].append((time.perf_counter() - began) / A_ROUND)
            during.append(machine_load.between(moment, machine_load.now()))
            more = sorted(1000 * (with_it - without) for without, with_it in zip(*took, strict=True))
            lines.append(
                f"| {seconds} s | {1000 * spread.median(took[0]):.1f} ms | {spread.median(more):+.2f} ms "
                f"({spread.percentile(more, 25):+.2f} to {spread.percentile(more, 75):+.2f}) | {spread.ratio(took[1], took[0])} |"
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
