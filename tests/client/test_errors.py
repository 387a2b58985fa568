"""What gRPC and Triton say becomes a typed error that says what to do."""

import grpc
import pytest
from asrloop_client import errors
from asrloop_client.settings import Settings

S = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (S.INVALID_ARGUMENT, "in ensemble 'asr_ensemble', [invalid_audio] WAV holds NaN", errors.InvalidAudio),
        (S.INVALID_ARGUMENT, "[too_long] 5 h", errors.InvalidAudio),
        (S.INVALID_ARGUMENT, "[invalid_option] langauge: did you mean language?", errors.InvalidOption),
        (S.INVALID_ARGUMENT, "in ensemble 'a', [invalid_option] language is 'de'", errors.InvalidOption),
        (S.UNAVAILABLE, "in ensemble 'a', in ensemble 'b', [overloaded] full", errors.Overloaded),
        (S.UNAVAILABLE, "[deadline] passed", errors.DeadlineExceeded),
        (S.UNAVAILABLE, "[closing] bye", errors.ServerGone),
        (S.INTERNAL, "[failed] it broke", errors.ServerFailure),
        (S.CANCELLED, "[cancelled] x", errors.Cancelled),
        (S.UNAVAILABLE, "the queue is full, the inbox too, timeout expired", errors.ServerGone),
        (S.INVALID_ARGUMENT, "queue timeout expired, not ready", errors.InvalidAudio),
        (S.RESOURCE_EXHAUSTED, "too many requests", errors.Overloaded),
        (S.NOT_FOUND, "Request for unknown model: 'x' is not found", errors.ModelNotReady),
        (S.UNAVAILABLE, "restricted, expecting header 'triton-grpc-protocol-token'", errors.AccessDenied),
        (S.UNAUTHENTICATED, "", errors.AccessDenied),
        (S.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (S.CANCELLED, "CANCELLED", errors.Cancelled),
        (S.UNKNOWN, "[new_code] x", errors.ServerFailure),
        (S.INTERNAL, "in ensemble 'asr_file', Stub process 'audio_frontend_0_0' is not healthy.", errors.ServerGone),
        (S.INTERNAL, "Stub process is not healthy.", errors.ServerGone),
        (S.INTERNAL, "[failed] the words 'Stub process is not healthy.' in a transcript", errors.ServerFailure),
    ],
)
def test_the_type_follows_from_the_code_and_the_status(
    code: grpc.StatusCode, details: str, expected: type[errors.AsrError]
) -> None:
    error = errors.from_status(code, details, "host:8001")
    assert type(error) is expected
    assert str(error).startswith(f"host:8001: {details.rstrip('.')}")
    assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidAudio, ValueError),
        (errors.InvalidOption, ValueError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.PoolExhausted, TimeoutError),
        (errors.ServerGone, ConnectionError),
        (errors.UnreadableFile, OSError),
        (errors.AccessDenied, PermissionError),
        (errors.ClientClosed, RuntimeError),
    ],
)
def test_code_that_knows_only_builtins_catches_them(error: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match=r"^what$"):
        raise error("what")


def test_an_option_that_the_server_refuses_says_what_to_fix_and_is_not_audio() -> None:
    error = errors.from_status(S.INVALID_ARGUMENT, "[invalid_option] language is 'de': give 'en'", "host:8001")
    assert (
        str(error) == "host:8001: [invalid_option] language is 'de': give 'en'. Fix the parameter; a retry cannot help."
    )
    assert (error.code, error.detail, error.retryable) == ("invalid_option", "language is 'de': give 'en'", False)
    assert not isinstance(error, errors.InvalidAudio)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"traceparent": "00-\tab"}, "traceparent"),
        ({"traceparent": "00-\xff"}, "traceparent"),
        ({"Upper": "x"}, "Upper"),
        ({"a b": "x"}, "a b"),
        ({"key": b"bytes"}, "key"),
        ({"key": 1}, "key"),
    ],
)
def test_headers_that_grpc_does_not_send_are_named(headers: dict[str, str], named: str) -> None:
    with pytest.raises(errors.InvalidConfig, match=f"header '{named}': give a name of a-z"):
        Settings().all_headers(headers)
    assert Settings().all_headers({"key-bin": b"\xff"}) == {"key-bin": b"\xff"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ("", "no server was given: give one address `host:port` or a list"),
        (" , ", "no server was given: give one address `host:port` or a list"),
        ("a:8001,b:99999", r"server 'b:99999': its port is 99999: give one from 1 to 65535"),
        ("a:0", r"server 'a:0': its port is 0: give one from 1 to 65535"),
        (
            "http://a:8000",
            r"server 'http://a:8000': give the address of gRPC as host:port, without http://, and tls for TLS",
        ),
        (["https://a"], r"server 'https://a': give the address of gRPC as host:port, without https://"),
    ],
)
def test_a_wrong_address_of_a_server_is_named(servers: str | list[str], why: str) -> None:
    with pytest.raises(errors.InvalidConfig, match=why):
        Settings(servers=servers)


def test_a_server_that_is_given_twice_is_one() -> None:
    assert Settings(servers="a:1, b:1 a:1").addresses == ["a:1", "b:1"]
    assert Settings(servers=["[::1]:8001", "dns:///a:8001"]).addresses == ["[::1]:8001", "dns:///a:8001"]
