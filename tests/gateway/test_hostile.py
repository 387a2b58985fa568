"""Bytes below the forms and messages that mean no good: heads, trailers, frames, and connections that only wait."""

from __future__ import annotations

import json
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT
from tests.gateway.conftest import RunningGateway, StartGateway, wait_for
from tests.gateway.test_limits import KIND, PATH, answer_of, form, post, raw

HOST = b"Host: localhost\r\n"
CHUNKED = (
    f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
)
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
TEXT, BINARY, CONTINUED, PING = 1, 2, 0, 9
SOON = {"idle_seconds": "1"}


@pytest.fixture(scope="module")
def hasty(start_gateway: StartGateway, server: TritonServer) -> Iterator[RunningGateway]:
    with start_gateway(server.grpc_endpoint, **SOON) as running:
        yield running
        assert running.process.poll() is None, "it is still there"


def flood(connection: socket.socket, content: bytes, most: int) -> int:
    """How many bytes were taken before the other end stopped taking them, at most `most`."""
    sent = 0
    connection.settimeout(3)
    try:
        while sent < most:
            connection.sendall(content)
            sent += len(content)
    except OSError:
        pass
    return sent


def closed(connection: socket.socket) -> Callable[[], bool]:
    """Whether the other end has closed; what it still says is read and passed over."""
    connection.settimeout(0.1)

    def check() -> bool:
        try:
            while connection.recv(1 << 20):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    return check


def frame(kind: int, content: bytes, fin: bool = True) -> bytes:
    """As a client sends it, with a mask of zeros."""
    assert len(content) < 65536
    size = bytes([0x80 | len(content)]) if len(content) < 126 else bytes([0x80 | 126]) + struct.pack("!H", len(content))
    return bytes([(0x80 if fin else 0) | kind]) + size + bytes(4) + content


def message_of(connection: socket.socket) -> Any:
    """The next text message, of less than 64 kB."""
    head = connection.recv(2, socket.MSG_WAITALL)
    assert head[0] == 0x81, head
    size = head[1] if head[1] < 126 else struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))[0]
    return json.loads(connection.recv(size, socket.MSG_WAITALL))


@contextmanager
def upgraded(gateway: RunningGateway, path: str = "/v1/stream") -> Iterator[socket.socket]:
    with raw(gateway) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n".encode() + HOST + UPGRADE + b"\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield connection


@pytest.mark.parametrize(
    "endless",
    [
        b"0\r\n" + b"X: %s\r\n" % (b"a" * 1000) * 100,
        b"0\r\nX: " + b"a" * 100_000,
        b"1;" + b"a" * 100_000,
    ],
    ids=["trailers", "one trailer", "a chunk's extension"],
)
def test_what_surrounds_a_body_is_limited_as_its_head_is(hasty: RunningGateway, endless: bytes) -> None:
    before = hasty.memory
    with raw(hasty) as connection:
        connection.sendall(CHUNKED + endless)
        assert flood(connection, endless[3:], 200 << 20) < 50 << 20
    assert hasty.memory - before < 32 << 20


@pytest.mark.slow
def test_a_connection_without_a_request_is_closed(hasty: RunningGateway) -> None:
    with raw(hasty) as blank, raw(hasty) as refused:
        blank.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        refused.sendall(b"POST /v1/models HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhello")
        assert blank.recv(65536).startswith(b"HTTP/1.1 200")
        assert refused.recv(65536).startswith(b"HTTP/1.1 405")
        blank.sendall(b"\r\n")
        refused.sendall(b"world")
        wait_for(closed(blank))
        wait_for(closed(refused))


@pytest.mark.slow
def test_pings_whose_answers_nobody_reads_take_no_memory(hasty: RunningGateway) -> None:
    before = hasty.memory
    with upgraded(hasty) as connection:
        flood(connection, frame(PING, bytes(125)) * 1000, 150 << 20)
        assert hasty.memory - before < 32 << 20


def test_a_message_of_many_fragments_takes_no_more_memory_than_its_bytes(hasty: RunningGateway) -> None:
    with upgraded(hasty) as connection:
        before = hasty.memory
        connection.sendall(frame(BINARY, b"", fin=False))
        flood(connection, frame(CONTINUED, b"x", fin=False) * 10_000, 10 << 20)
        assert hasty.memory - before < 32 << 20


@pytest.mark.parametrize(
    "line", ["Host: [", "Host: localhost\r\nOrigin: http://[", "Host: localhost\r\nHost: localhost"]
)
def test_a_host_or_page_that_is_no_address_is_refused(hasty: RunningGateway, line: str) -> None:
    with raw(hasty) as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\n{line}\r\nConnection: close\r\n\r\n".encode())
        assert answer_of(connection).split()[1] in (b"400", b"403")


def test_a_request_that_is_no_http_is_told_so_as_every_other(hasty: RunningGateway) -> None:
    with raw(hasty) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n")
        head, _, body = answer_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_request"


def test_one_connection_too_many_is_told_when_to_come_again(start_gateway: StartGateway) -> None:
    upload = b"POST /v1/audio/transcriptions HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=x\r\n"
    with start_gateway("127.0.0.1:1", connections="2") as small, ExitStack() as open_ones:
        busy = open_ones.enter_context(raw(small))
        busy.sendall(upload + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
        assert busy.recv(65536).startswith(b"HTTP/1.1 100 "), "it waits for the upload"
        refused = open_ones.enter_context(raw(small))
        refused.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        head, _, body = answer_of(refused).partition(b"\r\n\r\n")
    assert b"retry-after: " in head.lower()
    assert json.loads(body)["error"]["code"] == "overloaded"


def test_connections_that_only_wait_keep_nobody_out(start_gateway: StartGateway) -> None:
    with start_gateway("127.0.0.1:1", connections="8") as small, ExitStack() as open_ones:
        for sent in (b"", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n") * 8:
            open_ones.enter_context(raw(small)).sendall(sent)
        last = open_ones.enter_context(raw(small))
        last.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert json.loads(answer_of(last).partition(b"\r\n\r\n")[2])["status"] == "unavailable"


def test_connections_do_not_use_up_the_files_it_may_open(start_gateway: StartGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        starting = start_gateway("127.0.0.1:1", connections="300")
        gateway = starting.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as open_ones:
        open_ones.push(starting)
        for _ in range(200):
            open_ones.enter_context(raw(gateway))
        last = open_ones.enter_context(raw(gateway))
        last.sendall(b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answer_of(last).startswith(b"HTTP/1.1 503 ")  # there is no server, and that is said
    assert not [line for line in gateway.log if "Too many open files" in line]


def test_a_wish_for_another_protocol_is_passed_over(hasty: RunningGateway, beckett_file: bytes) -> None:
    wish = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    assert post(hasty, form(beckett_file), **wish).text == BECKETT


def test_text_that_is_none_is_answered(hasty: RunningGateway, beckett_file: bytes) -> None:
    half = b'"\\ud800"'  # of a pair: JSON can say it, UTF-8 cannot
    with upgraded(hasty, "/v1/realtime") as connection:
        assert message_of(connection)["type"] == "session.created"
        connection.sendall(frame(TEXT, b'{"type": "x", "event_id": %s}' % half))
        assert message_of(connection)["type"] == "error"
    kind = f"{KIND}; charset=unicode_escape"
    assert post(hasty, form(beckett_file, model="\\ud800"), **{"Content-Type": kind}).text == BECKETT
