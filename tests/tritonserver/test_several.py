"""`asrloop serve --servers N`: ports, shares, starting and stopping together, one that gives up, one that is killed."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from asrloop_client import AsrClient, Progress
from typer.testing import CliRunner

from asrloop import cli, config
from asrloop.config import ServerSettings
from asrloop.cores import SERVERS_VARIABLE, shares, usable_cores
from asrloop.tritonserver import checks, several
from asrloop.tritonserver.checks import SHARED_MEMORY
from asrloop.tritonserver.hangs import SERVER
from asrloop.tritonserver.install import TritonError
from asrloop.tritonserver.process import stopped_by_signals
from asrloop.tritonserver.processes import local_server
from tests.conftest import BECKETT, ROOT, eventually, words
from tests.ports import free_ports
from tests.tritonserver.test_start_and_stop import gone

LIMITS = ServerSettings(stop_timeout_seconds=0.1)


def ports_of(settings: ServerSettings) -> tuple[int, int, int]:
    return settings.http_port, settings.grpc_port, settings.metrics_port


def test_no_two_servers_have_a_port_in_common() -> None:
    found = several.settings_of(ServerSettings(), 8)
    ports = [port for one in found for port in ports_of(one)]
    assert len(set(ports)) == len(ports) == 24
    assert [ports_of(one) for one in found[:2]] == [(8000, 8001, 8002), (8010, 8011, 8012)]


def test_ports_that_would_collide_are_named() -> None:
    with pytest.raises(
        TritonError, match=r"^http_port of server 2 and grpc_port of server 1 would both be 8010, .*--http-"
    ):
        several.settings_of(ServerSettings(grpc_port=8010), 2)
    assert several.settings_of(ServerSettings(grpc_port=8010), 1)


def test_ports_beyond_the_last_are_named() -> None:
    with pytest.raises(
        TritonError,
        match=r"^grpc_port of server 3 would be 65540, the last port is 65535: give --grpc-port 65515 or less",
    ):
        several.settings_of(ServerSettings(grpc_port=65520), 3)


def test_each_server_needs_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "usable_cores", lambda: 4)
    assert [several.number_of(1), several.number_of(4), several.number_of("auto")] == [1, 4, 1]
    with pytest.raises(TritonError, match=r"servers is 5: this process may use 4 cores, .* give --servers 4 or fewer"):
        several.number_of(5)
    monkeypatch.setattr(several, "usable_cores", lambda: 1)
    with pytest.raises(TritonError, match=r"this process may use 1 core, .* give --servers 1 \(server"):
        several.number_of(2)
    monkeypatch.setattr(several, "usable_cores", lambda: 64)
    assert several.number_of("auto") == 4


@pytest.mark.parametrize("given", ["0", "-1", "abc", "65", "1000", "1.5", "", "٣"])
def test_what_is_no_number_of_servers_is_named(given: str) -> None:
    ended = CliRunner().invoke(cli.app, ["serve", f"--servers={given}"])
    assert ended.exit_code == 1
    assert f"servers = {given!r}: give a whole number from 1 to 64, or auto" in ended.output


def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_SERVER__SERVERS", "3")
    assert config.load().server.servers == 3
    monkeypatch.setenv("ASRLOOP_SERVER__SERVERS", "auto")
    assert config.load().server.servers == "auto"
    monkeypatch.setenv("ASRLOOP_SERVER__SERVERS", "0")
    with pytest.raises(config.ConfigError, match=r"server.servers.* = '0': give a whole number from 1 to 64, or auto"):
        config.load()


def test_health_asks_every_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def ask(address: str, metrics: int, *_: object) -> str:
        asked[address] = metrics
        return f"{address} transcribes"

    monkeypatch.setattr(cli, "_health", ask)
    monkeypatch.setattr(several, "usable_cores", lambda: 2)
    monkeypatch.setenv("ASRLOOP_SERVER__SERVERS", "2")
    assert CliRunner().invoke(cli.app, ["health"]).exit_code == 0
    assert asked == {"127.0.0.1:8000": 8002, "127.0.0.1:8010": 8012}


def test_health_tells_of_every_server_also_where_some_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(address: str, *_: object) -> str:
        if address in ("127.0.0.1:8000", "127.0.0.1:8020"):
            raise TritonError(f"{address}: asr_ensemble gave no answer")
        return f"{address} transcribes"

    monkeypatch.setattr(cli, "_health", ask)
    monkeypatch.setattr(several, "usable_cores", lambda: 4)
    monkeypatch.setenv("ASRLOOP_SERVER__SERVERS", "4")
    ended = CliRunner().invoke(cli.app, ["health"])
    assert ended.exit_code == 1
    assert ended.output.splitlines() == [
        "127.0.0.1:8010 transcribes",
        "127.0.0.1:8030 transcribes",
        "error: 127.0.0.1:8000: asr_ensemble gave no answer; 127.0.0.1:8020: asr_ensemble gave no answer",
    ]


@pytest.mark.parametrize("servers", [1, 2])
def test_ports_of_another_that_only_starts_are_named_once(
    servers: int, monkeypatch: pytest.MonkeyPatch, model_repository: Path
) -> None:
    monkeypatch.setattr(several, "usable_cores", lambda: 2)
    first = free_block()
    port = first + several.PORT_STEP * (servers - 1)
    other = ServerSettings(http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    command = ["serve", f"--servers={servers}", f"--model-repository={model_repository}"]
    command += [f"--{name}-port={first + place}" for place, name in enumerate(("http", "grpc", "metrics"))]
    with checks.claimed_ports([other]):
        ended = CliRunner().invoke(cli.app, command)
    assert ended.exit_code == 1
    settings, error = ended.output.splitlines()
    assert settings.startswith("Settings: ")
    assert error.startswith(f"error: http port {port} on 127.0.0.1: another asrloop serve has it: stop that one, or ")
    with checks.claimed_ports([other]):
        pass  # it has given back what it had


LONG_NAME = ".".join(f"{0:040}{part}" for part in ("177", "0", "0", "1"))
"""A name of the loopback, too long for that of a socket."""


@pytest.mark.parametrize("name", ["localhost", LONG_NAME, "0.0.0.0"], ids=["another", "long", "everywhere"])
def test_a_port_is_claimed_by_whatever_name_its_address_is_called(name: str) -> None:
    http, grpc, metrics = free_ports()
    named, numbered = (
        ServerSettings(host=host, http_port=http, grpc_port=grpc, metrics_port=metrics) for host in (name, "127.0.0.1")
    )
    for first, second in ((named, numbered), (numbered, named)):
        taken = f"^http port {http} on {re.escape(second.host)}: another asrloop serve has it"
        with checks.claimed_ports([first]), pytest.raises(TritonError, match=taken), checks.claimed_ports([second]):
            pass


TWO_CORES = pytest.mark.skipif(usable_cores() < 2, reason="each server needs a core")

STAND_IN = """
import os, sys, time
print("Ready." if sys.argv[1] == "--servers=1" else sys.argv, file=sys.stderr, flush=True)
print(*sys.argv[2:], os.environ["{variable}"], len(os.sched_getaffinity(0)), file=sys.stderr, flush=True)
{then}
"""


def stand_ins(then: str, said: list[str], servers: int = 2) -> several.Servers:
    code = STAND_IN.format(variable=SERVERS_VARIABLE, then=then)
    settings = several.settings_of(LIMITS, servers)
    return several.Servers(settings, ["--host=h"], said.append, [sys.executable, "-c", code])


def interrupt() -> None:
    raise KeyboardInterrupt


@TWO_CORES
def test_each_gets_its_ports_and_says_its_number() -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), stand_ins("time.sleep(60)", said) as servers:
        servers.run(interrupt)
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    for number, ports in ((1, "--http-port=8000 --grpc-port=8001"), (2, "--http-port=8010 --grpc-port=8011")):
        assert any(line.startswith(f"{number} | {ports} ") and line.endswith("--host=h 2 " + share) for line in said), (
            said
        )
    assert all(process.returncode == -signal.SIGTERM for process in servers._processes)


@TWO_CORES
def test_one_that_gives_up_ends_all() -> None:
    said: list[str] = []
    then = "sys.exit(1) if '8010' in sys.argv[2] else time.sleep(60)"
    with (
        pytest.raises(TritonError, match=r"^server 2 ended with code 1 \(its log has the reason\): stopping all"),
        stand_ins(then, said) as servers,
    ):
        servers.run(lambda: None)
    assert [process.returncode for process in servers._processes] == [-signal.SIGTERM, 1]


@TWO_CORES
def test_one_that_is_killed_ends_all_and_the_kernels_log_is_named() -> None:
    said: list[str] = []
    then = "os.kill(os.getpid(), 9) if '8010' in sys.argv[2] else time.sleep(60)"
    with (
        pytest.raises(
            TritonError, match=r"^server 2 was ended by SIGKILL \(out of memory\? see the kernel's log\): stopping all$"
        ),
        stand_ins(then, said) as servers,
    ):
        servers.run(lambda: None)


@TWO_CORES
@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_who_is_told_twice_to_stop_leaves_none_behind(again: signal.Signals) -> None:
    said: list[str] = []
    then = (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(0))); "
        "print('slow', file=sys.stderr); time.sleep(60)"
    )
    servers = stand_ins(then, said)
    with stopped_by_signals(), suppress(KeyboardInterrupt), servers:
        assert eventually(lambda: {"1 | slow", "2 | slow"} <= set(said))
        threading.Timer(0.2, os.kill, [os.getpid(), again]).start()
        raise KeyboardInterrupt
    assert [process.poll() for process in servers._processes] == [0, 0]


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "STOP_SECONDS", 0.2)
    said: list[str] = []
    then = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', file=sys.stderr); time.sleep(60)"
    )
    with stand_ins(then, said, servers=1) as servers:
        assert eventually(lambda: "1 | deaf" in said)
    assert servers._processes[0].returncode == -signal.SIGKILL
    assert "1 | did not stop in time: killing it" in said


@TWO_CORES
def test_a_kill_of_their_parent_ends_them() -> None:
    code = """
