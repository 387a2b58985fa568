"""Each foreseeable reason why a server cannot start is one line that says how to fix it; stopping leaves nothing behind."""

import contextlib
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from asrloop.config import ServerSettings
from asrloop.cores import usable_cores
from asrloop.tritonserver import canary, checks, install
from asrloop.tritonserver.install import TritonError, TritonInstallation
from asrloop.tritonserver.process import TritonServer
from asrloop.wheels import PinnedWheel, WheelError
from tests.conftest import ROOT, StartServer, eventually
from tests.ports import free_ports

PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy")


def serve(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "scripts" / "serve.py"), *arguments]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment, "COLUMNS": "200"}
    )


def port_options() -> list[str]:
    return [f"--{name}-port={port}" for name, port in zip(("http", "metrics", "grpc"), free_ports(), strict=True)]


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def gone(pid: int) -> bool:
    """Whether the process ended; one that its parent has not collected yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stops_cleanly(number: signal.Signals, model_repository: Path) -> None:
    process = serve(*port_options())
    assert process.stderr is not None
    for line in process.stderr:
        if "Ctrl-C stops it" in line:
            break
    (triton,) = children(process.pid)
    stubs = children(triton)
    assert len(stubs) == 3  # audio_frontend, decoder_loop and asr_stream
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert log.rstrip().endswith("Stopped.")
    assert all(gone(pid) for pid in (triton, *stubs))
    assert not list(Path("/dev/shm").glob(f"triton_python_backend_shm_region_{process.pid}_*"))


@pytest.fixture(scope="module")
def guarded(
    start_server: StartServer, installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """Serves a copy of the repository, with administration closed as off the loopback, behind a proxy that is not there."""
    repository = tmp_path_factory.mktemp("guarded") / "model_repository"
    shutil.copytree(ROOT / "model_repository", repository, ignore=shutil.ignore_patterns("__pycache__"))
    flags = TritonServer(installation, ROOT, ServerSettings(host="0.0.0.0"), print)._restrictions()
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name in PROXIES:
                patch.setenv(name, "http://127.0.0.1:9")
            server = stack.enter_context(start_server(repository, flags))
        yield server


def test_a_proxy_of_the_environment_is_not_asked(guarded: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness used to be asked through http_proxy, which cannot reach this machine's loopback."""
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    canary.transcribe(guarded.http_endpoint, timeout=20)


def test_health_asks_for_a_transcript(server: TritonServer) -> None:
    command = [sys.executable, "-m", "asrloop.cli", "health", "--server"]
    well = subprocess.run([*command, server.http_endpoint], capture_output=True, text=True, check=False, timeout=60)
    assert (well.returncode, "transcribes" in well.stderr) == (0, True)
    (port,) = free_ports(1)
    gone = subprocess.run([*command, f"127.0.0.1:{port}"], capture_output=True, text=True, check=False, timeout=60)
    assert gone.returncode == 1
    assert "asr_ensemble gave no answer" in gone.stderr


@pytest.mark.parametrize(
    ("host", "closed"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True), ("10.1.2.3", True)]
)
def test_off_the_loopback_administration_is_closed(host: str, closed: bool, installation: TritonInstallation) -> None:
    settings = ServerSettings(host=host)
    assert bool(TritonServer(installation, ROOT, settings, print)._restrictions()) == closed


def test_closed_administration_is_refused_and_inference_is_not(guarded: TritonServer) -> None:
    for path in (
        "v2/repository/index",
        "v2/repository/models/decoder_loop/unload",
        "v2/systemsharedmemory/region/x/register",
    ):
        request = urllib.request.Request(f"http://{guarded.http_endpoint}/{path}", b"{}")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)
    with (
        triton_grpc.InferenceServerClient(guarded.grpc_endpoint) as client,
        pytest.raises(InferenceServerException, match="restricted"),
    ):
        client.unload_model("decoder_loop")
    canary.transcribe(guarded.http_endpoint, timeout=20)


