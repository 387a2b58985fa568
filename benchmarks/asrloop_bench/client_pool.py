"""What the client's pool costs and gains: acquire and release, opening a channel, overhead per request, three ways to connect.

Needs a server that runs; the arms of each comparison are interleaved, and each figure is the median of the rounds.
"""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from asrloop_client import AsrClient, ClientConfig, PoolConfig
from asrloop_client.channel import Dialer
from asrloop_client.pool import ChannelPool
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from asrloop_bench import load_input, perf_analyzer
from asrloop_bench.clips import SAMPLE_RATE, Clip, read

ROOT = Path(__file__).resolve().parents[2]
CONCURRENCIES = (1, 8, 32)
SECONDS = (1.0, 10.0)
COMPARED_AT = 8
THREADS = 32
WARM_UP = 10


@dataclass(frozen=True)
class PoolCosts:
    """Times of the pool by itself, in microseconds; each is one acquire and its release."""

    alone_p50: float
    alone_p99: float
    contended_p50: float
    """By 32 threads that wait for something while they hold their channel, as a call does."""
    contended_p99: float
    spinning_p50: float
    """By 32 threads that never wait: what Python's switching between threads costs is in it."""
    spinning_p99: float
    open_p50: float
    """Opening a channel until the server has answered on it."""
    open_against_acquire: float


@dataclass(frozen=True)
class Point:
    """One arm at one length and concurrency."""

    arm: str
    seconds: float
    concurrency: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Overhead:
    """The client's own time per request, in milliseconds: all of `transcribe` less the gRPC call."""

    seconds: float
    p50_ms: float
    p95_ms: float
    call_p50_ms: float


@dataclass(frozen=True)
class Transport:
    """One transport of the audio, one request at a time."""

    transport: str
    seconds: float
    p50_ms: float
    p95_ms: float


class NoConnection:
    """Stands for a channel where only the pool is timed."""

    def close(self) -> None:
        """Nothing is open."""


def pool_costs(address: str, opens: int = 100) -> PoolCosts:
    """Time acquire and release, alone and by 32 threads, and opening a channel until it is connected."""
    config = PoolConfig(min_channels=5, max_channels=50)
    pool = ChannelPool("none:0", config, NoConnection)
    dialer = Dialer.of(ClientConfig())

    def acquire_and_release() -> None:
        pool.release(pool.acquire())

    def open_and_connect() -> None:
        connection = dialer.connection(address)
        connection.connect(5.0)
        connection.close()

    alone: list[float] = []
    opened: list[float] = []
    for _ in range(opens):
        alone += timed(acquire_and_release, 200)
        opened += timed(open_and_connect, 1)
    contended = hammer(pool, turns=500, hold=0.001)
    spinning = hammer(pool, turns=2000, hold=None)
    acquire, connect = percentile(alone, 50), percentile(opened, 50)
    return PoolCosts(
        alone_p50=1e6 * acquire,
        alone_p99=1e6 * percentile(alone, 99),
        contended_p50=1e6 * percentile(contended, 50),
        contended_p99=1e6 * percentile(contended, 99),
        spinning_p50=1e6 * percentile(spinning, 50),
        spinning_p99=1e6 * percentile(spinning, 99),
        open_p50=1e6 * connect,
        open_against_acquire=connect / acquire,
    )


def hammer(pool: ChannelPool[NoConnection], turns: int, hold: float | None) -> list[float]:
    """Seconds of each acquire and its release, by 32 threads at once; each sleeps `hold` s in between."""
    found: list[float] = []
    barrier = threading.Barrier(THREADS)

    def run() -> None:
        mine = []
        barrier.wait()
        for _ in range(turns):
            started = time.perf_counter()
            member = pool.acquire()
            acquired = time.perf_counter()
            if hold is not None:
                time.sleep(hold)
            releasing = time.perf_counter()
            pool.release(member)
            mine.append(acquired - started + time.perf_counter() - releasing)
        found.extend(mine)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def transports(address: str, samples: NDArray[np.float32], requests: int) -> list[Transport]:
    """gRPC messages and shared memory in turns, one request at a time."""
    seconds: dict[str, list[float]] = {"grpc": [], "shared_memory": []}
    with AsrClient(address) as plain, AsrClient(address, shared_memory=True) as shared:
        for number in range(WARM_UP + requests):
            for client in (plain, shared):
                transcript = client.transcribe(samples)
                if number >= WARM_UP:
                    seconds[transcript.transport].append(transcript.timings.total)
    return [
        Transport(name, samples.size / SAMPLE_RATE, 1e3 * percentile(values, 50), 1e3 * percentile(values, 95))
        for name, values in seconds.items()
    ]


def overhead(client: AsrClient, samples: NDArray[np.float32], requests: int) -> Overhead:
    """Transcribe one at a time, and take the call's time from the whole."""
    for _ in range(WARM_UP):
        client.transcribe(samples)
    own, calls = [], []
    for _ in range(requests):
        started = time.perf_counter()
        timings = client.transcribe(samples).timings
        own.append(time.perf_counter() - started - timings.call)
        calls.append(timings.call)
    return Overhead(
        samples.size / SAMPLE_RATE, 1e3 * percentile(own, 50), 1e3 * percentile(own, 95), 1e3 * percentile(calls, 50)
    )


