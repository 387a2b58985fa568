"""The door of the engine: PCM of any rate in WAV, or 16 kHz from ``audio_frontend`` in SAMPLES, checked once for every family."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop import audio
from asrloop.audio import MAX_CHANNELS, SAMPLE_RATE, LongAudio, Samples
from asrloop.audio.relay import incoming
from asrloop.config import AudioSettings
from asrloop.engine.family import Family
from asrloop.engine.options import CHANNELS, NO_DRAFT, Draft, Options, parsed
from asrloop.engine.parameters import Door
from asrloop.engine.request import Request
from asrloop.errors import InvalidAudio, InvalidOption, one_channel

SHORTEST_CANCEL_KEY, LONGEST_CANCEL_KEY = 16, 1000

MOST_DRAFT_TOKENS = 2000
"""Far more than anybody says in a window."""

MOST_SECONDS = 10**9
"""Bound of the lengths that headers of files claim; a header of 32 bits claims less."""

_SAMPLES = ("SAMPLES", "SAMPLE_LENS", "REST", "REST_SECONDS", "MISSING_SECONDS")
"""Inputs that audio_frontend gives; other clients may send the first two."""

_NO_TOKENS = np.zeros(0, np.int32)


def request_of(
    tensors: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, Any],
    family: Family[Any],
    settings: AudioSettings,
    *,
    on_done: Callable[[Request], None],
    deadline: float | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    outputs: frozenset[str] | None = None,
) -> Request:
    """Return a request with checked copies of its rows; see :class:`Request`. Raises InvalidAudio, InvalidOption, DecodeFailed."""
    options = options_of(parameters, family)
    rows, rate = rows_of(tensors, parameters, settings)
    channels = channels_of(tensors)
    most = max(channels, default=1)
    if options.diarize == CHANNELS and most == 1:
        raise one_channel()
    if options.diarize != CHANNELS and most > 1:
        raise InvalidAudio(f"SAMPLE_LENS has {most} channels in a row: send one, or diarize=channels with them")
    sent = _samples_in(rows[0])
    draft = draft_of(tensors, rows, family)
    return Request(
        rows,
        on_done,
        sample_rate=rate,
        options=replace(options, draft=draft) if draft is not NO_DRAFT else options,
        deadline=deadline,
        is_cancelled=is_cancelled,
        key=cancel_key_of(parameters),
        outputs=outputs,
        missing_seconds=_seconds(tensors, "MISSING_SECONDS", channels or [1] * len(rows)),
        channels=channels,
        is_live="FORCED" in tensors,
        start=(sent - _samples_in(rows[0])) / SAMPLE_RATE,
    )


def _samples_in(row: Samples | LongAudio) -> int:
    return 0 if isinstance(row, LongAudio) else row.size


def options_of(parameters: Mapping[str, Any], family: Family[Any]) -> Options:
    """Return the options that parameters set, as far as the family can honour them. Raises InvalidOption."""
    options = parsed(parameters, Door.REQUEST, family.info)
    if unwritable := [term for term in options.key_terms if not family.can_write(term)]:
        raise InvalidOption(
            f"key_terms has {', '.join(unwritable):.200}: the served model cannot write that; leave it out"
        )
    return options


def rows_of(
    tensors: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], settings: AudioSettings
) -> tuple[list[Samples | LongAudio], int]:
    """Return checked copies of a request's rows, f32 [N] each, and their rate in Hz. Raises InvalidAudio, DecodeFailed.

    The rate of WAV is the parameter ``sample_rate``; SAMPLES are 16 kHz, whatever parameters came with the file. For a long file
    they are the beginning; the rest comes block by block through the relay that REST names.
    """
    samples, wav = ([name for name in names if name in tensors] for names in (_SAMPLES, ("WAV", "WAV_LENS")))
    if samples and wav:
        raise InvalidAudio(
            f"inputs are {', '.join((*wav, *samples))}: send WAV for PCM, or SAMPLES as audio_frontend gives them"
        )
    if "SAMPLES" in tensors:
        heads = _heads(tensors, settings)
        channels = channels_of(tensors) or [1] * len(heads)
        handles, seconds = _values(tensors, "REST", channels), _seconds(tensors, "REST_SECONDS", channels)
        return [
            incoming(bytes(handle).decode("ascii", "replace"), head, length) if handle else head
            for head, handle, length in zip(heads, handles, seconds, strict=True)
        ], SAMPLE_RATE
    if "WAV" in tensors:
        rate = audio.checked_rate(parameters.get("sample_rate", SAMPLE_RATE))
        return [*audio.from_pcm(tensors["WAV"], tensors.get("WAV_LENS"), rate, settings.max_pcm_seconds)], rate
    raise InvalidAudio(f"inputs are {sorted(tensors)}: send WAV, and WAV_LENS where rows are padded")


def channels_of(tensors: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return how many channels each row of SAMPLES has, by its lengths; () where each row is one."""
    lengths = tensors.get("SAMPLE_LENS")
    if lengths is None or lengths.ndim != 2 or lengths.shape[1] == 1:
        return []
    return [max(1, int(np.count_nonzero(row))) for row in lengths]


