"""Why a request ended without a transcript. Each error declares once what the metrics, the message and Triton call it."""

from typing import ClassVar


class RequestError(Exception):
    """Base of everything a request can end with instead of a transcript; its text begins with the code in brackets."""

    code: ClassVar[str]
    """What the message begins with, in brackets. Clients rely on it."""

    triton_code: ClassVar[str]
    """Name of the constant of Triton's ``TritonError``."""

    outcome: ClassVar[str]
    """Value of the metrics' label ``outcome``."""

    def __str__(self) -> str:
        return f"[{self.code}] {super().__str__()}"


class InvalidAudio(RequestError, ValueError):
    """Audio that cannot be transcribed; the message names the value, the limit and how to fix it."""

    code, triton_code, outcome = "invalid_audio", "INVALID_ARG", "invalid_audio"


class TooLong(InvalidAudio):
    """Audio beyond ``audio.max_seconds``."""

    code, outcome = "too_long", "too_long"


class InvalidOption(RequestError, ValueError):
    """An unknown request parameter, or a value that the served model cannot honour."""

    code, triton_code, outcome = "invalid_option", "INVALID_ARG", "invalid_option"


class BadSequence(RequestError, ValueError):
    """Requests of a stream that do not follow one another: audio before its start, two starts, nothing for too long."""

    code, triton_code, outcome = "bad_sequence", "INVALID_ARG", "bad_sequence"


class Overloaded(RequestError):
    """The inbox was full on arrival, or no slot came free in time."""

    code, triton_code, outcome = "overloaded", "UNAVAILABLE", "overloaded"


class DeadlineExceeded(RequestError):
    """The caller's own time limit passed."""

    code, triton_code, outcome = "deadline", "UNAVAILABLE", "deadline"


class Cancelled(RequestError):
    """The caller cancelled the request."""

    code, triton_code, outcome = "cancelled", "CANCELLED", "cancelled"


class DecodeFailed(RequestError):
    """The model failed on this request."""

    code, triton_code, outcome = "failed", "INTERNAL", "failed"


class EngineClosed(RequestError):
    """The engine was closed before the request was done."""

    code, triton_code, outcome = "closing", "UNAVAILABLE", "closed"


ERRORS: tuple[type[RequestError], ...] = (
    InvalidAudio,
    TooLong,
    InvalidOption,
    BadSequence,
    Overloaded,
    DeadlineExceeded,
    Cancelled,
    DecodeFailed,
    EngineClosed,
)
"""All of them, for the metrics, the docs and the tests."""


def error_of(message: str) -> RequestError:
    """The error whose text is in ``message``, behind whatever Triton put before it; DecodeFailed where there is none."""
    _, _, rest = message.partition("[")
    code, _, text = rest.partition("] ")
    found = next((kind for kind in ERRORS if kind.code == code), None)
    return DecodeFailed(message) if found is None else found(text)


def one_channel() -> InvalidOption:
    """Make the error for audio without channels to tell speakers apart by."""
    return InvalidOption(
        "diarize is channels, and the audio has 1 channel: send a file with 2 or more to asr_file, or diarize=true"
    )