def test_what_every_user_can_read_opens_no_administration(guarded: TritonServer) -> None:
    """The command of a process is readable by all users of the machine, so it holds nothing that a request could bring."""
    command = Path(f"/proc/{guarded.pid}/cmdline").read_bytes().split(b"\0")
    options = dict(option.split(b":", 1) for option in command if b"restricted" in option)
    assert len(options) == 2
    host, port = guarded.http_endpoint.split(":")
    for header in options.values():
        name, _, value = header.partition(b"=")
        for line in (
            name + b": " + value,
            name.replace(b":", b"%3A") + b":" + value,
            name.split(b":")[0] + b":" + value,
        ):
            request = b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\n" + line + b"\r\nContent-Length: 2\r\n\r\n{}"
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(request)
                assert b"403" in connection.recv(100)
        index = b"/inference.GRPCInferenceService/RepositoryIndex"
        for sent in (name, name.lower(), name.replace(b":", b"")):
            assert b"decoder_loop" not in http2(guarded, index, [(b"triton-grpc-protocol-" + sent, value)])
    live = http2(guarded, b"/inference.GRPCInferenceService/ServerLive", [(b"x-any", b"thing")])
    assert b"\x00\x00\x00\x00\x02\x08\x01" in live, "the call itself is right"


def http2(server: TritonServer, method: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """What comes back for a gRPC call with an empty message and any headers, which no client would send (RFC 9113, RFC 7541)."""

    def literal(text: bytes) -> bytes:
        return bytes([len(text)]) + text

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content

    usual = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", method), (b":authority", b"x")]
    usual += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    block = b"".join(b"\0" + literal(name) + literal(value) for name, value in (*usual, *headers))
    host, port = server.grpc_endpoint.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, block))
        connection.sendall(frame(0, 1, 1, b"\0" * 5))
        with contextlib.suppress(TimeoutError, ConnectionError):
            while b"grpc-status" not in answer and (more := connection.recv(1 << 16)):
                answer += more
    return answer


def test_a_log_sink_that_raises_does_not_end_the_server(
    installation: TritonInstallation, model_repository: Path
) -> None:
    def broken(level: str, text: str) -> None:
        raise OSError("the disk is full")

    http, grpc, metrics = free_ports()
    settings = ServerSettings(
        http_port=http, grpc_port=grpc, metrics_port=metrics, log_level="verbose", stop_timeout_seconds=5
    )
    with TritonServer(installation, model_repository, settings, broken) as server:
        for _ in range(20):
            canary.transcribe(server.http_endpoint, timeout=20)


def test_a_killed_server_leaves_nothing(start_server: StartServer, model_repository: Path) -> None:
    with start_server(model_repository) as server:
        stubs = children(server.pid)
        assert server._segments is not None
        prefix = server._segments.prefix
        assert list(Path("/dev/shm").glob(f"{prefix}*"))
        os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: all(gone(pid) for pid in stubs))
    assert not list(Path("/dev/shm").glob(f"{prefix}*"))


def test_a_taken_port_is_named(model_repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = serve(f"--grpc-port={port}", *port_options()[:2])
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"grpc port {port} on 127.0.0.1: Address already in use" in log
    assert "--grpc-port" in log


def test_missing_models_are_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "model_repository", tmp_path / "repository", ignore=shutil.ignore_patterns("*.onnx"))
    process = serve(f"--model-repository={tmp_path / 'repository'}", *port_options())
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"decoder_loop/1/encoder.onnx and .*decoder.onnx missing; make them with `make models`", log)


