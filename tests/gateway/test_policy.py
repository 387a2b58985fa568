"""What needs no server: settings, the budget of memory, and what errors are told as."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from asrloop_client import (
    AccessDenied,
    AsrError,
    DeadlineExceeded,
    InvalidAudio,
    Overloaded,
    ServerFailure,
    ServerGone,
    ServersDied,
)
from asrloop_client.errors import from_status
from asrloop_gateway import cli, server
from asrloop_gateway.admission import Admission
from asrloop_gateway.errors import ApiError, from_asr
from asrloop_gateway.gateway import Gateway
from asrloop_gateway.settings import Settings
from asrloop_gateway.sockets import Socket, serve
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from typer.testing import CliRunner

KEY = "0123456789abcdef"


def test_whoever_serves_other_machines_needs_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"host is 0\.0\.0\.0, which other machines can reach, and no API key is set"):
        Settings(host="0.0.0.0")
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{KEY}\n  {KEY}2  \n")
    assert Settings(host="0.0.0.0", keys_file=file).all_keys() == [KEY, f"{KEY}2"]
    with pytest.raises(ValueError, match=r"1 API key\(s\) have fewer than 16 characters"):
        Settings(host="0.0.0.0", keys=f"{KEY},short").all_keys()
    with pytest.raises(ValueError, match="keys_file .* cannot be read: No such file"):
        Settings(host="0.0.0.0", keys_file=tmp_path / "missing")
    with pytest.raises(ValueError, match="a certificate and a key"):
        Settings(tls_key=file)


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("no PEM")
    with pytest.raises(ValueError, match=r"tls_certificate .*missing\.pem cannot be read: No such file"):
        Settings(tls_certificate=missing, tls_key=text)
    with pytest.raises(ValueError, match=r"tls_key .*missing\.pem cannot be read: No such file"):
        Settings(tls_certificate=text, tls_key=missing)
    with pytest.raises(
        ValueError, match=r"text\.pem cannot be used: .*: give a certificate and its key, without a password, as"
    ):
        Settings(tls_certificate=text, tls_key=text)


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_GATEWAY_SOCKETS", "3")
    monkeypatch.setenv("ASRLOOP_GATEWAY_ALLOWED_ORIGINS", '["https://example.org"]')
    settings = Settings(port=0)
    assert (settings.sockets, settings.allowed_origins) == (3, ("https://example.org",))
    monkeypatch.setenv("ASRLOOP_GATEWAY_SOCKETS", "none")
    with pytest.raises(ValueError, match="sockets"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "70000", "error: port = '70000': Input should be less than or equal to 65535"),
        ("SERVER", " ", "error: server = ' ': no server was given: give one address `host:port` or a list"),
        (
            "SERVER",
            "a:99999",
            "error: server = 'a:99999': server 'a:99999': its port is 99999: give one from 1 to 65535",
        ),
        (
            "MODEL_ALIASES",
            "foo",
            "error: model_aliases = 'foo': not JSON: write it as in '{\"whisper-1\": \"whisper\"}'",
        ),
        (
            "ALLOWED_ORIGINS",
            "foo",
            "error: allowed_origins = 'foo': not JSON: write it as in '[\"https://example.org\"]'",
        ),
        (
            "KEY",
            "secret",
            "error: environment variable ASRLOOP_GATEWAY_KEY matches no setting: remove it, or see docs/gateway.md",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    def started(settings: Settings, ready: object) -> None:
        Gateway(settings)
        raise AssertionError("it starts")

    monkeypatch.setattr(server, "serve", started)
    monkeypatch.setenv(f"ASRLOOP_GATEWAY_{name}", value)
    ended = CliRunner().invoke(cli.app, [])
    assert ended.exit_code == 1
    assert ended.output.startswith(said)
    assert ended.output.count("\n") == 1


def answered(details: str) -> AsrError:
    return from_status(grpc.StatusCode.INVALID_ARGUMENT, details, "10.0.0.7:8001")


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (answered("in ensemble 'asr_file', [too_long] 9 s: send less"), 400, "too_long", "9 s: send less"),
        (answered("[invalid_option] language is 'de': one of en"), 400, "invalid_option", "language is 'de': one of en"),
        (InvalidAudio("the file has 3 bytes"), 400, "invalid_audio", "the file has 3 bytes"),
        (Overloaded("10.0.0.7:8001: [overloaded] ..."), 503, "overloaded", "All servers are busy"),
        (ServerGone("10.0.0.7:8001: gone"), 503, "unavailable", "No speech server can be reached"),
        (DeadlineExceeded("10.0.0.7:8001: late"), 503, "deadline", "did not answer in time"),
        (ServersDied("[servers_died] 10.0.0.7:8001 after 0.1 s"), 422, "servers_died", "give the operator this id: its id"),
        (ServerFailure("10.0.0.7:8001: [failed] bug in /srv/model.py"), 500, "failed", "Give the operator this id"),
        (AccessDenied("10.0.0.7:8001: wants a token"), 500, "failed", "Give the operator this id"),
    ],
)  # fmt: skip
def test_callers_learn_what_concerns_them_and_nothing_of_the_servers(
    error: AsrError, status: int, code: str, message: str
) -> None:
    told = from_asr(error, "its id")
    assert (told.status, told.code) == (status, code)
    assert message in told.message
    assert "retry cannot help" not in told.message
    assert "10.0.0.7" not in told.message


def test_a_socket_is_told_of_a_failure_of_our_own(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(_: Socket) -> None:
        raise ZeroDivisionError

    async def serve_one(websocket: WebSocket) -> None:
        gateway = Gateway(Settings())
        try:
            await serve(websocket, gateway, "stream", talk)
        finally:
            await gateway.client.close()

    client = TestClient(Starlette(routes=[WebSocketRoute("/", serve_one)]), base_url="http://localhost")
    with client.websocket_connect("ws://localhost/") as socket:
        assert socket.receive_json()["error"]["code"] == "failed"
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_json()
    assert end.value.code == 1011
    assert "ZeroDivisionError" in caplog.text


def test_a_file_of_keys_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY, encoding="utf-8-sig")
    assert Settings(keys_file=file).all_keys() == [KEY]


@pytest.mark.parametrize("key", [KEY, "schl\u00fcssel-der-t\u00fcr", "a:b/c=d+e&f%20g-h"])
def test_keys_are_compared_as_the_bytes_that_come(key: str) -> None:
    admission = Admission(Settings(keys=key))

    def admit(sent: bytes) -> str:
        headers = [(b"host", b"localhost"), (b"authorization", b"Bearer " + sent)]
        return admission.admit(HTTPConnection({"type": "http", "headers": headers, "client": ("10.0.0.1", 1)}))

    assert len(admit(key.encode())) == 16
    with pytest.raises(ApiError, match="Unknown API key"):
        admit(key.encode()[:-1])


def test_strangers_do_not_use_up_the_requests_of_a_key_behind_the_same_address() -> None:
    admission = Admission(Settings(keys=f"{KEY},{KEY}2", requests_per_minute=5))

    def admit(key: str | None) -> int:
        headers = [(b"host", b"localhost"), *([] if key is None else [(b"authorization", f"Bearer {key}".encode())])]
        try:
            admission.admit(HTTPConnection({"type": "http", "headers": headers, "client": ("10.0.0.1", 1)}))
        except ApiError as error:
            return error.status
        return 200

    assert [admit(None) for _ in range(4)] + [admit("wrong") for _ in range(4)] == [401] * 5 + [429] * 3
    assert [admit(KEY) for _ in range(7)] == [200] * 5 + [429] * 2
    assert [admit(f"{KEY}2") for _ in range(5)] == [200] * 5
