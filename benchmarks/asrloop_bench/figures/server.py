"""The figures of the engine behind Triton: what the server adds to a request, many callers, memory."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from asrloop_client import AsrClient, PoolConfig

from asrloop.audio import Samples
from asrloop.config import Settings
from asrloop.families.registry import open_family
from asrloop.tritonserver.processes import model_processes
from asrloop_bench.checkout import PREPARED
from asrloop_bench.figures.figure import SLOTS, Figure, compared, faster, rounds, tokens_alone
from asrloop_bench.method import spread
from asrloop_bench.method.interleave import Measured, callers, timed
from asrloop_bench.method.target import Target


class ServerFigures:
    """Measures on clips f32 [N], 16 kHz, by their seconds; ``seconds`` is the time for each comparison."""

    def __init__(self, settings: Settings, clips: Mapping[float, Samples], seconds: float) -> None:
        self._settings = settings
        self._clips = clips
        self._seconds = seconds

    def server_hop(self, server: Target) -> list[Figure]:
        """A request through asr_ensemble minus the same clip in this process with as many threads."""
        family = open_family(PREPARED, self._alone())
        figures = []
        with AsrClient(server.grpc, pool=PoolConfig(min_channels=1)) as client:
            for seconds in (1.0, 10.0):
                samples = self._clips[seconds]
                arms = {
                    "in process": timed(lambda clip=samples: tokens_alone(family, clip)),  # type: ignore[misc]
                    "request": timed(lambda clip=samples: client.transcribe(clip)),  # type: ignore[misc]
                }
                found = compared(arms, self._seconds)
                alone, through = (spread.median(found[name].rounds) for name in ("in process", "request"))
                cost = spread.median(
                    [a - b for a, b in zip(found["request"].rounds, found["in process"].rounds, strict=True)]
                )
                share = cost / alone
                aim = "<= 3 ms and <= 5 %" if seconds == 10.0 else "<= 3 ms"
                figures.append(
                    Figure(
                        f"request minus the clip in-process, {seconds:g} s, 1 caller", aim, f"{1000 * cost:.1f} ms, {share:.1%}",
                        cost <= 0.003 and (seconds != 10.0 or share <= 0.05),
                        f"{1000 * alone:.1f} -> {1000 * through:.1f} ms, {rounds(found['request'])}",
                    )
                )  # fmt: skip
        return figures

    def many_callers(self, server: Target) -> list[Figure]:
        """16 callers with 3 s clips: continuous batching against one slot and vendor graphs. The server has the ladder's models."""
        samples = self._clips[3.0]
        pool = PoolConfig(min_channels=SLOTS)
        with (
            AsrClient(server.grpc, pool=pool) as new,
            AsrClient(server.grpc, model="ladder_in_process", pool=pool) as old,
        ):
            clients = {"vendor": old, "ours": new}
            arms = {name: _asked_by_many(client, samples) for name, client in clients.items()}
            found = compared(arms, self._seconds)
        tail = spread.percentile(found["ours"].latencies, 99) / spread.median(found["ours"].latencies)
        return [
            faster(
                "16 callers, 3 s clips, throughput against one slot and vendor graphs",
                2.0,
                found["vendor"],
                found["ours"],
            ),
            Figure(
                "the same, p99 / p50", "<= 2.5", f"{tail:.2f}", tail <= 2.5, f"{len(found['ours'].latencies)} requests"
            ),
        ]

    def memory(self, server: Target, requests: int) -> list[Figure]:
        """Resident memory of decoder_loop's process, all slots used, before and after ``requests`` requests of 1 and 3 s."""
        process = model_processes(server.pid or 0)["decoder_loop"]
        short = [self._clips[1.0], self._clips[3.0]]
        with AsrClient(server.grpc) as client:
            for _ in client.transcribe_many([self._clips[10.0]] * 2 * SLOTS, concurrency=SLOTS):
                pass
            before = resident_megabytes(process)
            for _ in client.transcribe_many((short[index % 2] for index in range(requests)), concurrency=SLOTS):
                pass
            after = resident_megabytes(process)
        flat = after - before < 0.05 * before
        return [
            Figure(
                f"memory of the decoder_loop process, {SLOTS} slots, over {requests} requests", "<= 600 MB, flat",
                f"{after:.0f} MB, {after - before:+.0f}", after <= 600 and flat, "resident; before: after 32 clips of 10 s",
            )
        ]  # fmt: skip

    def _alone(self) -> Settings:
        engine = self._settings.engine.model_copy(update={"slots": 1})
        return self._settings.model_copy(update={"engine": engine})


def resident_megabytes(process: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _asked_by_many(client: AsrClient, samples: Samples) -> Callable[[], Measured]:
    def ask() -> str:
        return client.transcribe(samples).text

    return lambda: callers([ask] * SLOTS, each=2)
