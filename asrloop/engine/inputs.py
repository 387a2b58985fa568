"""The door of the engine: PCM of any rate in WAV, or 16 kHz from ``audio_frontend`` in SAMPLES, checked once for every family."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio import SAMPLE_RATE, LongAudio, Samples
from asrloop.audio.relay import incoming
from asrloop.config import AudioSettings
from asrloop.engine.errors import InvalidAudio

SHORTEST_CANCEL_KEY = 16


def rows_of(
    tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], settings: AudioSettings
) -> tuple[list[Samples | LongAudio], int]:
    """Checked copies of a request's rows, f32 [N] each, and their rate in Hz. Raises InvalidAudio, DecodeFailed.

    The rate of WAV is the parameter ``sample_rate``; SAMPLES are 16 kHz, whatever parameters came with the file. Of a long file
    they are the beginning, and what follows comes bit by bit from where REST says.
    """
    if "SAMPLES" in tensors:
        heads = audio.from_pcm(
            tensors["SAMPLES"],
            tensors.get("SAMPLE_LENS"),
            SAMPLE_RATE,
            settings.max_seconds,
            ("SAMPLES", "SAMPLE_LENS"),
        )
        handles, seconds = (_column(tensors, name, len(heads)) for name in ("REST", "REST_SECONDS"))
        return [
            incoming(bytes(handle).decode("ascii", "replace"), head, float(length)) if handle else head
            for head, handle, length in zip(heads, handles, seconds, strict=True)
        ], SAMPLE_RATE
    if "WAV" in tensors:
        rate = audio.checked_rate(parameters.get("sample_rate", SAMPLE_RATE))
        return [*audio.from_pcm(tensors["WAV"], tensors.get("WAV_LENS"), rate, settings.max_pcm_seconds)], rate
    raise InvalidAudio(f"inputs are {sorted(tensors)}: send WAV, and WAV_LENS where rows are padded")


def _column(tensors: Mapping[str, NDArray[Any]], name: str, rows: int) -> list[Any]:
    """A value a row; nothing where the tensor is not there."""
    values: list[Any] = tensors[name].reshape(-1).tolist() if name in tensors else [0] * rows
    if len(values) != rows:
        raise InvalidAudio(f"{name} has {len(values)} rows, SAMPLES {rows}: send one a row")
    return values


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
