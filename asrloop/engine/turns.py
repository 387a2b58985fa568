"""What the START of a stream asks about turns: what ends a segment of live audio, and which sound is speech."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asrloop.errors import InvalidOption

SILENCE, SEMANTIC, NONE = "silence", "semantic", "none"
DETECTIONS = (SILENCE, SEMANTIC, NONE)


@dataclass(frozen=True)
class Turns:
    """Settings of one stream."""

    detection: str = SILENCE
    """What ends a segment: a pause, a pause behind which the turn detector hears that the speaker is done, or only the caller."""

    silence_seconds: float | None = None
    """Length of the pause that ends a segment; None where it depends on how sure the text is."""

    threshold: float = 0.5
    """From this probability on that the speaker is done a pause ends the segment."""

    longest_pause_seconds: float = 4.0
    """A pause of this length ends the segment also where the turn detector hears that more will be said."""

    speech_threshold: float = 0.6
    """Least probability of a frame with speech. For whole recordings speech goes on until 0.2, which would keep finals waiting for
    what dies away: with 0.35 one in twenty came 0.4 s later, and no word less was lost."""

    padding_seconds: float = 0.32
    """Audio before the speech that belongs to a segment."""


TURNS = Turns()

_LIMITS: Mapping[str, tuple[float, float]] = {
    "silence_ms": (100, 10_000),
    "turn_threshold": (0, 1),
    "longest_pause_ms": (500, 30_000),
    "speech_threshold": (0, 1),
    "padding_ms": (0, 2000),
}
_GOES_WITH = {"silence_ms": (SILENCE, SEMANTIC), "turn_threshold": (SEMANTIC,), "longest_pause_ms": (SEMANTIC,)}


def turns_of(values: Mapping[str, Any]) -> Turns:
    """Return the settings in checked request parameters. Raises InvalidOption."""
    detection = values.get("turn_detection") or SILENCE
    if detection not in DETECTIONS:
        raise InvalidOption(f"turn_detection is {detection!r:.80}: send {', '.join(DETECTIONS)}")
    for name, (least, most) in _LIMITS.items():
        if name not in values:
            continue
        if not least <= values[name] <= most:
            raise InvalidOption(f"{name} is {values[name]!r:.80}: send a number in {least:g}..{most:g}")
        if detection not in _GOES_WITH.get(name, DETECTIONS):
            raise InvalidOption(
                f"{name} is {values[name]!r:.80}, and turn_detection {detection}: it goes with "
                f"{' and '.join(_GOES_WITH[name])} only"
            )
    seconds = {name: values[name] / 1000 for name in values.keys() & _LIMITS.keys() if name.endswith("_ms")}
    return Turns(
        detection,
        seconds.get("silence_ms"),
        values.get("turn_threshold", TURNS.threshold),
        seconds.get("longest_pause_ms", TURNS.longest_pause_seconds),
        values.get("speech_threshold", TURNS.speech_threshold),
        seconds.get("padding_ms", TURNS.padding_seconds),
    )
