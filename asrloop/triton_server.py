"""One running tritonserver: started, waited for, its log forwarded, stopped with nothing left behind."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from asrloop.config import ServerSettings
from asrloop.triton_runtime import TritonError, TritonInstallation

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend keeps its segments, not a temporary file
LEAST_SHARED_MEMORY = 48 << 20
READY_MODEL = "asr_ensemble"

_LOG_LINE = re.compile(r'^([IWEFV])\d{4} [\d:.]+ \d+ ([\w.]+):\d+\] "?(.*?)"?$')
_LEVELS = {"E": "error", "F": "error", "W": "warning", "I": "info", "V": "verbose"}
# Said at every start on a machine without a GPU, whatever the level: no news for anybody here.
_NO_GPU = re.compile(
    r"CUDA driver version is insufficient|CudaDriverHelper has not|DCGM unable|pinned (system )?memory|NVML"
)
_FAILED_MODEL = re.compile(r"failed to load '([^']+)' version \d+: (.*)")


class TritonServer:
    """A tritonserver process. Use as a context manager: entering waits until every model is ready, leaving stops it.

    ``log`` is called with (level, text) for each line of the server's log that is at or above the settings' level.
    Raises TritonError, with the mend, when it cannot start or is not ready in time.
    """

    def __init__(
        self,
        installation: TritonInstallation,
        model_repository: Path,
        settings: ServerSettings,
        log: Callable[[str, str], None],
        extra_arguments: Sequence[str] = (),
    ) -> None:
        self.settings = settings
        self._installation = installation
        self._model_repository = model_repository.resolve()
        self._log = log
        self._extra_arguments = list(extra_arguments)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._problems: deque[str] = deque(maxlen=50)
        self._segment_prefix = ""

    @property
    def pid(self) -> int:
        """Process id of the running tritonserver."""
        if self._process is None:
            raise TritonError("the server is not running; enter its context first")
        return self._process.pid

    @property
    def http_endpoint(self) -> str:
        """Host and port of HTTP."""
        return f"{self.settings.host}:{self.settings.http_port}"

    @property
    def grpc_endpoint(self) -> str:
        """Host and port of gRPC."""
        return f"{self.settings.host}:{self.settings.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics."""
        return f"http://{self.settings.host}:{self.settings.metrics_port}/metrics"

    def __enter__(self) -> "TritonServer":
        _check_ports(self.settings)
        _check_shared_memory()
        _check_models(self._model_repository)
        self._start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> int:
        """Block until the process ends by itself and return its exit code."""
        if self._process is None:
            raise TritonError("the server is not running; enter its context first")
        return self._process.wait()

    def stop(self) -> None:
        """Ask the server to finish running requests and end; kill it and its stubs when it does not in time."""
        process, self._process = self._process, None
        if process is None:
            return
        group = process.pid
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(self.settings.stop_timeout_seconds + 5)
            except subprocess.TimeoutExpired:
                self._log("warning", f"not stopped after {self.settings.stop_timeout_seconds + 5:g} s: killing it")
        # The stubs share the server's process group: nothing of it may outlive the server.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join(5)
        for segment in SHARED_MEMORY.glob(f"{self._segment_prefix}*"):
            segment.unlink(missing_ok=True)

    def _start(self) -> None:
        settings = self.settings
        self._segment_prefix = f"asrloop_{os.getpid()}_{settings.grpc_port}_"
        command = [
            str(self._installation.binary),
            f"--model-repository={self._model_repository}",
            f"--backend-directory={self._installation.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._segment_prefix}",
            f"--http-address={settings.host}", f"--http-port={settings.http_port}",
            f"--grpc-address={settings.host}", f"--grpc-port={settings.grpc_port}",
            f"--metrics-address={settings.host}", f"--metrics-port={settings.metrics_port}",
            f"--exit-timeout-secs={round(settings.stop_timeout_seconds) or 1}",
            f"--log-info={str(settings.log_level in ('info', 'verbose')).lower()}",
            f"--log-verbose={int(settings.log_level == 'verbose')}",
            *self._extra_arguments,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **self._installation.environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            # A group of its own: Ctrl-C in the terminal reaches only us, and we stop it in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._forward_log, args=(self._process,), name="triton-log", daemon=True)
        self._reader.start()

    def _forward_log(self, process: "subprocess.Popen[str]") -> None:
        if process.stdout is None:
            raise AssertionError("started with a pipe")
        shown = ("error", "warning", "info", "verbose").index(self.settings.log_level)
        with process.stdout as lines:
            for line in lines:
                level, text = _parse(line.rstrip())
                if level == "error":
                    self._problems.append(text)
                if ("error", "warning", "info", "verbose").index(level) <= shown:
                    self._log(level, text)

    def _wait_until_ready(self) -> None:
        process = self._process
        if process is None:
            raise AssertionError("waited for before it was started")
        limit = self.settings.start_timeout_seconds
        deadline = time.monotonic() + limit
        # The server being ready is not enough: it says so while a model is not.
        paths = ("/v2/health/ready", f"/v2/models/{READY_MODEL}/ready")
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise TritonError(self._why_ended(process.returncode))
            if all(_answers(f"http://{self.http_endpoint}{path}") for path in paths):
                return
            time.sleep(0.05)
        raise TritonError(
            f"not ready after {limit:g} s; raise server.start_timeout_seconds, or look into its log with --log-level info"
        )

    def _why_ended(self, code: int) -> str:
        if self._reader is not None:
            self._reader.join(5)
        failures = {match[1]: match[2] for match in map(_FAILED_MODEL.search, self._problems) if match}
        if failures:
            return "; ".join(f"model {name} failed to load: {reason}" for name, reason in failures.items())
        reason = "; ".join(list(self._problems)[-3:]) or "no reason in its log; run with --log-level verbose"
        return f"tritonserver ended with code {code} before it was ready: {reason}"


def free_ports(count: int = 3) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def _die_with_parent() -> None:
    """In the child before exec: have the kernel send SIGTERM when the starter dies, even by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - built from our own host and port
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _parse(line: str) -> tuple[str, str]:
    match = _LOG_LINE.match(line)
    if match is None:
        return ("error" if line.startswith(("error:", "terminate called")) else "verbose"), line  # tables and banners
    level = "verbose" if _NO_GPU.search(match[3]) else _LEVELS[match[1]]
    return level, match[3].replace("\\n", " ").replace('\\"', '"').strip()


def _check_ports(settings: ServerSettings) -> None:
    ports = {"http": settings.http_port, "grpc": settings.grpc_port, "metrics": settings.metrics_port}
    if len(set(ports.values())) < len(ports):
        raise TritonError(f"ports {ports}: each must be another one")
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                raise TritonError(
                    f"{name} port {port} on {settings.host}: {error.strerror}; stop its user or choose another with --{name}-port"
                ) from None


def _check_shared_memory() -> None:
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < LEAST_SHARED_MEMORY:
        raise TritonError(
            f"{SHARED_MEMORY}: {free >> 20} MiB free, at least {LEAST_SHARED_MEMORY >> 20} are needed; "
            "give a container --shm-size=1g, or remove what fills it"
        )


def _check_models(repository: Path) -> None:
    if not repository.is_dir():
        raise TritonError(f"{repository}: no such model repository; give an existing one with --model-repository")
    missing = [
        f"{name}/1/model.onnx"
        for name in ("encoder", "decoder")
        if not (repository / name / "1" / "model.onnx").is_file()
    ]
    if missing:
        raise TritonError(f"{repository}: {' and '.join(missing)} missing; make them with `make models`")


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that one way of stopping serves both it and Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
