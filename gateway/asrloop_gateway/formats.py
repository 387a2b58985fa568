"""Transcripts in the formats of OpenAI's `response_format`."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from asrloop_client import Segment, Transcript, Word
from starlette.responses import JSONResponse, PlainTextResponse, Response

from asrloop_gateway.chunking import letters
from asrloop_gateway.languages import name_of
from asrloop_gateway.speakers import DIARIZED, letter

Form = Callable[[Transcript, "ResponseOptions"], Response]


@dataclass(frozen=True)
class ResponseOptions:
    """Options of the response that do not change the transcript."""

    model: str
    """Any name; sent back, as OpenAI does."""
    granularities: Collection[str] = ("segment",)
    language: str = "english"
    """Language of a translation, and of other text where the servers do not know it."""
    logprobs: bool = False
    """True to tell the log probabilities of the tokens, in `json` and `verbose_json`."""
    task: str = "transcribe"
    speakers: bool = False
    """True to tell who spoke."""

    def language_of(self, transcript: Transcript) -> str:
        """Return the name of the language of its text."""
        return "" if self.task == "translate" else name_of(transcript.language)


def seconds_of(transcript: Transcript) -> float:
    """Return the length of the audio that was decoded; where the server does not say it, the end of the last segment."""
    if transcript.duration is not None:
        return transcript.duration
    return max((segment.end for segment in transcript.segments), default=0.0)


def rounded(seconds: float) -> float:
    """Round to the millisecond."""
    return round(seconds, 3)


def usage(transcript: Transcript) -> dict[str, Any]:
    """Return `usage` as OpenAI bills models by the length of the audio: whole seconds, rounded up."""
    return {"type": "duration", "seconds": math.ceil(rounded(seconds_of(transcript)))}


def told(word: Word) -> dict[str, Any]:
    """Return a word as OpenAI tells it, its confidence, and its speaker, where these are known."""
    confidence = {} if word.confidence is None else {"confidence": rounded(word.confidence)}
    speaker = {} if word.speaker is None else {"speaker": letter(word.speaker)}
    return {"word": word.text, "start": rounded(word.start), "end": rounded(word.end), **confidence, **speaker}


def told_segment(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment as OpenAI tells it in events and in `diarized_json`."""
    return {
        "type": "transcript.text.segment",
        "id": str(number),
        "start": rounded(segment.start),
        "end": rounded(segment.end),
        "text": segment.text,
        "speaker": letter(segment.speaker),
    }


def logprobs(transcript: Transcript) -> list[dict[str, Any]]:
    """Return the tokens with their log probabilities. Joined they are about the text."""
    pieces = list(transcript.token_pieces)
    pieces[:1] = [piece.lstrip(" ") for piece in pieces[:1]]
    return [
        # The bytes of a part of a character are not known.
        {"token": piece, "bytes": None if "\ufffd" in piece else list(piece.encode()), "logprob": round(value, 4)}
        for piece, value in zip(pieces, transcript.token_log_probs, strict=False)
    ]


def asked_logprobs(transcript: Transcript, asked: bool) -> dict[str, Any]:
    """Return the field `logprobs`, where it is asked for."""
    return {"logprobs": logprobs(transcript)} if asked else {}


def languages(transcript: Transcript) -> dict[str, Any]:
    """Return the field `languages`, where the server says what was spoken."""
    return {"languages": [{"code": transcript.language}]} if transcript.language else {}


def _json(transcript: Transcript, options: ResponseOptions) -> Response:
    body = {"text": transcript.text, "model": options.model, **languages(transcript)}
    return JSONResponse({**body, **asked_logprobs(transcript, options.logprobs), "usage": usage(transcript)})


def _text(transcript: Transcript, _: ResponseOptions) -> Response:
    return PlainTextResponse(transcript.to_txt())


def _srt(transcript: Transcript, _: ResponseOptions) -> Response:
    return PlainTextResponse(transcript.to_srt(), media_type="application/x-subrip")


def _vtt(transcript: Transcript, _: ResponseOptions) -> Response:
    return PlainTextResponse(transcript.to_vtt(), media_type="text/vtt")


def _verbose_json(transcript: Transcript, options: ResponseOptions) -> Response:
    body: dict[str, Any] = {
        "task": options.task,
        "language": options.language_of(transcript) or options.language,
        "duration": rounded(seconds_of(transcript)),
        "text": transcript.text,
        "model": options.model,
        "usage": usage(transcript),
        "complete": transcript.complete,
    }
    if "segment" in options.granularities:
        of_segments = zip(transcript.segments, _tokens_of(transcript), strict=True)
        body["segments"] = [
            _segment(transcript, number, each, tokens) | ({"speaker": letter(each.speaker)} if options.speakers else {})
            for number, (each, tokens) in enumerate(of_segments)
        ]
    if "word" in options.granularities:
        body["words"] = [told(word) for word in transcript.words]
    return JSONResponse({**body, **asked_logprobs(transcript, options.logprobs)})


def _diarized_json(transcript: Transcript, options: ResponseOptions) -> Response:
    return JSONResponse(
        {
            "task": options.task,
            "duration": rounded(seconds_of(transcript)),
            "text": transcript.text,
            "segments": [told_segment(number, each) for number, each in enumerate(transcript.segments)],
            "usage": usage(transcript),
            "complete": transcript.complete,
        }
    )


def _tokens_of(transcript: Transcript) -> list[list[int]]:
    """Return the tokens of each segment as far as their times are known: by what they spell, for segments of channels overlap."""
    found: list[list[int]] = [[] for _ in transcript.segments]
    of_segments = [letters([segment.text]) for segment in transcript.segments]
    text, ends, at = "".join(of_segments), list(accumulate(map(len, of_segments))), 0
    for token, piece in zip(transcript.tokens, transcript.token_pieces, strict=False):
        # Of parts of a character it is not known what they spell: the letters behind them say how far they went.
        spelled = letters([piece]).replace("\ufffd", "")
        at = max(at, text.find(spelled, at))
        if found:
            found[min(bisect_right(ends, at), len(found) - 1)].append(token)
        at = min(at + len(spelled), len(text))
    return found


def _segment(transcript: Transcript, number: int, segment: Segment, tokens: Sequence[int]) -> dict[str, Any]:
    """Return a segment with all fields of OpenAI's API. docs/gateway.md says which are measured and which are constant."""
    encoded = segment.text.encode()
    return {
        "id": number,
        "seek": round(100 * segment.start),
        "start": rounded(segment.start),
        "end": rounded(segment.end),
        "text": segment.text,
        "tokens": tokens,
        "temperature": 0.0,
        "avg_logprob": 0.0 if transcript.confidence is None else math.log(max(transcript.confidence, 1e-6)),
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)),
        "no_speech_prob": 0.0,
    }


FORMATS: dict[str, Form] = {
    "json": _json,
    "text": _text,
    "srt": _srt,
    "verbose_json": _verbose_json,
    "vtt": _vtt,
    DIARIZED: _diarized_json,
}
