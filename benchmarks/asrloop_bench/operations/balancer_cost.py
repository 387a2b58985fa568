"""The cost of HAProxy before a server: the same requests with and without it, in turns."""

from contextlib import ExitStack
from typing import Annotated

import typer
from asrloop_client import AsrClient

from asrloop import paths
from asrloop.audio import SAMPLE_RATE, Samples, from_file
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures.client_pool import MODELS
from asrloop_bench.figures.figure import Run
from asrloop_bench.method import markdown, spread
from asrloop_bench.method.interleave import interleave, timed
from asrloop_bench.operations.balancer import balancing

CLIPS = (1, 10)
A_ROUND = 4
"""Requests of each way in a round."""


def balancer(
    run: Run, rounds: Annotated[int, typer.Option(help="Rounds that count, of 4 requests each way.", min=6)] = 60
) -> str:
    """Measure the time that HAProxy adds to a request: one caller, with and without it in turns."""
    speech = from_file((moonshine_assets(paths.cache()) / MOONSHINE_SPEECH[0]).read_bytes(), 60)
    rows = []
    with run.server(IDLE_MODELS) as server, balancing([(server.grpc, int(server.http.rpartition(":")[2]))]) as proxy:
        for name, model in MODELS.items():
            for seconds in CLIPS:
                without, with_it = _took((server.grpc, proxy.address), model, speech[: SAMPLE_RATE * seconds], rounds)
                more = sorted(1000 * (two - one) for one, two in zip(without, with_it, strict=True))
                quartiles = f"{spread.percentile(more, 25):+.2f} to {spread.percentile(more, 75):+.2f}"
                adds = f"{spread.median(more):+.2f} ms ({quartiles})"
                alone = f"{1000 * spread.median(without):.1f} ms"
                rows.append([f"{name}, {seconds} s", alone, adds, spread.ratio(with_it, without)])
    table = markdown.table(["server, clip, 1 caller", "without", "HAProxy adds", "times"], rows, numbers_from=0)
    return f"{table}\n\n{rounds} rounds; in brackets the quartiles and the 95% interval."


def _took(addresses: tuple[str, str], model: str, clip: Samples, rounds: int) -> list[list[float]]:
    """Return seconds a request in each round, by each of the addresses."""
    with ExitStack() as stack:
        clients = [stack.enter_context(AsrClient(address, model=model)) for address in addresses]
        arms = {
            address: timed(lambda client=client: client.transcribe(clip, sample_rate=SAMPLE_RATE), A_ROUND)  # type: ignore[misc]
            for address, client in zip(addresses, clients, strict=True)
        }
        found = interleave(arms, least_rounds=rounds, most_rounds=rounds, seconds=0)
    return [found[address].rounds for address in addresses]
