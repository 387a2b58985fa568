"""Starts processes of callers, gives them their turns, and draws numbers from the times that they measured."""

import json
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from asrloop_bench.method.clips import Clip

# Enough for the slowest process to be waiting when the turn begins.
LEAD_SECONDS = 0.03
ANSWER_SECONDS = 180.0
STOP_SECONDS = 5.0


class LoadError(RuntimeError):
    """A process of callers failed, or a request of it did; the message has the reason."""


class Request(NamedTuple):
    """One request of a caller: its clip, and its begin and end on the monotonic clock, in seconds."""

    caller: int
    clip: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Turn:
    """Requests of ``callers`` closed loops that sent until ``until``, and the texts that each clip got."""

    callers: int
    until: float
    requests: Sequence[Request]
    texts: dict[str, set[str]]

    @property
    def latencies(self) -> list[float]:
        """Seconds of requests that were sent while all callers were in their loops; of all where there are none."""
        return [one.seconds for one in self._steady()]

    def latencies_of(self, clips: Sequence[str]) -> list[float]:
        """Return the same, of these clips only."""
        return [one.seconds for one in self._steady() if one.clip in clips]

    def seconds_per_request(self) -> float:
        """Return the inverse of throughput while every caller has a request under way.

        Counted from the moment when every caller has had its first answer. A request counts by the share of its time that lies
        within, so that answers that come in bunches do not make it jump. Where that moment lies behind the turn: elapsed time over
        requests.
        """
        begin = self._all_begun()
        if begin >= self.until:  # the requests are longer than the turn
            elapsed = max(one.ended for one in self.requests) - min(one.began for one in self.requests)
            return elapsed / len(self.requests)
        done = sum(max(0.0, min(one.ended, self.until) - max(one.began, begin)) / one.seconds for one in self.requests)
        return (self.until - begin) / done

    def _all_begun(self) -> float:
        first: dict[int, float] = {}
        for one in self.requests:
            first[one.caller] = min(one.ended, first.get(one.caller, one.ended))
        return max(first.values())

    def _steady(self) -> list[Request]:
        begin = self._all_begun()
        return [one for one in self.requests if one.began >= begin] or list(self.requests)


class Generators:
    """``count`` processes with the same ``command``; use as a context manager. The callers of a turn are spread over them."""

    def __init__(self, command: Sequence[str], count: int = 1) -> None:
        self._command, self._count = list(command), count
        self._processes: list[Any] = []
        self._log: Any = None

    def __enter__(self) -> Self:
        self._log, pipe = tempfile.TemporaryFile(), subprocess.PIPE
        for _ in range(self._count):
            self._processes.append(subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=self._log))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._processes:
            if kind is not None:
                process.kill()
            try:
                process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        self._log.close()

    def turn(self, way: Sequence[str], callers: int, order: Sequence[str], seconds: float) -> Turn:
        """Run ``callers`` closed loops over the clips of ``order`` for ``seconds``, by one of the ways. Raises LoadError."""
        start = time.monotonic() + LEAD_SECONDS
        busy = []
        first = 0
        for number, process in enumerate(self._processes):
            mine = callers // len(self._processes) + (number < callers % len(self._processes))
            if mine:
                turn = {"way": list(way), "callers": mine, "first": first, "order": list(order), "start": start}
                self._send(process, {**turn, "until": start + seconds})
                busy.append(process)
                first += mine
        requests: list[Request] = []
        texts: dict[str, set[str]] = {}
        for process in busy:
            answer = self._answer(process, seconds + ANSWER_SECONDS)
            requests += [Request(*one) for one in answer["requests"]]
            for name, found in answer["texts"].items():
                texts.setdefault(name, set()).update(found)
        return Turn(callers, start + seconds, requests, texts)

    def _send(self, process: Any, turn: dict[str, Any]) -> None:
        try:
            process.stdin.write(json.dumps(turn).encode("utf-8") + b"\n")
            process.stdin.flush()
        except OSError:
            raise LoadError(self._reason(process)) from None

    def _answer(self, process: Any, seconds: float) -> dict[str, Any]:
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            raise LoadError(f"a load generator gave no answer within {seconds:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise LoadError(self._reason(process))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(f"a request failed: {answer['error']}")
        return answer

    def _reason(self, process: Any) -> str:
        code = process.wait(STOP_SECONDS)
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"a load generator ended with code {code}: {lines[-1] if lines else 'it wrote nothing'}"


def write_clips(path: Path, clips: Sequence[Clip]) -> Path:
    """Write the clips as the file that load generators read."""
    with path.open("wb") as file:
        np.savez(file, **{clip.name: clip.samples for clip in clips})
    return path
