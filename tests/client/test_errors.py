"""What gRPC and Triton say becomes a typed error that says what to do. The texts are Triton 2.51's and gRPC 1.85's."""

import re

import grpc
import pytest
from asrloop_client import errors

S = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (S.INVALID_ARGUMENT, "in ensemble 'asr_ensemble', WAV holds NaN at sample 3", errors.InvalidAudio),
        (S.UNAVAILABLE, "in ensemble 'asr_ensemble', the inbox is full (64 requests)", errors.Overloaded),
        (S.UNAVAILABLE, "the request's timeout passed after 0.310 s; give it more time", errors.DeadlineExceeded),
        (S.UNAVAILABLE, "waited 30 s for a slot (engine.queue_timeout_seconds); retry later", errors.Overloaded),
        (S.UNAVAILABLE, "Exceeds maximum queue size", errors.Overloaded),
        (S.UNAVAILABLE, "Request timeout expired", errors.DeadlineExceeded),
        (S.UNAVAILABLE, "Request for unknown model: 'x' has no available versions", errors.ModelNotReady),
        (S.UNAVAILABLE, "Server is stopping, scheduler for model has stopped accepting", errors.ModelNotReady),
        (S.NOT_FOUND, "Request for unknown model: 'x' is not found", errors.ModelNotReady),
        (
            S.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: "
            "Connection refused",
            errors.ServerGone,
        ),
        (S.UNAVAILABLE, "Stream removed (Socket closed)", errors.ServerGone),
        (S.UNAVAILABLE, "Connection reset by peer", errors.ServerGone),
        (
            S.UNAVAILABLE,
            "This protocol is restricted, expecting header 'triton-grpc-protocol-token'",
            errors.AccessDenied,
        ),
        (S.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (S.CANCELLED, "CANCELLED", errors.Cancelled),
        (S.INTERNAL, "it broke", errors.ServerFailure),
        (S.INVALID_ARGUMENT, "Unable to find shared memory region: 'asrloop-1'", errors.UnknownRegion),
    ],
)
def test_the_error_has_the_right_type_and_names_the_server_and_the_fix(
    code: grpc.StatusCode, details: str, expected: type[errors.AsrError]
) -> None:
    error = errors.from_status(code, details, "host:8001")
    assert type(error) is expected
    assert str(error).startswith(f"host:8001: {details}")
    fix = str(error).removeprefix(f"host:8001: {details}")
    assert re.search(r"[A-Za-z]{3}.*\.$", fix), "no fix"


def test_a_failed_handshake_points_at_the_certificates() -> None:
    details = "failed to connect to all addresses; last error: UNKNOWN: Ssl handshake failed: CERTIFICATE_VERIFY_FAILED"
    assert "Check `tls`" in str(errors.from_status(S.UNAVAILABLE, details, "host:8001"))


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidAudio, ValueError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.PoolExhausted, TimeoutError),
        (errors.ServerGone, ConnectionError),
        (errors.CircuitOpen, ConnectionError),
        (errors.AccessDenied, PermissionError),
        (errors.ClientClosed, RuntimeError),
    ],
)
def test_code_that_knows_only_builtins_catches_them(error: type[Exception], builtin: type[Exception]) -> None:
    with pytest.raises(builtin, match=r"^what$"):
        raise error("what")
