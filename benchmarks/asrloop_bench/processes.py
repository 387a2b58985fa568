"""Programs that run beside what is measured: started, waited for until they are ready, ended with the context."""

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from asrloop.tritonserver import canary
from asrloop.tritonserver.install import TritonError

STOP_SECONDS = 60.0


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    is_ready: Callable[[str], bool],
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    error: type[Exception] = TritonError,
) -> Iterator[None]:
    """Run ``command`` in a session of its own. ``is_ready`` is given what it has written so far.

    Raises ``error`` with the last lines that it wrote where it ends early, or is not ready after ``seconds``.
    """
    with tempfile.TemporaryFile() as log:

        def written() -> str:
            log.seek(0)
            return log.read().decode("utf-8", "replace")

        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=_end_with_us,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + seconds
            while not is_ready(written()):
                if process.poll() is not None or time.monotonic() > deadline:
                    last = " ".join(written().strip().splitlines()[-3:])
                    raise error(f"{name} did not start: {last or 'it wrote nothing'}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # tritonserver has asked the kernel to end with it
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the workers that it forked


def answers(url: str) -> bool:
    """Return True when a GET of ``url`` is answered with 200."""
    try:
        return canary.get(url, timeout=2)[0] == 200
    except OSError:
        return False


def _end_with_us() -> None:
    """In the child before exec: have the kernel send SIGTERM when the starter dies, even by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