import sys
from asrloop.tritonserver import several
from asrloop.config import ServerSettings
command = [sys.executable, "-c", "import time; time.sleep(60)"]
with several.Servers(several.settings_of(ServerSettings(), 2), [], print, command) as servers:
    print(*(process.pid for process in servers._processes), flush=True)
    servers.run(lambda: None)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 2
    assert eventually(lambda: all(map(gone, children)))


@TWO_CORES
def test_ready_is_said_once_and_after_all() -> None:
    said, told = list[str](), list[int]()
    then = "print('Ready.  again', file=sys.stderr, flush=True); time.sleep(0.5)"
    with pytest.raises(TritonError, match="ended with code 0"), stand_ins(then, said) as servers:
        servers.run(lambda: told.append(sum(line.endswith("| Ready.") for line in said)))
    assert told == [2]


@pytest.mark.slow
@TWO_CORES
def test_one_of_two_is_killed_and_the_other_serves(tmp_path: Path, model_repository: Path, beckett_path: Path) -> None:
    http = free_block()
    ports = [http + several.PORT_STEP * number for number in range(2)]
    log = tmp_path / "log"
    command = [sys.executable, "-m", "asrloop.cli", "serve", "--servers=2", f"--model-repository={model_repository}"]
    command += [f"--{name}-port={http + place}" for place, name in enumerate(("http", "grpc", "metrics"))]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stderr=sink)
    try:
        assert eventually(lambda: "Ctrl-C stops them" in log.read_text() or process.poll() is not None, 120)
        said = log.read_text()
        list_of_servers = f"127.0.0.1:{ports[0] + 1},127.0.0.1:{ports[1] + 1}"
        assert f"\n{list_of_servers}\n" in said, said
        before = [local_server(port) for port in ports]
        assert [len(os.sched_getaffinity(each[SERVER])) for each in before] == [
            len(cores) for cores in shares(len(ports))
        ]
        assert all(len(list(SHARED_MEMORY.glob(f"*_{port + 1}_*_lock"))) == 1 for port in ports)
        with AsrClient(list_of_servers) as client:
            for address in list_of_servers.split(","):
                with AsrClient(address) as one:
                    assert words(one.transcribe(beckett_path).text) == words(BECKETT)
            assert all(progress_of_two(client, beckett_path)), "each call asks the server that has it"
            os.kill(before[0][SERVER], signal.SIGKILL)
            for _ in range(10):
                assert words(client.transcribe(beckett_path).text) == words(BECKETT)
        assert eventually(lambda: log.read_text().count("1 | Ready.") == 2, 60), log.read_text()
        after = [local_server(port) for port in ports]
        assert after[0] != before[0]
        assert after[1] == before[1], "the other one was not touched"
        with AsrClient(f"127.0.0.1:{ports[0] + 1}") as one:
            assert words(one.transcribe(beckett_path).text) == words(BECKETT)
        assert health(http).stderr.count(" transcribes (") == 2
    finally:
        process.terminate()
        code = process.wait(60)
    assert (code, log.read_text().splitlines()[-1]) == (0, "Stopped.")
    assert all(gone(pid) for each in after for pid in each.values())
    assert not [path for port in ports for path in SHARED_MEMORY.glob(f"*shm_region_*_{port + 1}_*")]


