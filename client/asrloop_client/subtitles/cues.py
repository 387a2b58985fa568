"""Cues of subtitles: which words are shown together, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from asrloop_client.errors import require
from asrloop_client.speakers import name_of
from asrloop_client.subtitles.lines import break_cost, broken, filled
from asrloop_client.transcript import Segment, Transcript, Word

_LONGEST = 7.0
"""Seconds that a cue may last, as in most broadcasters' rules."""
_PAUSE = 1.0
"""No cue is shown over so many seconds of silence."""
_CUE_COST, _EMPTY_COST = 0.75, 0.2
"""One more cue is worth a break behind a mark, which costs up to 1 less; the room that is left makes cues of equal lengths."""


class Cue(NamedTuple):
    """What is shown from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str
    """One line or two, none of them empty: an empty line would end the cue."""
    speaker: int | None = None


def cues(transcript: Transcript, max_line_width: int) -> list[Cue]:
    """Return the cues in order: those of the words, and one for each segment whose words are not there. Raises InvalidConfig.

    Cues of channels that speak at once overlap; their starts are in order, as WebVTT wants it (W3C, 4.1).
    """
    whole = isinstance(max_line_width, int) and max_line_width >= 1
    require(whole, f"max_line_width is {max_line_width!r:.80}: give a number of characters, such as 42")
    found = (
        cue
        for segment, words in _segments(transcript)
        for cue in (_cut(segment, words, max_line_width) if words else [_whole(segment)])
    )
    return sorted(found, key=lambda cue: cue.start)


def label(speaker: int | None) -> str:
    """Return what stands before the text of a cue where it is plain text."""
    return f"{name_of(speaker)}: " if speaker is not None else ""


def _segments(transcript: Transcript) -> Iterator[tuple[Segment, Sequence[Word]]]:
    """Yield each segment with its words; without, where they do not make up its text: nothing that was said is left out."""
    words, at = transcript.words, 0
    for segment in transcript.segments:
        text, end, said = _letters([segment.text]), at, ""
        while end < len(words) and len(said) < len(text):
            said += _letters([words[end].text])
            end += 1
        if said != text:
            end = next((n for n in range(at, len(words)) if words[n].start >= segment.end), len(words))
        yield segment, words[at:end] if said == text else ()
        at = end


def _letters(texts: Iterable[str]) -> str:
    return "".join("".join(texts).split())


def _whole(segment: Segment) -> Cue:
    return Cue(segment.start, segment.end, " ".join(segment.text.split()), segment.speaker)


def _spelled(segment: Segment, words: Sequence[Word]) -> list[str]:
    """Return the text of each word of a segment, with a space before it where the segment has one: not every script does."""
    text, at, found = " ".join(segment.text.split()), 0, []
    for word in words:
        begin, left = at, len(_letters([word.text]))
        while left:
            left -= text[at] != " "
            at += 1
        found.append(text[begin:at])
    return found


def _cut(segment: Segment, words: Sequence[Word], width: int) -> Iterator[Cue]:
    """Yield the cues of a segment that cost least together, found from the last word to the first."""
    texts, named = _spelled(segment, words), label(segment.speaker)
    costs, ends = [0.0] * (len(words) + 1), [0] * len(words)
    for begin in reversed(range(len(words))):
        costs[begin], ends[begin] = min(
            (_CUE_COST + _EMPTY_COST * empty**2 + _cost_of_end(words, end) + costs[end], end)
            for end, empty in takewhile(partial(_may_be_shown, words, begin), filled(texts, begin, width, named))
        )
    begin = 0
    while begin < len(words):
        end = ends[begin]
        lines = "\n".join(broken([named + texts[begin].lstrip(), *texts[begin + 1 : end]], width))
        yield Cue(words[begin].start, words[end - 1].end, lines.removeprefix(named), segment.speaker)
        begin = end


def _cost_of_end(words: Sequence[Word], end: int) -> float:
    return 0.0 if end == len(words) or _is_pause(words, end) else break_cost(words[end - 1].text)


def _may_be_shown(words: Sequence[Word], begin: int, to: tuple[int, float]) -> bool:
    """True when the last of the words may be in the cue of those before, which may be in one."""
    last = to[0] - 1
    return last == begin or (words[last].end - words[begin].start <= _LONGEST and not _is_pause(words, last))


def _is_pause(words: Sequence[Word], at: int) -> bool:
    """True when there is a pause before word `at`."""
    return words[at].start - words[at - 1].end >= _PAUSE
