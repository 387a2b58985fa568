"""Uploads and connections that mean no good, against a real gateway: each is refused in time, and others are answered."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, words
from tests.gateway.conftest import RunningGateway, StartGateway, wait_for

PATH = "/v1/audio/transcriptions"
BOUNDARY = "cut-here"
KIND = f"multipart/form-data; boundary={BOUNDARY}"
SMALL = {
    "upload_megabytes": "1",
    "idle_seconds": "3",
    "upload_seconds": "5",
    "transcriptions": "2",
}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(content: bytes, filename: str = "a.wav", **fields: str) -> bytes:
    parts = [part(name, value.encode()) for name, value in fields.items()]
    return b"".join([*parts, part("file", content, filename), f"--{BOUNDARY}--\r\n".encode()])


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.content = response.status, response.headers, response.read()

    @property
    def code(self) -> Any:
        return json.loads(self.content)["error"]["code"]

    @property
    def text(self) -> str:
        return words(json.loads(self.content)["text"])


def post(gateway: RunningGateway, body: Any, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(gateway.address, timeout=240)
    try:
        connection.request("POST", PATH, body, {"Content-Type": KIND, **headers})
        return Answer(connection.getresponse())
    finally:
        connection.close()


@contextmanager
def raw(gateway: RunningGateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        yield connection


def answer_of(connection: socket.socket) -> bytes:
    """What comes until the other end closes."""
    received = b""
    while more := connection.recv(65536):
        received += more
    return received


@pytest.fixture(scope="module")
def small(start_gateway: StartGateway, server: TritonServer) -> Iterator[RunningGateway]:
    with start_gateway(server.grpc_endpoint, **SMALL) as running:
        yield running
        assert running.process.poll() is None, "it is still there"


def test_a_body_that_is_too_large_is_refused_before_it_is_read_or_as_soon_as_it_is_known(small: RunningGateway) -> None:
    before = small.memory
    refused = post(small, form(bytes(9 << 20)))
    assert (refused.status, refused.code) == (413, "too_large")

    def endless() -> Iterator[bytes]:
        yield form(b"")[:100]
        while True:
            yield bytes(1 << 16)

    # It is refused in the middle; who still sends may see the connection end instead of the answer.
    try:
        refused = post(small, endless())
        assert (refused.status, refused.code) == (413, "too_large")
    except OSError:
        pass
    assert small.memory - before < 64 << 20
    assert post(small, form(bytes(990_000))).code == "invalid_audio"


def test_slow_senders_are_cut(small: RunningGateway) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 9999\r\n\r\n".encode()
    with raw(small) as stalled, raw(small) as dripping:
        stalled.sendall(head + form(b"")[:50])
        dripping.sendall(head + part("file", b"RIFF", "a.wav").rstrip())
        began = time.monotonic()
        dripping.settimeout(0.2)
        said = b""
        while time.monotonic() - began < 60 and b"\r\n\r\n" not in said:
            dripping.sendall(b"x")
            try:
                said += dripping.recv(65536)
            except TimeoutError:
                continue
        assert b" 408 " in said.splitlines()[0]
        assert b" 408 " in answer_of(stalled).splitlines()[0]


@pytest.mark.slow
def test_a_head_that_is_slow_or_endless_is_cut(small: RunningGateway) -> None:
    with raw(small) as slow, raw(small) as endless:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        endless.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(10_000):
                endless.sendall(b"X-%d: %s\r\n" % (number, bytes([65]) * 1000))
            pytest.fail("endless headers were taken")
        except OSError:
            pass
        assert answer_of(slow) == b""


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"x", {"Content-Type": "application/json"}, 400, "invalid_form"),
        (b"x", {"Content-Type": "multipart/form-data"}, 400, "invalid_form"),
        (b"no boundary in it", {}, 400, "invalid_form"),
        (form(b"x")[:-30], {}, 400, "missing_file"),
        (form(b"x"), {"Content-Encoding": "gzip"}, 415, "invalid_form"),
        (form(b"x", **{f"field{number}": "x" for number in range(200)}), {}, 400, "invalid_form"),
        (form(b"x", prompt="x" * 100_000), {}, 400, "invalid_form"),
        (part("file", b"x") + form(b"x"), {}, 400, "invalid_form"),
        (form(b"x", timestamp_granularities='["word", "phrase"]'), {}, 400, "invalid_form"),
        (part("file", b"x", "a") + form(b"x"), {}, 400, "invalid_form"),
        (part("model", b"x", "a") + f"--{BOUNDARY}--\r\n".encode(), {}, 400, "missing_file"),
    ],
)
def test_forms_that_make_no_sense(
    small: RunningGateway, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(small, body, **headers)
    assert (answer.status, answer.code) == (status, code), answer.content


def test_a_wrong_length_ends_its_own_connection_only(small: RunningGateway, beckett_file: bytes) -> None:
    body = form(beckett_file)
    for length in (len(body) // 2, len(body) + 1000, -5):
        with raw(small) as liar:
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: {length}\r\n\r\n"
            )
            try:
                liar.sendall(head.encode() + body)
                assert b" 4" in answer_of(liar).splitlines()[0]
            except OSError:
                pass
    with raw(small) as leaver:
        leaver.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 9\r\n\r\nx".encode()
        )
    wait_for(lambda: small.metric('asrloop_gateway_running{route="transcriptions"}') == 0)
    assert post(small, body).text == BECKETT


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/dev/null", "a" * 2000, "\u2028.wav", "CON", "%00.wav", "$(id).wav"]
)
def test_file_names_mean_nothing(small: RunningGateway, beckett_file: bytes, name: str) -> None:
    assert post(small, form(beckett_file, name)).text == BECKETT


@pytest.mark.parametrize("names", ["", "; filename*=UTF-8''gr%C3%BC%C3%9Fe.wav"])
def test_a_file_needs_no_file_name(small: RunningGateway, beckett_file: bytes, names: str) -> None:
    assert len(beckett_file) > 64 << 10
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"{names}\r\n\r\n'
    answer = post(small, head.encode() + beckett_file + f"\r\n--{BOUNDARY}--\r\n".encode())
    assert (answer.status, answer.text) == (200, BECKETT), answer.content


@pytest.mark.parametrize("given", ['["word", "segment"]', "word,segment", "word, segment"])
@pytest.mark.parametrize("name", ["timestamp_granularities", "timestamp_granularities[]"])
def test_granularities_come_as_a_list(small: RunningGateway, beckett_file: bytes, name: str, given: str) -> None:
    answer = post(small, form(beckett_file, response_format="verbose_json", **{name: given}))
    body = json.loads(answer.content)
    assert answer.status == 200, body
    assert {"words", "segments"} <= set(body)


def test_audio_that_is_too_long_is_refused_by_the_server(small: RunningGateway, long_file: bytes) -> None:
    claims = bytearray(long_file[: 900 << 10])
    claims[21:26] = bytes([claims[21] | 15]) + b"\xff" * 4  # the number of samples in a FLAC's header
    refused = post(small, form(bytes(claims)))
    assert (refused.status, refused.code) == (400, "too_long"), refused.content


def test_one_upload_too_many_is_told_when_to_come_again(small: RunningGateway, beckett_file: bytes) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 9999\r\n\r\n".encode()
    with raw(small) as one, raw(small) as two:
        for each in (one, two):
            each.sendall(head)
        wait_for(lambda: small.metric('asrloop_gateway_running{route="transcriptions"}') == 2)
        refused = post(small, form(beckett_file))
        assert (refused.status, refused.code) == (503, "overloaded")
        assert refused.headers["retry-after"] == "2"
        assert b" 408 " in answer_of(one).splitlines()[0]
        assert b" 408 " in answer_of(two).splitlines()[0]
    assert post(small, form(beckett_file)).text == BECKETT


def test_uploads_do_not_fill_the_disk(start_gateway: StartGateway, server: TritonServer, beckett_file: bytes) -> None:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {KIND}\r\nContent-Length: 2000000\r\n\r\n".encode()
    )
    with start_gateway(server.grpc_endpoint, disk_megabytes="1") as full:
        with raw(full) as filling:
            filling.sendall(head + part("file", bytes(800_000), "a.wav"))
            wait_for(lambda: full.metric("asrloop_gateway_upload_bytes") > 800_000)
            refused = post(full, form(beckett_file))
            assert (refused.status, refused.code) == (503, "overloaded")
        wait_for(lambda: full.metric("asrloop_gateway_upload_bytes") == 0)
        assert post(full, form(beckett_file)).text == BECKETT


def test_sixty_four_uploads_at_once_are_all_answered(gateway: RunningGateway, beckett_file: bytes) -> None:
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: post(gateway, form(beckett_file)), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.text for answer in answers} == {BECKETT}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 64


def ask(gateway: RunningGateway, method: str, path: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(gateway.address, timeout=60)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PATH, {"POST"}),
        ("DELETE", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/page/main.js", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    gateway: RunningGateway, method: str, path: str, allowed: set[str]
) -> None:
    answer = ask(gateway, method, path)
    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert ask(gateway, method, "/v1/nothing").code == "not_found"


def test_a_model_is_described_by_its_name(gateway: RunningGateway) -> None:
    found = json.loads(ask(gateway, "GET", "/v1/models/asr_file").content)
    assert (found["id"], found["object"]) == ("asr_file", "model")
    unknown = ask(gateway, "GET", "/v1/models/openai/whisper-9")
    assert (unknown.status, unknown.code) == (404, "model_not_found")
    assert "asr_file" in json.loads(unknown.content)["error"]["message"]


def test_an_allowed_page_may_call_from_another_network_and_reads_our_headers(
    start_gateway: StartGateway, server: TritonServer
) -> None:
    with start_gateway(server.grpc_endpoint, allowed_origins='["https://example.org"]') as mine:
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Private_Network": "true"}
        allowed = ask(mine, "OPTIONS", PATH, Origin="https://example.org", **asked)
        assert (allowed.status, allowed.headers["access-control-allow-private-network"]) == (200, "true")
        other = ask(mine, "OPTIONS", PATH, Origin="https://example.com", **asked)
        assert "access-control-allow-origin" not in other.headers
        answer = ask(mine, "GET", "/v1/models", Origin="https://example.org")
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert {"Retry-After", "X-Request-ID"} <= set(answer.headers["access-control-expose-headers"].split(", "))


def test_answers_tell_browsers_to_be_careful(gateway: RunningGateway) -> None:
    connection = http.client.HTTPConnection(gateway.address, timeout=60)
    connection.request("GET", "/")
    page = Answer(connection.getresponse())
    connection.close()
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(rb"""(src|href|action)=["']?(\w+:)?//""", page.content), "nothing comes from other hosts"
    assert "access-control-allow-origin" not in page.headers