def _heads(tensors: Mapping[str, NDArray[Any]], settings: AudioSettings) -> list[Samples]:
    """Return the audio of each row, or of each of its channels, one behind the other. Raises InvalidAudio."""
    samples, lengths = tensors["SAMPLES"], tensors.get("SAMPLE_LENS")
    names = "SAMPLES", "SAMPLE_LENS"
    channels = channels_of(tensors)
    if lengths is None or not channels:
        return audio.from_pcm(samples, lengths, SAMPLE_RATE, settings.max_seconds, names)
    if samples.ndim != 2 or len(samples) != len(lengths):
        raise InvalidAudio(
            f"SAMPLES has shape {list(samples.shape)}, SAMPLE_LENS {list(lengths.shape)}: send rows alike"
        )
    heads = []
    for row, counts, count in zip(samples, lengths.tolist(), channels, strict=True):
        if count > MAX_CHANNELS:
            raise InvalidAudio(f"SAMPLE_LENS has {count} channels in a row: the limit is {MAX_CHANNELS}; send fewer")
        # Zeros come behind the lengths of a row that has fewer channels than others.
        if min(counts[:count], default=0) < 1 or sum(counts) > row.size:
            raise InvalidAudio(
                f"SAMPLE_LENS is {counts!r:.80}: send 1 or more for each channel, together at most the {row.size} samples in "
                "SAMPLES"
            )
        start = 0
        for size in counts[:count]:
            heads += audio.from_pcm(row[None, start : start + size], None, SAMPLE_RATE, settings.max_seconds, names)
            start += size
    return heads


def _values(tensors: Mapping[str, NDArray[Any]], name: str, channels: Sequence[int]) -> list[Any]:
    """Return a value for each channel of each row; 0 where the tensor is not there."""
    if name not in tensors:
        return [0] * sum(channels)
    rows = tensors[name].reshape(len(tensors[name]), -1).tolist()
    if len(rows) != len(channels) or any(len(row) < count for row, count in zip(rows, channels, strict=False)):
        raise InvalidAudio(
            f"{name} has {len(rows)} rows, SAMPLES {len(channels)}: send one a row, with a value a channel"
        )
    return [value for row, count in zip(rows, channels, strict=True) for value in row[:count]]


def _seconds(tensors: Mapping[str, NDArray[Any]], name: str, channels: Sequence[int]) -> list[float]:
    """Return a length in seconds for each channel of each row; 0 where the tensor is not there."""
    values = [float(value) for value in _values(tensors, name, channels)]
    wrong = next((value for value in values if not 0 <= value <= MOST_SECONDS), None)
    if wrong is not None:
        raise InvalidAudio(f"{name} is {wrong:g}: send a number of seconds in 0..{MOST_SECONDS}")
    return values


