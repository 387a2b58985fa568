"""The door of the engine: PCM of any rate in WAV, or 16 kHz from ``audio_frontend`` in SAMPLES, checked once for every family."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.errors import InvalidAudio

SHORTEST_CANCEL_KEY = 16


def rows_of(
    tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], max_seconds: float
) -> tuple[list[Samples], int]:
    """Checked copies of a request's rows, f32 [N] each, and their rate in Hz. Raises InvalidAudio.

    The rate of WAV is the parameter ``sample_rate``; SAMPLES are 16 kHz, whatever parameters came with the file.
    """
    if "SAMPLES" in tensors:
        names, rate = ("SAMPLES", "SAMPLE_LENS"), SAMPLE_RATE
    elif "WAV" in tensors:
        names, rate = ("WAV", "WAV_LENS"), audio.checked_rate(parameters.get("sample_rate", SAMPLE_RATE))
    else:
        raise InvalidAudio(f"inputs are {sorted(tensors)}: send WAV, and WAV_LENS where rows are padded")
    name, lengths_name = names
    return audio.from_pcm(tensors[name], tensors.get(lengths_name), rate, max_seconds, names), rate


def deadline_of(tensors: Mapping[str, NDArray[Any]], timeout: int, now: float) -> float | None:
    """When the request's time ends, in seconds of the monotonic clock; None when it never does.

    ``timeout`` is the caller's, in microseconds, 0 for none. A step before may have started to count: its DEADLINE holds.
    """
    if "DEADLINE" in tensors:
        deadline = int(tensors["DEADLINE"].reshape(-1)[0])
        return deadline / 1e6 if deadline >= 0 else None
    return now + timeout / 1e6 if timeout else None


def cancel_key_of(parameters: Mapping[str, Any]) -> str:
    """The parameter ``cancel_key``, by which the caller can cancel the request; "" without one. Raises InvalidAudio.

    It is long, so that nobody ends another's request by guessing.
    """
    key = parameters.get("cancel_key", "")
    if key != "" and not (isinstance(key, str) and len(key) >= SHORTEST_CANCEL_KEY):
        raise InvalidAudio(f"cancel_key is {key!r}: it must be a string of at least {SHORTEST_CANCEL_KEY} characters")
    return str(key)
