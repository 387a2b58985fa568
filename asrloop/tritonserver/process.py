"""One running tritonserver: start it, wait until it is ready, forward its log, stop it and all its processes."""

import contextlib
import ctypes
import os
import resource
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from asrloop.config import ServerSettings
from asrloop.tritonserver import canary, checks
from asrloop.tritonserver.install import TritonError, TritonInstallation
from asrloop.tritonserver.log import LEVELS, failed_models, parse
from asrloop.tritonserver.segments import Segments, remove_left_over
from asrloop.tritonserver.transport import connection_options

READY_MODEL = "asr_ensemble"
LARGEST_STACK = 64 << 30
ADMINISTRATION = "model-repository,shared-memory,trace,logging"
"""Parts of Triton's API that can change the server or read its memory."""

NO_HEADER = "No:Header"
"""Name of the header that these parts are made to require, and that nobody can send: the name of a field has no colon in HTTP/1
(RFC 9112) and neither colon nor capitals in HTTP/2 (RFC 9113), and both servers refuse a request with another. Triton takes name
and value on its command line only, which every user of the machine can read, so a secret would be none."""


class TritonServer:
    """A tritonserver process. Use it as a context manager: entering waits until every model is ready, leaving stops it.

    ``log`` is called with (level, text) for each line of the server's log that is at or above the settings' level.
    Raises TritonError when it cannot start or is not ready in time; the message says how to fix it.
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
        self._segments: Segments | None = None

    @property
    def pid(self) -> int:
        """Process id of the running tritonserver."""
        if self._process is None:
            raise TritonError("the server is not running: enter its context first")
        return self._process.pid

    @property
    def http_endpoint(self) -> str:
        """Host and port of HTTP."""
        return f"{self._reachable}:{self.settings.http_port}"

    @property
    def grpc_endpoint(self) -> str:
        """Host and port of gRPC."""
        return f"{self._reachable}:{self.settings.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics."""
        return f"http://{self._reachable}:{self.settings.metrics_port}/metrics"

    @property
    def _reachable(self) -> str:
        """Host to call from this machine: 0.0.0.0 is an address to listen on, not to call."""
        return "127.0.0.1" if checks.listens_everywhere(self.settings.host) else self.settings.host

    def __enter__(self) -> "TritonServer":
        checks.check_ports(self.settings)
        left_over = remove_left_over()
        if left_over:
            self._log("warning", f"removed {left_over >> 20} MiB of shared memory that a killed server left behind")
        checks.check_shared_memory()
        repositories = checks.checked_repositories(self._model_repository)
        try:
            self._start(repositories)
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
        """Wait until the process ends by itself and return its exit code."""
        if self._process is None:
            raise TritonError("the server is not running: enter its context first")
        return self._process.wait()

    def stop(self) -> None:
        """Ask the server to finish running requests and end; kill it and its stubs if that takes too long."""
        with undisturbed():
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            self._remove_segments()
            return
        group = process.pid
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(self.settings.stop_timeout_seconds + 5)
            except subprocess.TimeoutExpired:
                self._log(
                    "warning",
                    f"the server did not stop within {self.settings.stop_timeout_seconds + 5:g} s: killing it",
                )
        # The stubs are in the server's process group and must not outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join(5)
        self._remove_segments()

    def kill(self) -> None:
        """Kill a broken server at once, so that callers see their connections drop instead of waiting."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def _remove_segments(self) -> None:
        segments, self._segments = self._segments, None
        if segments is not None:
            segments.remove()

    def _start(self, repositories: Sequence[Path]) -> None:
        settings = self.settings
        self._segments = Segments(settings.grpc_port)
        command = [
            str(self._installation.binary),
            *(f"--model-repository={repository}" for repository in repositories),
            f"--backend-directory={self._installation.backends}",
            f"--backend-config=python,shm-region-prefix-name={self._segments.prefix}",
            f"--http-address={settings.host}", f"--http-port={settings.http_port}",
            f"--grpc-address={settings.host}", f"--grpc-port={settings.grpc_port}",
            f"--metrics-address={settings.host}", f"--metrics-port={settings.metrics_port}",
            f"--exit-timeout-secs={round(settings.stop_timeout_seconds) or 1}",
            f"--log-info={str(settings.log_level in ('info', 'verbose')).lower()}",
            f"--log-verbose={int(settings.log_level == 'verbose')}",
            *(["--disable-auto-complete-config"] if checks.are_described(repositories) else []),
            *connection_options(self._installation),
            *self._restrictions(),
            *self._tracing(),
            *self._extra_arguments,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            # NumPy's matrix library would start threads beside those that decode, encode and step.
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ, **self._installation.environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            # Own process group: Ctrl-C in the terminal reaches only this process, which stops the server in order.
            start_new_session=True,
            pass_fds=[self._segments.lock],
            preexec_fn=_prepare_child,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._forward_log, args=(self._process,), name="triton-log", daemon=True)
        self._reader.start()

    def _forward_log(self, process: "subprocess.Popen[str]") -> None:
        if process.stdout is None:
            raise AssertionError("the process was started without a pipe")
        shown = LEVELS.index(self.settings.log_level)
        with process.stdout as lines:
            for line in lines:
                level, text = parse(line.rstrip())
                if level == "error":
                    self._problems.append(text)
                if LEVELS.index(level) <= shown:
                    # A broken sink must not end this loop: the server would block on a full pipe.
                    with contextlib.suppress(Exception):
                        self._log(level, text)

    def _wait_until_ready(self) -> None:
        process = self._process
        if process is None:
            raise AssertionError("the server was not started")
        limit = self.settings.start_timeout_seconds
        deadline = time.monotonic() + limit
        # The server reports ready even while a model is not, so check the model too.
        paths = ("/v2/health/ready", f"/v2/models/{READY_MODEL}/ready")
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise TritonError(self._why_ended(process.returncode))
            if all(self._answers(path) for path in paths):
                return
            time.sleep(0.05)
        raise TritonError(
            f"the server was not ready after {limit:g} s: raise server.start_timeout_seconds, or read its log with --log-level info"
        )

    def _answers(self, path: str) -> bool:
        try:
            return canary.get(f"http://{self.http_endpoint}{path}", timeout=2)[0] == 200
        except OSError:
            return False

    def _restrictions(self) -> list[str]:
        """Return options that close administration on public addresses: they require a header that nobody can send."""
        if checks.is_loopback(self.settings.host):
            return []
        header = f"{NO_HEADER}={secrets.token_hex(16)}"  # random, for servers on PATH that may be less strict
        return [
            f"--http-restricted-api={ADMINISTRATION}:{header}",
            f"--grpc-restricted-protocol={ADMINISTRATION}:{header}",
        ]

    def _tracing(self) -> list[str]:
        """Return options that send traces of requests to a collector."""
        if not self.settings.trace_url:
            return []
        wanted = (
            "mode=opentelemetry",
            f"opentelemetry,url={self.settings.trace_url}",
            "opentelemetry,resource=service.name=asrloop",
            f"rate={self.settings.trace_rate}",
            "level=TIMESTAMPS",
        )
        return [f"--trace-config={option}" for option in wanted]

    def _why_ended(self, code: int) -> str:
        if self._reader is not None:
            self._reader.join(5)
        failures = failed_models(self._problems)
        if failures:
            return "; ".join(f"model {name} failed to load: {reason}" for name, reason in failures.items())
        reason = "; ".join(list(self._problems)[-3:]) or "its log has no reason: run with --log-level verbose"
        return f"tritonserver ended with code {code} before it was ready: {reason}"


def _prepare_child() -> None:
    """Run in the child before exec: get SIGTERM from the kernel when the parent dies, even by SIGKILL (prctl(2)), and
    enlarge the threads' stacks.

    Triton's HTTP library parses a form (curl's default content type) on the stack and needs twice the body's length: with the
    usual 8 MiB, a body over 4 MB crashes the server. An unused stack takes address space only. So it may be as large as
    the kernel grants for one mapping, enough for any body that fits into memory beside its copies.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = min(LARGEST_STACK, memory * 3 // 4)
    if checks.overcommits():
        resource.setrlimit(
            resource.RLIMIT_STACK, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that it stops the program like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM while processes are stopped, which has limits of its own: a second one would leave them behind."""
    if threading.current_thread() is not threading.main_thread():  # only that one hears of signals
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