def draft_of(tensors: Mapping[str, NDArray[Any]], rows: list[Samples | LongAudio], family: Family[Any]) -> Draft:
    """Return what asr_stream knows of the only row of a request. Raises InvalidOption.

    PREFIX i32 [1, P] are tokens of the speech in its first PREFIX_SAMPLES samples; DRAFT i32 [1, D] are tokens that decoding
    behind them is likely to give, of which the first FORCED words stand; live audio always has FORCED. Where a family takes none
    the first samples go instead.
    """
    prefix, draft = (tensors[name].reshape(-1) if name in tensors else _NO_TOKENS for name in ("PREFIX", "DRAFT"))
    row = rows[0]
    most = 0 if isinstance(row, LongAudio) else row.size
    before, forced_words = _number(tensors, "PREFIX_SAMPLES", most), _number(tensors, "FORCED", MOST_DRAFT_TOKENS)
    if not prefix.size and not draft.size:
        return NO_DRAFT
    if len(rows) != 1 or isinstance(row, LongAudio) or "WAV" in tensors:
        came = "WAV" if "WAV" in tensors else f"{len(rows)} rows"
        raise InvalidOption(f"PREFIX and DRAFT came with {came}: send one row of 16 kHz SAMPLES")
    if prefix.size + draft.size > MOST_DRAFT_TOKENS:
        raise InvalidOption(
            f"PREFIX and DRAFT have {prefix.size + draft.size} tokens: send at most {MOST_DRAFT_TOKENS} in all"
        )
    tokens = [int(token) for token in (*prefix, *draft)]
    wrong = next((token for token in tokens if not 0 <= token < family.vocabulary_size), None)
    if wrong is not None:
        raise InvalidOption(f"PREFIX or DRAFT has token {wrong}: ids are between 0 and {family.vocabulary_size - 1}")
    if not family.info.takes_drafts:
        rows[0] = row[min(before, row.size - 1) :]
        return NO_DRAFT
    words = family.words(tokens[prefix.size :])
    forced = words[forced_words].first if forced_words < len(words) else draft.size
    return Draft(tokens, prefix.size + forced, prefix.size, before)


def _number(tensors: Mapping[str, NDArray[Any]], name: str, most: int) -> int:
    numbers = [int(number) for number in tensors[name].reshape(-1)] if name in tensors else [0]
    wrong = next((number for number in numbers if not 0 <= number <= most), None)
    if wrong is not None:
        raise InvalidOption(f"{name} is {wrong}: send a number in 0..{most}")
    return numbers[0]


def deadline_of(tensors: Mapping[str, NDArray[Any]], timeout: int, now: float) -> float | None:
    """Return when the request's time ends, in seconds of the monotonic clock; None when it never does.

    ``timeout`` is the caller's, in microseconds, 0 for none. DEADLINE, from an earlier step of an ensemble, comes first.
    """
    if "DEADLINE" in tensors:
        deadline = int(tensors["DEADLINE"].reshape(-1)[0])
        return deadline / 1e6 if deadline >= 0 else None
    return now + timeout / 1e6 if timeout else None


def cancel_key_of(parameters: Mapping[str, Any]) -> str:
    """Return the parameter ``cancel_key``, by which the caller can cancel the request; "" without one. Raises InvalidAudio.

    It is long, so that nobody ends another's request by guessing.
    """
    key = parameters.get("cancel_key", "")
    if key != "" and not (isinstance(key, str) and SHORTEST_CANCEL_KEY <= len(key) <= LONGEST_CANCEL_KEY):
        raise InvalidAudio(
            f"cancel_key is {key!r:.80}: it must be a string of at least {SHORTEST_CANCEL_KEY} characters, and of at most "
            f"{LONGEST_CANCEL_KEY}"
        )
    return str(key)


def named_key(parameters: Mapping[str, Any], order: str) -> str:
    """Return the cancel_key that the parameter ``order``, ``cancel`` or ``progress``, names; "" for what is no string.

    Raises InvalidOption for a long one: cancelled keys are kept for a minute.
    """
    key = parameters[order]
    if not isinstance(key, str):
        return ""
    if len(key) > LONGEST_CANCEL_KEY:
        raise InvalidOption(
            f"{order} is {key!r:.80}: send the cancel_key of a request, at most {LONGEST_CANCEL_KEY} characters"
        )
    return key
