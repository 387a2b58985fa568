"""The states of a connection: each is answered or ended in time, whatever the caller sends, or does not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asrloop_gateway.server import Server, make_server
from asrloop_gateway.settings import Settings

from tests.gateway.conftest import RunningGateway, StartGateway, wait_for
from tests.gateway.test_hostile import HOST, TEXT, UPGRADE, closed, frame, upgraded
from tests.gateway.test_limits import KIND, PATH, answer_of

HTTP, WS = "asrloop_gateway.http_protocol", "asrloop_gateway.websocket_protocol"
HANDSHAKE = b"GET /v1/stream HTTP/1.1\r\n" + HOST + UPGRADE
SECONDS = 0.3


@pytest.fixture(scope="module")
def lonely(start_gateway: StartGateway) -> Iterator[RunningGateway]:
    """A gateway without a server, which must log nothing about its callers."""
    with start_gateway("127.0.0.1:1") as running:
        yield running
    assert not [line for line in running.log if "Traceback" in line]


class Listening:
    """A gateway in a thread of this process, so that its time limits can be short."""

    def __init__(self, **settings: object) -> None:
        self.settings = Settings.model_validate({"server": "127.0.0.1:1", "port": 0, **settings})
        self.port, self._ready = 0, threading.Event()
        self.server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        def ready(port: int) -> None:
            self.port = port
            self._ready.set()

        self._loop = asyncio.get_running_loop()
        self.server = make_server(self.settings, ready)
        await self.server.serve()

    def __enter__(self) -> Listening:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self.server is not None
        for _ in range(2):
            self._loop.call_soon_threadsafe(self.server.stop)
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def open(self) -> int:
        """Connections that count."""
        assert self.server is not None
        return len(self.server.server_state.connections)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            yield connection


def test_a_response_is_sent_without_delay() -> None:
    with Listening() as listening, listening.connected():
        assert listening.server is not None
        connections = listening.server.server_state.connections
        wait_for(lambda: [each for each in connections if each.transport is not None])
        connection = next(each for each in connections if each.transport is not None)
        own = connection.transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    for name in ("HEAD", "IDLE", "UNWANTED", "UNREAD"):
        monkeypatch.setattr(f"{HTTP}._{name}_SECONDS", SECONDS)
    monkeypatch.setattr("asrloop_gateway.server.CLOSING_SECONDS", SECONDS)
    monkeypatch.setattr(f"{WS}._CLOSE_SECONDS", SECONDS)
    with Listening(idle_seconds=SECONDS, upload_seconds=SECONDS, server_seconds=SECONDS) as listening:
        yield listening


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HANDSHAKE.replace(b"GET", b"POST") + b"\r\n", 400),
        (HANDSHAKE.replace(b"GET", b"POST") + b"Content-Length: 5\r\n\r\nhello", 400),
        (HANDSHAKE + b"Content-Length: 5\r\n\r\nhello", 400),
        (HANDSHAKE + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (HANDSHAKE + b"Cookie: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (HANDSHAKE + b"".join(b"X%d: a\r\n" % number for number in range(130)) + b"\r\n", 431),
        (HANDSHAKE.replace(b"stream ", b"stream?" + b"a" * 9000 + b" ") + b"\r\n", 431),
        (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", 404),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 12") + b"\r\n", 400),
    ],
)
def test_a_refused_handshake_is_answered_and_closed(lonely: RunningGateway, request_: bytes, status: int) -> None:
    before = lonely.descriptors
    with socket.create_connection(("127.0.0.1", lonely.port), timeout=30) as connection:
        connection.sendall(request_)
        assert answer_of(connection).startswith(b"HTTP/1.1 %d " % status)
    wait_for(lambda: lonely.descriptors <= before)


METHODS = "CONNECT DELETE OPTIONS PATCH PROPFIND PUT QUERY SEARCH SOURCE TRACE M-SEARCH PRI FOO"


@pytest.mark.parametrize("target", ["a:1", "/v1/models", "*", "http://localhost/"])
def test_any_method_is_answered(lonely: RunningGateway, target: str) -> None:
    lines = len(lonely.log)
    for method in METHODS.split():
        with socket.create_connection(("127.0.0.1", lonely.port), timeout=30) as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert answer_of(connection).startswith(b"HTTP/1.1 4"), method
    assert len(lonely.log) == lines


def test_many_wishes_for_another_protocol_at_once_are_answered(lonely: RunningGateway) -> None:
    wish = b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", lonely.port), timeout=30) as connection:
        connection.sendall(wish * 20 + last)
        assert answer_of(connection).count(b"HTTP/1.1 503 ") == 21  # there is no server


def test_thousands_of_requests_at_once_are_no_work(lonely: RunningGateway) -> None:
    for line in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"):
        before, lines = lonely.memory, len(lonely.log)
        with socket.create_connection(("127.0.0.1", lonely.port), timeout=30) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\n%s\r\n" % line * 4000)
            wait_for(closed(connection))
        assert lonely.memory - before < 8 << 20
        assert len(lonely.log) == lines


CHUNKS = (
    f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
)


@pytest.mark.parametrize("size", [b"-5", b"ffffffffffffffffff", b"5 5", b"0x5", b""])
def test_a_body_that_cannot_be_read_is_answered(lonely: RunningGateway, size: bytes) -> None:
    with socket.create_connection(("127.0.0.1", lonely.port), timeout=30) as connection:
        connection.sendall(CHUNKS)
        time.sleep(0.1)
        connection.sendall(size + b"\r\nhello\r\n0\r\n\r\n")
        assert answer_of(connection).startswith(b"HTTP/1.1 400 ")


def test_text_that_is_no_utf8_is_no_error_of_ours(lonely: RunningGateway) -> None:
    lines = len(lonely.log)
    with upgraded(lonely) as connection:
        connection.sendall(frame(TEXT, b"\xff"))
        assert connection.recv(4, socket.MSG_WAITALL) == b"\x88\x02\x03\xef"  # 1007
        wait_for(closed(connection))
    assert len(lonely.log) == lines


def nothing(_: socket.socket) -> None:
    pass


def sends(content: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(content)


UPLOAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 1000\r\n\r\n".encode()


@pytest.mark.parametrize(
    "begins",
    [
        nothing,
        sends(b"GET /health HTTP/1.1\r\n"),
        sends(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"),
        sends(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\nGET /health HTTP/1.1\r\n"),
        sends(b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n"),
        sends(b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        sends(b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n"),
        sends(UPLOAD + b"--cut-here\r\n"),
        sends(UPLOAD.replace(b"HTTP/1.1", b"HTTP/1.0")),
        sends(HANDSHAKE + b"\r\n"),
        sends(HANDSHAKE.replace(b"stream", b"nothing") + b"\r\n"),
    ],
    ids=[
        "no head", "half a head", "idle", "half a second head", "a body that no route wants", "half a chunk",
        "a body that was not asked for", "half an upload", "an upload of HTTP/1.0", "an open socket", "a socket without a route",
    ],
)  # fmt: skip
def test_a_caller_that_stops_sending_is_closed(quick: Listening, begins: Callable[[socket.socket], None]) -> None:
    with quick.connected() as connection:
        with contextlib.suppress(OSError):  # a busy machine may send when its time is over
            begins(connection)
        wait_for(closed(connection))
        wait_for(lambda: not quick.open)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 2 -subj /CN=localhost"
    subprocess.run(made.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert", folder / "key"


def unchecked() -> ssl.SSLContext:
    """A client's, which takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(listening: Listening, name: str, connection: socket.socket) -> socket.socket:
    """Ask for a file of the page. The kernel keeps little of it. Returns the connection, with TLS where there is."""
    assert listening.server is not None
    listening.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", listening.port))
    wait_for(lambda: listening.open)
    if listening.settings.tls_key is not None:
        connection = unchecked().wrap_socket(connection)
    connection.sendall(f"GET /page/{name} HTTP/1.1\r\n".encode() + HOST + b"Connection: close\r\n\r\n")
    return connection


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("size", [40_000, 4_000_000], ids=["closing", "sending"])
@pytest.mark.parametrize("reads", [False, True], ids=["nothing", "by bytes"])
def test_a_caller_that_does_not_read_is_closed(
    size: int, reads: bool, tls: bool, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(bytes(size))
    monkeypatch.setattr("asrloop_gateway.app._PAGE", tmp_path)
    monkeypatch.setattr(f"{HTTP}._UNREAD_SECONDS", SECONDS)
    monkeypatch.setattr("asrloop_gateway.server.CLOSING_SECONDS", SECONDS)
    files = {"tls_certificate": certificate[0], "tls_key": certificate[1]} if tls else {}
    with Listening(**files) as listening, socket.socket() as plain:
        connection = ask(listening, "large", plain)
        until = time.monotonic() + 30
        while listening.open and time.monotonic() < until:
            if reads:
                with contextlib.suppress(OSError):
                    connection.recv(1)
            time.sleep(0.02)
        assert not listening.open
        connection.close()


def secure_health(port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        unchecked().wrap_socket(plain) as connection,
    ):
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        return answer_of(connection)


def test_tls_handshakes_that_do_not_end_count_and_are_ended(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrloop_gateway.accepting._HANDSHAKE_SECONDS", 60)
    files = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    with Listening(connections=4, **files) as listening:
        # The first has sent a part of its greeting, the second no TLS at all.
        begun = [socket.create_connection(("127.0.0.1", listening.port)) for _ in range(5)]
        begun[0].sendall(b"\x16\x03\x01\x02\x00\x01")
        begun[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_for(lambda: listening.open == 3)  # those that waited longest were ended
        assert b'"unavailable"' in secure_health(listening.port)
        monkeypatch.setattr("asrloop_gateway.accepting._HANDSHAKE_SECONDS", 1)
        begun += [socket.create_connection(("127.0.0.1", listening.port)) for _ in range(6)]
        wait_for(lambda: not listening.open)
        monkeypatch.setattr("asrloop_gateway.accepting._HANDSHAKE_SECONDS", 60)
        assert b'"unavailable"' in secure_health(listening.port)
        for each in begun:
            each.close()


def test_no_more_descriptors_is_a_pause_and_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asrloop_gateway.accepting._PAUSE_SECONDS", 0.05)
    refused: list[float] = []

    async def accept(self: object, listener: socket.socket) -> object:
        if len(refused) < 5:
            refused.append(time.monotonic())
            raise OSError(errno.EMFILE, "Too many open files")
        return await original(self, listener)

    original = asyncio.SelectorEventLoop.sock_accept
    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", accept)
    with Listening() as listening, listening.connected() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answer_of(connection).startswith(b"HTTP/1.1 503 ")
    assert refused[-1] - refused[0] > 0.15
    assert [record.name for record in caplog.records if "Too many open files" in record.message] == ["asrloop_gateway"]


@pytest.mark.parametrize("tls", [False, True])
def test_connections_leave_descriptors_for_other_things(
    tls: bool, start_gateway: StartGateway, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen
    few = ["prlimit", "--nofile=256:256"]
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: popen([*few, *command], **options))
    files = {"tls_certificate": str(certificate[0]), "tls_key": str(certificate[1])} if tls else {}
    with start_gateway("127.0.0.1:1", **files) as gateway:
        waiting = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(300)]
        time.sleep(1)
        assert gateway.descriptors < 200
        for each in waiting:
            each.close()
        lines = [line for line in gateway.log if "files" in line]
    assert len(lines) == 1, lines
    assert "at most" in lines[0]


def test_large_messages_that_nobody_takes_do_not_grow_it(start_gateway: StartGateway) -> None:
    """The server does not answer, so that nothing is read from the sockets for a while."""
    message = b"\x82\xff" + (4 << 20).to_bytes(8, "big") + bytes(4 + (4 << 20))
    with start_gateway("127.0.0.1:1", drain_seconds="0") as gateway, contextlib.ExitStack() as sockets:
        before = gateway.memory
        for _ in range(24):
            connection = sockets.enter_context(upgraded(gateway))
            connection.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                for _ in range(5):
                    connection.sendall(message)
        assert gateway.memory - before < 220 << 20
