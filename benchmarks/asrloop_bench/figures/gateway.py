"""What the gateway costs: the same files through it and straight to asr_file, in turns."""

import http.client
import io
import json
from collections.abc import Callable, Mapping, Sequence

import soundfile
from asrloop_client import AsrClient, PoolConfig

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop_bench.figures.figure import compared
from asrloop_bench.load import upload
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, callers, timed
from asrloop_bench.operations import services

SECONDS = (1.0, 3.0, 10.0)
CALLERS = 16
LIMIT_SECONDS = 60.0


def table(server: str, clips: Mapping[float, Samples], seconds: float) -> str:
    """Markdown: time alone by length, and of the shortest with 16 callers. ``server`` is a gRPC address, clips f32 [N], 16 kHz."""
    lines = ["| file, callers | asr_file | through the gateway | more |", "| --- | ---: | ---: | ---: |"]
    with (
        services.gateway(server, requests_per_minute="1000000") as address,
        AsrClient(server, pool=PoolConfig(max_channels=CALLERS)) as client,
    ):
        rows = [(length, 1) for length in clips] + [(min(clips), CALLERS)]
        for length, count in rows:
            content = _wav(clips[length])
            ours = [_Caller(address, content) for _ in range(count)]

            def ask(content: bytes = content) -> str:
                return client.transcribe(content).text

            found = compared({"direct": _arm([ask] * count), "gateway": _arm(ours)}, seconds)
            direct, through = found["direct"].rounds, found["gateway"].rounds
            more = spread.median([a - b for a, b in zip(through, direct, strict=True)])
            lines.append(
                f"| {length:g} s, {count} | {1000 * spread.median(direct):.2f} ms | {1000 * spread.median(through):.2f} ms "
                f"| {1000 * more:.2f} ms, {spread.ratio(through, direct)}x, {len(direct)} rounds |"
            )
    return "\n".join(lines)


def _arm(asking: Sequence[Callable[[], str]]) -> Callable[[], Measured]:
    return timed(asking[0]) if len(asking) == 1 else lambda: callers(asking, each=4)


class _Caller:
    """One connection that is kept; a call is one file and its text."""

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


def _wav(samples: Samples) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV")
    return buffer.getvalue()
