"""The gateway under load by AIPerf, NVIDIA's tool for services that speak OpenAI's API, with clips of real speech."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from asrloop_bench.figures.figure import Run
from asrloop_bench.ladder import peers
from asrloop_bench.method import clips, markdown
from asrloop_bench.operations.gateway import gateway_for

LENGTHS, CALLERS = (3.0, 10.0), (1, 4, 16)
CLIPS = 8
POINT_SECONDS = 900.0


def gateway_load(
    run: Run,
    requests: Annotated[int, typer.Option(help="Requests of each caller, after two that do not count.", min=1)] = 16,
) -> str:
    """Measure the gateway with AIPerf: requests a second and latency by length of the clips and number of callers."""
    rows = []
    with (
        run.server() as server,
        gateway_for(server.grpc, requests_per_minute="1000000") as address,
        tempfile.TemporaryDirectory() as folder,
    ):
        for seconds in LENGTHS:
            speech = written(clips.cut(clips.speech_files(), seconds, CLIPS), Path(folder, f"{seconds:g}"))
            for callers in CALLERS:
                run.step(f"{seconds:g} s, callers: {callers}")
                rows.append(
                    [f"{seconds:g} s, {callers}", *cells(profiled(address, speech, callers, requests), seconds)]
                )
    heads = ["clips, callers", "requests/s", "audio s/s", "p50 ms", "p90 ms", "p99 ms", "requests", "failed"]
    return f"{markdown.table(heads, rows, numbers_from=1)}\n\nBy {peers.REQUIREMENTS['aiperf'][0]}."


def written(speech: Sequence[clips.Clip], folder: Path) -> Path:
    """Write the clips as WAV files and return AIPerf's list of them."""
    folder.mkdir()
    lines = []
    for number, clip in enumerate(speech):
        path = folder / f"{number}.wav"
        path.write_bytes(clips.as_file(clip.samples, "WAV"))
        lines.append(json.dumps({"audio": str(path)}) + "\n")
    listed = folder / "speech.jsonl"
    listed.write_text("".join(lines), encoding="utf-8")
    return listed


def profiled(address: str, speech: Path, callers: int, requests: int) -> dict[str, Any]:
    """Run AIPerf with so many requests of each caller and return its report. Raises PeerError."""
    program = peers.python_of("aiperf").with_name("aiperf")
    with tempfile.TemporaryDirectory() as found:
        command = [
            *(str(program), "profile", "--endpoint-type", "audio-transcription", "--url", f"http://{address}"),
            *("--model", "any", "--input-file", str(speech), "--custom-dataset-type", "single_turn"),
            *("--concurrency", str(callers), "--request-count", str(callers * requests)),
            *("--warmup-request-count", str(2 * callers), "--ui", "none", "--output-artifact-dir", found),
        ]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=POINT_SECONDS,
                env=peers.environment(AIPERF_DISABLE_TELEMETRY="1"),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise peers.PeerError(f"aiperf did not end within {POINT_SECONDS:g} s") from None
        report = Path(found, "profile_export_aiperf.json")
        if done.returncode or not report.is_file():
            raise peers.PeerError(f"aiperf ended with code {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
        return dict(json.loads(report.read_text(encoding="utf-8")))


def cells(report: dict[str, Any], seconds: float) -> list[str]:
    """Return what AIPerf found of clips of so many ``seconds``."""
    rate, latency = report["request_throughput"]["avg"], report["request_latency"]
    times = [f"{latency[name]:.0f}" for name in ("p50", "p90", "p99")]
    failed = report.get("error_request_count", {}).get("avg", 0)
    return [f"{rate:.1f}", f"{rate * seconds:.0f}", *times, f"{report['request_count']['avg']:.0f}", f"{failed:.0f}"]
