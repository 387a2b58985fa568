"""A newcomer's first look: server, gateway and Prometheus, a minute of traffic, then the numbers and the state of each alert."""

import math
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Annotated

import numpy as np
import typer

from asrloop import config, paths
from asrloop.audio import SAMPLE_RATE, from_file
from asrloop.cli import one_line_errors
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets
from asrloop_bench.checkout import ROOT
from asrloop_bench.figures.live.playing import play
from asrloop_bench.method import markdown, provenance, target
from asrloop_bench.operations import picture
from asrloop_bench.operations.gateway import gateway_for, uploaded
from asrloop_bench.operations.prometheus import Prometheus, scraping
from asrloop_bench.terminal import console

PAGE = ROOT / "docs" / "operations.md"
PICTURE = PAGE.with_name("operations.svg")
UPLOADERS, STREAMS = 4, 2
PAUSE_SECONDS = 0.5
"""Pause of a caller between two uploads: the gateway takes 600 requests a minute of one address."""

NUMBERS = {
    "servers up": 'sum(up{job="asrloop"})',
    "recordings a second": "sum(rate(asrloop_requests_total[1m]))",
    "seconds of audio a second": "sum(asrloop:audio_seconds:rate1m)",
    "answer, p95, s": "max(asrloop:answer_seconds:p95_5m)",
    "queue, p95, s": "max(asrloop:queue_seconds:p95_5m)",
    "rows in a step": "sum(rate(asrloop_rows_per_step_sum[1m])) / sum(rate(asrloop_rows_per_step_count[1m]))",
    "streams open": "sum(asrloop_streams_open)",
    "live lag, p95, s": "max(asrloop:live_lag_seconds:p95_5m)",
    "uploads through the gateway a second": 'sum(rate(asrloop_gateway_requests_total{route="transcriptions"}[1m]))',
    "processor": "avg(nv_cpu_utilization)",
    "restarts": "sum(asrloop_restarts_total)",
}


def demo_ops(
    seconds: Annotated[float, typer.Option(help="Seconds of traffic.", min=5)] = 60.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also write the picture and the tables of docs/operations.md.")
    ] = False,
) -> None:
    """Run server, gateway and Prometheus with its alerts under traffic; print the numbers and the state of each alert."""
    with one_line_errors(), ExitStack() as stack:
        about = provenance.describe(config.load())
        with console.status("starting server, gateway and Prometheus"):
            server = stack.enter_context(target.started(config.load()))
            metrics = server.metrics_url.split("/")[2]
            gateway = stack.enter_context(gateway_for(server.grpc))
            targets = {"asrloop": [metrics], "asrloop-gateway": [gateway]}
            prometheus = stack.enter_context(scraping(targets, every="2s"))
        console.print(f"page        http://{gateway}/")
        console.print(f"Prometheus  http://{prometheus.address}/")
        console.print(f"metrics     http://{metrics}/metrics")
        with console.status(f"{seconds:g} s of traffic: {UPLOADERS} callers upload, {STREAMS} streams speak"):
            began = time.time()
            outcomes = traffic(gateway, server.grpc, seconds)
        text = report(prometheus, outcomes)
        console.print(text, markup=False)
        if write:
            machine = f"`make demo-ops`, {seconds:g} s: {provenance.in_words(about)}."
            PICTURE.write_text(picture.drawn(prometheus, began, seconds), encoding="utf-8")
            markdown.write(PAGE, f"![Six panels of that minute]({PICTURE.name})\n\n{text}\n\n{machine}", "demo")
        while keep:
            console.print("Ctrl-C ends it.")
            time.sleep(3600)


def traffic(gateway: str, grpc: str, seconds: float) -> Counter[str]:
    """Upload through the gateway, one after another, and stream at the speed of speech; counts the outcomes."""
    path = moonshine_assets(paths.cache()) / MOONSHINE_SPEECH[0]
    file, outcomes, over = path.read_bytes(), Counter[str](), threading.Event()

    def keep_uploading() -> None:
        while not over.is_set():
            outcomes[uploaded(gateway, file)] += 1
            over.wait(PAUSE_SECONDS)

    samples = from_file(file, 60)
    spoken = np.tile(samples, math.ceil(seconds * SAMPLE_RATE / samples.size))[: round(seconds * SAMPLE_RATE)]
    with ThreadPoolExecutor(UPLOADERS) as pool:
        for _ in range(UPLOADERS):
            pool.submit(keep_uploading)
        try:
            for played in play(grpc, [spoken] * STREAMS):
                outcomes[f"stream {'well' if played.error is None else played.error}"] += 1
        finally:
            over.set()
    return outcomes


def report(prometheus: Prometheus, outcomes: Counter[str]) -> str:
    numbers = []
    for name, query in NUMBERS.items():
        values = prometheus.query(query)
        shown = f"`{query.replace('|', chr(92) + '|')}`"
        numbers.append([name, shown, f"{values[0]:.3g}" if values else "nothing"])
    alerts = [[rule["name"], rule["state"]] for rule in prometheus.rules() if rule["type"] == "alerting"]
    traffic = f"Traffic: {', '.join(f'{how}: {count}' for how, count in sorted(outcomes.items()))}."
    now = markdown.table(["number", "asked for by", "now"], numbers, numbers_from=2)
    return f"{traffic}\n\n{now}\n\n{markdown.table(['alert', 'state'], alerts)}"
