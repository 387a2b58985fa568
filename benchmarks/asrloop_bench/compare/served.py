"""A tree's own server, started by its own command, which every commit has."""

import ctypes
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from asrloop.tritonserver import canary
from asrloop.tritonserver.checks import free_ports
from asrloop_bench.compare.tree import Tree, TreeError, environment

START_SECONDS = 120.0
STOP_SECONDS = 30.0


@contextmanager
def served(tree: Tree) -> Iterator[str]:
    """The gRPC address of a server of ``tree`` on free ports, with the settings of its own config.yaml. Raises TreeError."""
    http, grpc, metrics = free_ports()
    command = [str(tree.python), "scripts/serve.py", f"--http-port={http}", f"--grpc-port={grpc}"]
    command += [f"--metrics-port={metrics}", "--host=127.0.0.1", "--log-level=error"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=tree.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=_end_with_us,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _is_ready(http):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().decode("utf-8", "replace").strip().splitlines()[-3:]
                    raise TreeError(f"the server of {tree.name} did not start: {' '.join(said) or 'it said nothing'}")
                time.sleep(0.1)
            yield f"127.0.0.1:{grpc}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()  # tritonserver has asked the kernel to end with it
                process.wait()


def _is_ready(http: int) -> bool:
    try:
        return canary.get(f"http://127.0.0.1:{http}/v2/models/asr_ensemble/ready", timeout=2)[0] == 200
    except OSError:
        return False


def _end_with_us() -> None:
    """In the child before exec: have the kernel send SIGTERM when the starter dies, even by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