def test_serve_says_which_settings_it_uses(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {http_port: 1, grpc_port: 1, metrics_port: 1}\n")
    command = [sys.executable, "-m", "asrloop.cli", "serve", f"--model-repository={ROOT / 'model_repository'}"]
    environment = {**os.environ, "ASRLOOP_SERVER__LOG_LEVEL": "error"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert f"Settings: {tmp_path / 'config.yaml'} and ASRLOOP_SERVER__LOG_LEVEL" in ended.stderr
    assert "give each its own number" in ended.stderr


def test_a_whole_repository_loads_from_elsewhere(guarded: TritonServer) -> None:
    """As cloud stores do it: each model folder is copied alone, so a model may rely on its own folder only."""
    assert guarded.pid > 0


def test_the_mode_decides_about_the_second_repository(repository_copy: Path) -> None:
    assert checks.checked_repositories(repository_copy) == [repository_copy]
    config = repository_copy / "decoder_loop" / "config.pbtxt"
    config.write_text(config.read_text().replace('"in_process"', '"bls"'))
    bls = repository_copy.parent / "bls_repository"
    assert checks.checked_repositories(repository_copy) == [repository_copy, bls]
    shutil.rmtree(bls / "encoder")
    with pytest.raises(TritonError, match=r"bls_repository/encoder/1/model.onnx missing; make them with `make models`"):
        checks.checked_repositories(repository_copy)


def test_triton_asks_models_only_where_a_configuration_lacks_something(repository_copy: Path) -> None:
    repositories = [repository_copy, repository_copy.parent / "bls_repository"]
    assert checks.are_described(repositories)
    config = repository_copy / "asr_file" / "config.pbtxt"
    whole = config.read_text()
    for field in ("input", "output", "max_batch_size"):
        config.write_text(re.sub(rf"^{field}", f"# {field}", whole, flags=re.MULTILINE))
        assert not checks.are_described(repositories)
    config.unlink()
    assert not checks.are_described(repositories)


@pytest.mark.slow
def test_a_model_that_fails_to_load_shows_its_reason(start_server: StartServer, repository_copy: Path) -> None:
    (repository_copy / "decoder_loop" / "1" / "decoder.onnx").write_bytes(b"no graph")
    with (
        pytest.raises(TritonError, match=r"model decoder_loop failed to load: .*decoder.onnx"),
        start_server(repository_copy),
    ):
        pass


def test_a_wrong_setting_shows_when_the_model_loads(start_server: StartServer, model_repository: Path) -> None:
    with (
        pytest.raises(TritonError, match=r"failed to load: .*engine.slots = 'x'"),
        start_server(model_repository, ASRLOOP_ENGINE__SLOTS="x"),
    ):
        pass


def test_unsupported_machines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        with pytest.raises(TritonError, match="Linux on aarch64: .* x86-64 Linux"):
            install._check_machine()
    with monkeypatch.context() as patch:
        patch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
        with pytest.raises(TritonError, match=r"glibc 2.31: .* needs glibc 2.35"):
            install._check_machine()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", (3, 14, 0))
        with pytest.raises(TritonError, match=r"supported are 3.11 to 3.12"):
            install._check_machine()


def test_a_missing_libpython_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install.sysconfig, "get_config_var", lambda name: str(tmp_path))
    monkeypatch.setattr(install.ctypes, "CDLL", _not_found)
    with pytest.raises(TritonError, match=r"libpython3.\d+.so.1.0 not found .*apt-get install libpython3"):
        install._libpython_directory()


def _not_found(name: str) -> None:
    raise OSError(name)


def test_little_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_SHARED_MEMORY", 1 << 62)
    with pytest.raises(TritonError, match=r"/dev/shm: \d+ MiB free, at least .* --shm-size"):
        checks.check_shared_memory()


def test_a_wheel_that_is_not_there_is_named(tmp_path: Path) -> None:
    wheel = PinnedWheel("nvidia-pytriton", "0.7.0", "0" * 64, 55, ("pytriton/",))
    with pytest.raises(
        WheelError, match=r"pip could not download nvidia-pytriton==0.7.0: .*run the same command again"
    ):
        wheel.fetch(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_tritonserver_on_path_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "opt" / "bin" / "tritonserver"
    binary.parent.mkdir(parents=True)
    binary.touch(mode=0o755)
    (tmp_path / "opt" / "backends" / "python").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(binary.parent), prepend=os.pathsep)
    found = install.find_or_assemble(tmp_path / "cache")
    assert found.binary == binary
    assert (found.backends / "python").resolve() == tmp_path / "opt" / "backends" / "python"
    assert (found.backends / "onnxruntime" / "model.py").is_file()


def test_quotas_limit_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cores(tmp_path) == min(2, len(os.sched_getaffinity(0)))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_pages_are_large_and_the_callers_own_tunables_come_last(
    monkeypatch: pytest.MonkeyPatch, installation: TritonInstallation
) -> None:
    assert installation.environment["GLIBC_TUNABLES"].startswith("glibc.malloc.hugetlb=1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert install._huge_pages() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.hugetlb=0"}
