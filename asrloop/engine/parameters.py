"""The table of request parameters: names, kinds, and the requests that may bring them."""

from collections.abc import Mapping
from enum import Flag, auto
from typing import NamedTuple


class Door(Flag):
    """The kind of request that brings parameters."""

    REQUEST = auto()
    """A file or PCM: asr_file, asr_ensemble, decoder_loop."""

    START = auto()
    """The request that starts a stream of live audio."""

    CHUNK = auto()
    """Every other request of a stream."""


_STREAM = Door.START | Door.CHUNK
_EVERYWHERE = Door.REQUEST | _STREAM


class Parameter(NamedTuple):
    """A request parameter that callers may send."""

    doors: Door
    kind: type
    """str, bool, int or float."""

    meaning: str
    has_own_check: bool = False
    """True where the code that uses it says more about a wrong value."""

    @property
    def kind_name(self) -> str:
        """Name of the kind as users know it."""
        return {str: "text", bool: "true or false", int: "a whole number", float: "a number"}.get(self.kind, "")


PARAMETERS: Mapping[str, Parameter] = {
    "sample_rate": Parameter(
        _EVERYWHERE, int, "rate of the samples in Hz, 8000..48000; by default 16000", has_own_check=True
    ),
    "cancel_key": Parameter(
        Door.REQUEST, str, "secret of 16 characters or more by which the request can be cancelled", has_own_check=True
    ),
    "cancel": Parameter(Door.REQUEST, str, "end the requests with this key (decoder_loop only)", has_own_check=True),
    "progress": Parameter(
        Door.REQUEST, str, "tell how far the request with this key is (decoder_loop only)", has_own_check=True
    ),
    "language": Parameter(Door.REQUEST | Door.START, str, 'ISO 639-1 or BCP 47; "" or "auto" lets the model decide'),
    "task": Parameter(Door.REQUEST, str, "transcribe or translate"),
    "prompt": Parameter(Door.REQUEST | Door.START, str, "text that came before; of a long one the end counts"),
    "key_terms": Parameter(Door.REQUEST | Door.START, str, "names and words to expect, one a line"),
    "key_terms_boost": Parameter(Door.REQUEST | Door.START, float, "how much they are preferred, 0..10"),
    "word_times": Parameter(Door.REQUEST | Door.START, bool, "say when each word was spoken"),
    "diarize": Parameter(
        Door.REQUEST,
        str,
        "true: say who spoke when; channels: each channel of a file is a speaker; false",
        has_own_check=True,
    ),
    "speakers": Parameter(Door.REQUEST, int, "with diarize=true: most speakers to find, 1..50"),
    "turn_detection": Parameter(Door.START, str, "silence, semantic or none: what ends a segment, by default silence"),
    "silence_ms": Parameter(
        Door.START,
        int,
        "milliseconds of the pause that ends a segment, 100..10000; by default 220, and 380 where the text is unsure",
    ),
    "turn_threshold": Parameter(
        Door.START, float, "with semantic: least probability that the speaker is done, 0..1; by default 0.5"
    ),
    "longest_pause_ms": Parameter(
        Door.START, int, "with semantic: milliseconds of the pause that ends any segment, 500..30000; by default 4000"
    ),
    "speech_threshold": Parameter(Door.START, float, "least probability of speech, 0..1; by default 0.6"),
    "padding_ms": Parameter(
        Door.START, int, "milliseconds of audio before the speech that belong to a segment, 0..2000; by default 320"
    ),
    "model": Parameter(Door.START, str, "name of the recognizer that decodes; by default the default"),
    "end_segment": Parameter(Door.CHUNK, bool, "end the open segment behind this chunk"),
}
"""Every parameter by name."""

_TRITONS = {
    "id",
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "binary_data_output",
    "headers",
}
_HEADERS = {
    "accept", "authorization", "b3", "baggage", "connection", "cookie", "date", "expect", "forwarded", "from", "host",
    "origin", "pragma", "referer", "te", "traceparent", "tracestate", "upgrade", "via",
}  # fmt: skip


def is_tritons(name: str) -> bool:
    """Return True for a parameter that Triton reserves, or a header that it forwards (--grpc-header-forward-pattern)."""
    return name in _TRITONS or name.startswith("triton_") or "-" in name or name.lower() in _HEADERS
