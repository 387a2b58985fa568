"""The cost of the gateway: the same files through it and straight to asr_file, in turns."""

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer
from asrloop_client import AsrClient, PoolConfig

from asrloop.audio import Samples
from asrloop_bench.figures.aims import compared
from asrloop_bench.figures.figure import Run, speech
from asrloop_bench.load import upload
from asrloop_bench.method import clips, markdown, spread
from asrloop_bench.method.interleave import Measured, callers, timed
from asrloop_bench.operations import services

CALLERS = 16
LIMIT_SECONDS = 60.0


def gateway(run: Run, seconds: Annotated[float, typer.Option(help="Time for each row.")] = 20.0) -> str:
    """Measure the time that the gateway adds to the transcription of a file."""
    with run.server() as server:
        return table(server.grpc, speech(1.0, 3.0, 10.0), seconds)


def table(server: str, speech: Mapping[float, Samples], seconds: float) -> str:
    """Return times alone by length, and of the shortest with 16 callers, in Markdown.

    ``server`` is a gRPC address, ``speech`` are clips f32 [N], 16 kHz.
    """
    rows = []
    with (
        services.gateway(server, requests_per_minute="1000000") as address,
        AsrClient(server, pool=PoolConfig(max_channels=CALLERS)) as client,
    ):
        for length, count in [*((length, 1) for length in speech), (min(speech), CALLERS)]:
            content = clips.as_file(speech[length], "WAV")

            def ask(content: bytes = content) -> str:
                return client.transcribe(content).text

            uploads = [_Upload(address, content) for _ in range(count)]
            found = compared({"direct": _arm([ask] * count), "gateway": _arm(uploads)}, seconds)
            direct, through = found["direct"].rounds, found["gateway"].rounds
            more = spread.median([a - b for a, b in zip(through, direct, strict=True)])
            times = [f"{1000 * spread.median(one):.2f} ms" for one in (direct, through)]
            ratio = f"{1000 * more:.2f} ms, {spread.ratio(through, direct)}x, {len(direct)} rounds"
            rows.append([f"{length:g} s, {count}", *times, ratio])
    return markdown.table(["file, callers", "asr_file", "through the gateway", "more"], rows, numbers_from=1)


def _arm(asking: Sequence[Callable[[], str]]) -> Callable[[], Measured]:
    return timed(asking[0]) if len(asking) == 1 else lambda: callers(asking, each=4)


class _Upload:
    """One connection that is kept; a call sends one file and returns its text."""

    def __init__(self, address: str, content: bytes) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=LIMIT_SECONDS)
        self._body, self._headers = upload.form(content)

    def __call__(self) -> str:
        self._connection.request("POST", upload.PATH, self._body, self._headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read())
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the gateway answered {answer.status}: {content}")
        return str(content["text"])
