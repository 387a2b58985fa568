"""Starts processes of callers, gives them their turns, and puts together what they measured."""

import json
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from asrloop_bench.load.turn import Request, Turn
from asrloop_bench.method.clips import Clip

# Enough for the slowest process to be waiting when the turn begins.
LEAD_SECONDS = 0.03
ANSWER_SECONDS = 180.0
STOP_SECONDS = 5.0


class LoadError(RuntimeError):
    """A process of callers failed, or a request of it did; the message has the reason."""


class Generators:
    """``count`` processes with the same ``command``; use as a context manager. The callers of a turn are spread over them.

    ``cores`` pins the processes to these in turns.
    """

    def __init__(self, command: Sequence[str], count: int = 1, cores: Sequence[int] = ()) -> None:
        self._command = list(command)
        self._count = count
        self._cores = cores
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log: Any = None
        self._turns = 0

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        for _ in range(self._count):
            self._processes.append(
                subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if kind is not None:
                process.kill()
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._log.close()

    def turn(self, way: Sequence[str], callers: int, order: Sequence[str], seconds: float) -> Turn:
        """``callers`` closed loops over the clips of ``order`` for ``seconds``, by one of the program's ways. Raises LoadError."""
        start = time.monotonic() + LEAD_SECONDS
        self._turns += 1
        busy = []
        first = 0
        for number, process in enumerate(self._processes):
            mine = callers // self._count + (number < callers % self._count)
            if mine:
                core = self._cores[number % len(self._cores)] if self._cores else None
                told = {"way": list(way), "callers": mine, "first": first, "order": list(order), "start": start,
                        "until": start + seconds, "core": core}  # fmt: skip
                self._tell(process, told)
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

    def _tell(self, process: "subprocess.Popen[bytes]", told: Mapping[str, Any]) -> None:
        if process.stdin is None:
            raise AssertionError("started with pipes")
        try:
            process.stdin.write(json.dumps(told).encode("utf-8") + b"\n")
            process.stdin.flush()
        except OSError:
            raise LoadError(self._why(process)) from None

    def _answer(self, process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, Any]:
        if process.stdout is None:
            raise AssertionError("started with pipes")
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            raise LoadError(f"a load generator gave no answer within {seconds:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise LoadError(self._why(process))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(f"a request failed: {answer['error']}")
        return answer

    def _why(self, process: "subprocess.Popen[bytes]") -> str:
        code = process.wait(STOP_SECONDS)
        self._log.seek(0)
        said = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return f"a load generator ended with code {code}: {said[-1] if said else 'it said nothing'}"


def write_clips(path: Path, clips: Sequence[Clip]) -> Path:
    """The clips as the file that load generators read."""
    with path.open("wb") as file:
        np.savez(file, **{clip.name: clip.samples for clip in clips})
    return path
