"""Uploads that mean no good, or too much of it, against a real gateway: nobody else waits for them, and the log stays short."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from asrloop.tritonserver.process import TritonServer
from tests.audio import zoo
from tests.conftest import BECKETT
from tests.gateway.conftest import RunningGateway, StartGateway, wait_for
from tests.gateway.test_limits import BOUNDARY, KIND, PATH, answer_of, ask, form, part, post, raw

KEYS = ("0123456789abcdef", "fedcba9876543210")
TONE = np.sin(np.arange(16_000, dtype=np.float32) / 20) * 0.3


def head(length: int, key: str = "") -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", f"Content-Type: {KIND}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *([f"Authorization: Bearer {key}"] if key else []), "", ""]).encode()


@pytest.fixture(scope="module")
def lone(start_gateway: StartGateway) -> Iterator[RunningGateway]:
    """Has no server, which it finds out soon."""
    with start_gateway("127.0.0.1:1", server_seconds="0.2") as running:
        yield running


def test_no_header_of_a_stranger_holds_up_the_others(lone: RunningGateway) -> None:
    ogg = zoo.encoded(TONE, 16_000, "OGG", "VORBIS")
    third_page = [at for at in range(len(ogg)) if ogg.startswith(b"OggS", at)][2]
    hostile = form(ogg[:third_page] + b"OggS" * 500_000)  # libsndfile reads its header for 7 s
    worst, statuses, sent_at = 0.0, list[int](), time.monotonic()
    sending = threading.Thread(target=lambda: statuses.append(post(lone, hostile).status))
    sending.start()
    while sending.is_alive():
        began = time.monotonic()
        ask(lone, "GET", "/health")
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.02)
    assert statuses == [503]
    assert worst < max(3, (time.monotonic() - sent_at) / 3), "nobody waits for most of the time that it takes"


def test_a_full_disk_is_told_in_one_line(start_gateway: StartGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    try:
        starting = start_gateway("127.0.0.1:1", server_seconds="0.2")
        full = starting.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with ExitStack() as running:
        running.push(starting)
        refused = post(full, form(bytes(5_000_000)))
        assert (refused.status, refused.code) == (503, "overloaded")
        assert refused.headers["retry-after"]
        assert post(full, form(bytes(500_000))).code == "unavailable"
    assert full.log[full.log.index("Ctrl-C stops it.") + 1 : -1] == [
        "ERROR asrloop_gateway: an upload cannot be stored in TMPDIR: File too large"
    ]


def test_who_leaves_or_sends_nonsense_is_not_in_the_log(lone: RunningGateway, beckett_file: bytes) -> None:
    body = form(beckett_file)
    for number, sent in enumerate((0, 10, 60, 70_000, len(body)) * 2):
        with raw(lone) as leaver:
            leaver.sendall(head(len(body)) + body[:sent])
            time.sleep(0.02)
            if number >= 5:  # ends with a reset instead
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cut = BOUNDARY.encode()
    for nonsense in (
        b"--" + cut + b"\r\n: x\r\n\r\nx\r\n",
        b"--" + cut + b"\r\nContent-Disposition: form-data; name*=bad''%ff; filename*0*=\xff\r\n\r\nx\r\n--" + cut + b"--\r\n",
        form(b"x").replace(b"\r\n", b"\n"),
        form(b"x").replace(cut, b"cut-there", 1),
        form(b"x") * 2,
    ):  # fmt: skip
        assert post(lone, nonsense).status in (400, 503)
    for kind in ("multipart/form-data; boundary*=bad''%ff", 'multipart/form-data; boundary=""', f"{KIND}\xff"):
        assert post(lone, body, **{"Content-Type": kind}).status == 400
    aiff = zoo.ZOO["AIFF"](TONE)
    for at in range(12, 60, 2):  # a reader would go to places before the start
        post(lone, form(zoo.patched(aiff, at, b"\x80\0\0\0")))
    wait_for(lambda: lone.metric('asrloop_gateway_running{route="transcriptions"}') == 0)
    assert not [line for line in lone.log if "Traceback" in line or "ERROR" in line or "multipart" in line]


def test_one_key_does_not_take_all_uploads(
    start_gateway: StartGateway, server: TritonServer, beckett_file: bytes
) -> None:
    limits = {"transcriptions": "8", "transcriptions_per_caller": "3", "disk_megabytes_per_caller": "1"}
    ours, other = KEYS
    with start_gateway(server.grpc_endpoint, keys=",".join(KEYS), **limits) as gateway, ExitStack() as open_ones:
        trickling = [open_ones.enter_context(raw(gateway)) for _ in range(3)]
        for each in trickling:
            each.sendall(head(2_000_000, ours) + part("file", bytes(300_000), "a.wav").rstrip())
        wait_for(lambda: running(gateway, other) == 3)
        refused = post(gateway, form(beckett_file), Authorization=f"Bearer {ours}")
        assert (refused.status, refused.code) == (429, "too_many_uploads")
        assert refused.headers["retry-after"]
        assert post(gateway, form(beckett_file), Authorization=f"Bearer {other}").text == BECKETT
        trickling[0].sendall(bytes(300_000))  # its third of a megabyte and more
        assert answer_of(trickling[0]).startswith(b"HTTP/1.1 429 ")
        assert post(gateway, form(bytes(1_500_000)), Authorization=f"Bearer {other}").code == "invalid_audio"


def running(gateway: RunningGateway, key: str) -> float:
    lines = ask(gateway, "GET", "/metrics", Authorization=f"Bearer {key}").content.decode().splitlines()
    name = 'asrloop_gateway_running{route="transcriptions"}'
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=" + "x" * 17_000},
        {"traceparent": "00-\tab"},
        {"traceparent": "00-\xff"},
    ],
    ids=["large", "tab", "latin-1"],
)
def test_headers_of_a_trace_never_fail_a_request(
    gateway: RunningGateway, beckett_file: bytes, headers: dict[str, str]
) -> None:
    assert post(gateway, form(beckett_file), **headers).text == BECKETT