def health(http: int) -> "subprocess.CompletedProcess[str]":
    names = zip(("HTTP", "GRPC", "METRICS"), range(3), strict=True)
    ports = {f"ASRLOOP_SERVER__{name}_PORT": str(http + place) for name, place in names}
    return subprocess.run(
        [sys.executable, "-m", "asrloop.cli", "health"],
        env={**os.environ, **ports, "ASRLOOP_SERVER__SERVERS": "2"}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip


def progress_of_two(client: AsrClient, path: Path) -> list[float]:
    """Return how many seconds of two long recordings, one at each server, were known while they were transcribed."""
    samples, rate = soundfile.read(path, dtype="float32")
    recording, known = np.tile(samples, 30), [0.0, 0.0]

    def call(number: int) -> None:
        def note(progress: Progress) -> None:
            known[number] = max(known[number], progress.known)

        client.transcribe(recording, sample_rate=rate, on_progress=note)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(call, range(2)))
    return known


def free_block() -> int:
    """Return a port from which on the ports of two servers are free."""
    while True:
        (first,) = free_ports(1)
        try:
            for each in several.settings_of(
                ServerSettings(http_port=first, grpc_port=first + 1, metrics_port=first + 2), 2
            ):
                checks.check_ports(each)
        except TritonError:
            continue
        return first


@pytest.mark.parametrize("host", ["", " ", "*", "::", "::1", "a" * 64, "192.0.2.1"])
def test_a_host_that_cannot_be_listened_on_is_named_and_no_port(host: str) -> None:
    with pytest.raises(
        TritonError, match=rf"^host {re.escape(repr(host))}: .*: give an IPv4 address .*--host"
    ) as error:
        checks.check_ports(ServerSettings(host=host))
    assert "-port" not in str(error.value)


def test_what_keeps_a_port_from_us_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    settings = ServerSettings(http_port=port, grpc_port=port + 1, metrics_port=port + 2)
    with socket.socket() as user:
        user.bind(("127.0.0.1", port))
        user.listen()
        with pytest.raises(
            TritonError, match=rf"^http port {port} on 127.0.0.1: Address already in use: stop its user, or "
        ):
            checks.check_ports(settings)

    def bind(_: socket.socket, address: tuple[str, int]) -> None:
        if address[1]:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(TritonError, match=r"Permission denied: choose another with --http-port$"):
        checks.check_ports(settings)