def arms(address: str, concurrency: int) -> dict[str, AsrClient]:
    """The three ways to connect, as clients that are connected."""
    one = PoolConfig(min_channels=1, max_channels=1, calls_per_channel=concurrency)
    many = PoolConfig(min_channels=concurrency, max_channels=concurrency)
    return {
        "channel per request": AsrClient(address, pooling=False),
        "one shared channel": AsrClient(address, pool=one),
        "pool": AsrClient(address, pool=many),
    }


def load(client: AsrClient, samples: NDArray[np.float32], concurrency: int, requests: int) -> tuple[float, list[float]]:
    """`requests` transcriptions from `concurrency` threads: requests per second, and each one's seconds."""
    with ThreadPoolExecutor(concurrency) as executor:
        started = time.perf_counter()
        latencies = list(executor.map(lambda _: client.transcribe(samples).timings.total, range(requests)))
        return requests / (time.perf_counter() - started), latencies


def compare_arms(
    address: str, samples: NDArray[np.float32], concurrency: int, rounds: int, requests: int
) -> Iterator[Point]:
    """The arms in turns, the first one another each round."""
    clients = arms(address, concurrency)
    rates: dict[str, list[float]] = {name: [] for name in clients}
    latencies: dict[str, list[float]] = {name: [] for name in clients}
    names = list(clients)
    for number in range(rounds):
        for name in names[number % 3 :] + names[: number % 3]:
            rate, seconds = load(clients[name], samples, concurrency, requests)
            rates[name].append(rate)
            latencies[name] += seconds
    for name, client in clients.items():
        client.close()
        yield Point(
            name,
            samples.size / SAMPLE_RATE,
            concurrency,
            statistics.median(rates[name]),
            1e3 * percentile(latencies[name], 50),
            1e3 * percentile(latencies[name], 95),
        )


def against_perf_analyzer(
    address: str, samples: NDArray[np.float32], rounds: int, requests: int
) -> tuple[float, float]:
    """Requests per second at concurrency 8, of the pooled client and of perf_analyzer."""
    analyzer = perf_analyzer.find_or_fetch(ROOT / ".cache")
    client = arms(address, COMPARED_AT)["pool"]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch, client:
        input_data = Path(scratch, "input.json")
        load_input.write(input_data, [Clip("clip", samples)], None)
        arguments = perf_analyzer.load_arguments(
            endpoint=address,
            protocol="grpc",
            input_data=input_data,
            requests=requests,
            concurrency=COMPARED_AT,
            rate=None,
        )
        for _ in range(rounds):
            ours.append(load(client, samples, COMPARED_AT, requests)[0])
            theirs.append(analyzer.run(arguments, timeout=600)["Inferences/Second"])
    return statistics.median(ours), statistics.median(theirs)


def timed(action: Callable[[], None], times: int) -> list[float]:
    """Seconds of each of `times` runs."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """Of the values as measured, without a fit."""
    return float(np.percentile(values, percent))


def main(
    wav: Annotated[Path, typer.Argument(help="Speech; repeated or cut to 1 s and 10 s.")],
    server: Annotated[str, typer.Option(help="gRPC address of a server that runs.")] = "localhost:8001",
    rounds: Annotated[int, typer.Option(help="Rounds of each comparison.", min=1)] = 3,
    requests: Annotated[int, typer.Option(help="Requests a round, per concurrent caller.", min=1)] = 2,
    analyzer: Annotated[bool, typer.Option("--perf-analyzer", help="Compare with perf_analyzer as well.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure the client's pool against a server that runs."""
    console = Console(highlight=False)
    speech = read(wav)
    clips = {seconds: np.resize(speech, round(seconds * SAMPLE_RATE)) for seconds in SECONDS}
    costs = pool_costs(server)
    console.print(table("The pool by itself, microseconds", [costs]))
    with AsrClient(server) as client:
        overheads = [overhead(client, samples, 50) for samples in clips.values()]
    console.print(table("The client's own time per request", overheads))
    ways = [way for samples in clips.values() for way in transports(server, samples, 30)]
    console.print(table("Transports, one request at a time", ways))
    points = []
    for seconds, samples in clips.items():
        for concurrency in CONCURRENCIES:
            count = requests * max(concurrency, 4)
            points += list(compare_arms(server, samples, concurrency, rounds, count))
            console.print(table(f"{seconds:g} s, {concurrency} at a time", points[-3:]))
    figures = {
        "pool": asdict(costs),
        "overhead": [asdict(each) for each in overheads],
        "transports": [asdict(each) for each in ways],
        "arms": [asdict(each) for each in points],
    }
    if analyzer:
        ours, theirs = against_perf_analyzer(server, clips[10.0], rounds, requests * COMPARED_AT)
        console.print(
            f"10 s, 8 at a time: client {ours:.2f}/s, perf_analyzer {theirs:.2f}/s, ratio {ours / theirs:.3f}"
        )
        figures["perf_analyzer"] = {"client": ours, "perf_analyzer": theirs, "ratio": ours / theirs}
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def table(title: str, rows: Sequence[PoolCosts | Overhead | Transport | Point]) -> Table:
    """One row a figure, a column a field."""
    columns = list(asdict(rows[0]))
    made = Table(*(name.replace("_", " ") for name in columns), title=title, title_justify="left")
    for row in rows:
        made.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(row).values()))
    return made


if __name__ == "__main__":
    typer.run(main)
