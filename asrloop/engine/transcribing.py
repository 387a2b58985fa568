"""Makes the transcript of a row: of its one recording, or of its channels, each of which is a speaker."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from asrloop.engine.attribution import Attribution
from asrloop.engine.family import Family
from asrloop.engine.outputs import Segment, Transcript, Words
from asrloop.engine.parts import Part
from asrloop.engine.recording import Recording
from asrloop.spacing import joined

PAUSE = 0.5
"""Seconds without a word behind which a channel's next words are a segment of their own: others may have spoken in between."""


def transcript(recordings: Sequence[Recording], family: Family[Any], words: Words = Words.ALL) -> Transcript:
    """Return the transcript of a row's ``recordings``, all of which are finished: one, or one a channel.

    Its tokens have texts and probabilities only where they have times.
    """
    turns = recordings[0].turns
    parts = _of_channels(recordings, family) if len(recordings) > 1 else recordings[0].parts(family)
    segments = _segments(parts, family)
    text = joined(segment.text for segment in segments)  # it does not depend on who speaks
    if turns is not None:
        attribution = Attribution(turns)
        parts = [piece for part in parts for piece in _by_speaker(part, attribution, family)]
        segments = _segments(parts, family)
    log_probs = [value for part in parts for value in part.log_probs]
    tokens = [token for part in parts for token in part.tokens]
    times = [span.start for part in parts for span in part.spans]
    return Transcript(
        text,
        tokens,
        times,
        [family.piece(token) for token in tokens] if times else [],
        family.confidence(log_probs),
        all(one.is_whole and all(each.ending.is_complete for each in one.utterances) for one in recordings),
        segments,
        [word for part in parts for word in part.words(family)]
        if words > (Words.NONE if times else Words.TIMED)
        else [],
        next((one.options.language for one in recordings if one.options.language), _only(family.info.languages)),
        max(one.audio_seconds for one in recordings),
        log_probs if times else [],
    )


def _of_channels(recordings: Sequence[Recording], family: Family[Any]) -> list[Part]:
    """Return the parts of all channels by time."""
    parts = [
        piece._replace(speaker=channel)
        for channel, recording in enumerate(recordings)
        for part in recording.parts(family)
        for piece in _at_pauses(part, family)
    ]
    return sorted(parts, key=lambda part: part.start)


def _segments(parts: Sequence[Part], family: Family[Any]) -> list[Segment]:
    return [Segment(text, part.start, part.end, part.speaker) for part in parts if (text := family.text(part.tokens))]


def _by_speaker(part: Part, attribution: Attribution, family: Family[Any]) -> Iterator[Part]:
    """Yield the pieces of a part, each of one speaker. Its tokens have times: who asks for speakers asks for those."""
    words = family.words(part.tokens)
    if not words:  # nobody gets a number for it
        yield part
        return
    speakers = [attribution.speaker(part.spans[one.first].start, part.spans[one.end - 1].end) for one in words]
    cuts = [
        number
        for number in range(1, len(words))
        # A token that has parts of two words cannot be cut.
        if speakers[number] != speakers[number - 1] and words[number].first >= words[number - 1].end
    ]
    for first, piece in zip([0, *cuts], _pieces(part, [words[cut].first for cut in cuts]), strict=True):
        yield piece._replace(speaker=speakers[first])


def _at_pauses(part: Part, family: Family[Any]) -> Iterator[Part]:
    words, spans = family.words(part.tokens), part.spans
    if not spans:
        yield part
        return
    ends = [one.end for one in words]
    yield from _pieces(
        part,
        [
            word.first
            for end, word in zip(ends, words[1:], strict=False)
            if word.first >= end and spans[word.first].start - spans[end - 1].end >= PAUSE
        ],
    )


def _pieces(part: Part, cuts: Sequence[int]) -> Iterator[Part]:
    """Yield a part in pieces that begin at its tokens ``cuts``; its spoken time ends and begins with their words."""
    edges = [0, *cuts, len(part.tokens)]
    for first, stop in pairwise(edges):
        piece = part.between(first, stop)
        if first:
            piece = piece._replace(start=part.spans[first].start)
        if stop < len(part.tokens):
            piece = piece._replace(end=part.spans[stop - 1].end)
        yield piece


def _only(languages: Sequence[str]) -> str:
    return languages[0] if len(languages) == 1 else ""
