"""The door of the engine: PCM of any rate in WAV, or 16 kHz from ``audio_frontend`` in SAMPLES, checked once for every family."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio import SAMPLE_RATE, LongAudio, Samples
from asrloop.audio.relay import incoming
from asrloop.config import AudioSettings
from asrloop.engine.family import Family
from asrloop.errors import InvalidAudio
from asrloop.speech.joining import word_starts

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


class Hint(NamedTuple):
    """What is known of a row already; see ``Request``."""

    draft: Sequence[int] = ()
    given: int = 0
    said_before: int = 0


def hint_of(tensors: Mapping[str, NDArray[Any]], rows: list[Samples | LongAudio], family: Family[Any]) -> Hint:
    """Of the only row of a request for live audio. Raises InvalidAudio.

    PREFIX i32 [1, P] are tokens of what was said in its first PREFIX_SAMPLES samples; DRAFT i32 [1, D] are tokens that decoding
    behind them is likely to give, of which the first FORCED words stand. Where a family takes none the first samples go instead.
    """
    prefix, draft = (
        [int(token) for token in tensors[name].reshape(-1)] if name in tensors else [] for name in ("PREFIX", "DRAFT")
    )
    if not prefix and not draft:
        return Hint()
    row = rows[0]
    if len(rows) != 1 or isinstance(row, LongAudio):
        raise InvalidAudio(f"PREFIX and DRAFT came with {len(rows)} rows: send one row of 16 kHz samples")
    wrong = next((token for token in prefix + draft if not 0 <= token < family.vocabulary_size), None)
    if wrong is not None:
        raise InvalidAudio(f"PREFIX or DRAFT has token {wrong}: ids are between 0 and {family.vocabulary_size - 1}")
    words, before = (
        int(tensors[name].reshape(-1)[0]) if name in tensors else 0 for name in ("FORCED", "PREFIX_SAMPLES")
    )
    if not family.takes_drafts:
        rows[0] = row[min(max(0, before), row.size - 1) :]
        return Hint()
    starts = word_starts([*map(family.piece, draft)])
    forced = starts[words] if words < len(starts) else len(draft)
    return Hint([*prefix, *draft], len(prefix) + forced, len(prefix))


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
