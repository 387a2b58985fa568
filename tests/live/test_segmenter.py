"""The policy of a stream, with a scripted voice and a scripted decoder: no time passes but that of the audio."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.engine.turns import TURNS
from asrloop.live.decodings import Decoding, Hypothesis
from asrloop.live.endings import ENDS, UNSURE_ENDS
from asrloop.live.events import Event
from asrloop.live.segmenter import BELONGS_TO, FILL, FRAME, GOES_ON, SPECULATE, SURE, Segmenter
from asrloop.speech.detector import frames_in

SECONDS = FRAME / SAMPLE_RATE
PAD = frames_in(TURNS.padding_seconds)
TARGET, LONGEST = 4.0, 8.0


def voice(frames: Samples) -> Samples:
    """What is not silent is speech."""
    return (np.abs(frames).max(axis=1) > 0.1).astype(np.float32)


def audio(*stretches: float) -> Samples:
    """Speech and silence in turns, each of so many frames. Each frame of speech has a value of its own."""
    parts, number = [], 0
    for at, frames in enumerate(stretches):
        for _ in range(int(frames)):
            is_speech = at % 2 == 0
            number += is_speech
            parts.append(np.full(FRAME, 0.2 + number * 1e-5 if is_speech else 0.0))
    return np.concatenate(parts).astype(np.float32)


def spaced(words: Iterable[str]) -> list[str]:
    """Each with the space before it, as families spell them."""
    return [f" {word}" if number else word for number, word in enumerate(words)]


def counting(decoding: Decoding) -> Hypothesis:
    """A word for every 10 frames of speech behind what was said before, named by where it lies in the stream."""
    own = decoding.samples[decoding.prefix_samples :]
    own = own[: own.size // FRAME * FRAME].reshape(-1, FRAME)
    spoken = [round((float(frame[0]) - 0.2) * 1e5) for frame in own if frame[0] > 0.1]
    words = [number // 10 for number in spoken if number % 10 == 0]
    return Hypothesis(spaced(f"w{word}" for word in words), words, probabilities=[1.0] * len(words))


def unsure(decoding: Decoding) -> Hypothesis:
    """The same, but every other word is likely to be wrong, and so is every text that ends with one."""
    found = counting(decoding)
    return found._replace(
        confidence=SURE - 0.1 * (found.tokens[-1] % 2) if found.tokens else 0.0,
        probabilities=[0.9 - 0.5 * (word % 2) for word in found.tokens],
    )


def run(
    samples: Samples, chunk: int, decode: Callable[[Decoding], Hypothesis] = counting
) -> tuple[list[Event], list[Decoding], Segmenter]:
    """All events and decodings of a stream that gets ``chunk`` samples at a time."""
    stream = Segmenter(voice, TARGET, LONGEST)
    events: list[Event] = []
    decodings: list[Decoding] = []

    def go_on() -> None:
        while True:
            events.extend(stream.events())
            decoding = stream.decoding()
            if decoding is None:
                return
            decodings.append(decoding)
            stream.decoded(decoding, decode(decoding))

    for start in range(0, samples.size, chunk):
        stream.hear(samples[start : start + chunk])
        go_on()
    stream.end()
    go_on()
    assert stream.is_finished
    return events, decodings, stream


def finals(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(event.segment, event.stable) for event in events if event.final]


def test_segments_end_in_pauses_and_are_numbered() -> None:
    events, _, _ = run(audio(50, ENDS + 4, 50, 60, 20), 1600)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5"), (1, "w6 w7 w8 w9 w10"), (2, "w11 w12")]
    assert [event.final for event in events][-1]
    for event in events:
        assert event.tail == "" if event.final else event.stable + event.tail


def test_a_shorter_pause_does_not_end_it() -> None:
    events, decodings, _ = run(audio(50, ENDS - 1, 50, 60), 512)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10")]
    assert [one.over_at is not None for one in decodings].count(True) == 2, "decoded as if over, and dropped"


def test_an_unsure_segment_ends_later_and_goes_on_with_what_is_said_meanwhile() -> None:
    def unsure_at_first(decoding: Decoding) -> Hypothesis:
        return counting(decoding)._replace(confidence=SURE - 0.1 if decoding.end < 70 else 1.0)

    events, _, _ = run(audio(50, UNSURE_ENDS - 1, 50, 60), 512, unsure_at_first)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10")]
    events, _, _ = run(audio(50, UNSURE_ENDS, 50, 60), 512, unsure_at_first)
    assert [text for _, text in finals(events)] == ["w1 w2 w3 w4 w5", "w6 w7 w8 w9 w10"]
    first = next(event for event in events if event.final)
    assert round(first.heard / SECONDS) == 50 + UNSURE_ENDS


@pytest.mark.parametrize("gap", range(SPECULATE, ENDS + 1))
def test_a_breath_in_a_pause_keeps_no_final_waiting(gap: int) -> None:
    events, _, _ = run(audio(50, gap, GOES_ON - 1, 60), 512)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5")]
    assert events[-1].heard / SECONDS <= 50 + ENDS + GOES_ON


@pytest.mark.parametrize("gap", range(1, ENDS))
def test_a_short_word_behind_a_short_pause_belongs_to_the_segment(gap: int) -> None:
    events, _, _ = run(audio(57, gap, GOES_ON, 60), 512)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5 w6")]


def test_the_last_decoding_is_begun_before_the_pause_is_long_enough() -> None:
    stream = Segmenter(voice, TARGET, LONGEST)
    stream.hear(audio(40, SPECULATE))
    decoding = stream.decoding()
    assert decoding is not None
    assert decoding.over_at is not None
    assert decoding.samples.size == (40 + SPECULATE) * FRAME + FILL.size
    stream.decoded(decoding, counting(decoding))
    assert not any(event.final for event in stream.events())
    stream.hear(np.zeros((ENDS - SPECULATE - 1) * FRAME, np.float32))
    assert not any(event.final for event in stream.events())
    stream.hear(np.zeros(FRAME, np.float32))
    assert [event.final for event in stream.events()] == [True]


def test_partials_come_an_interval_apart_and_show_their_draft() -> None:
    events, decodings, _ = run(audio(100, 40), 512)
    partials = [one for one in decodings if one.over_at is None]
    assert len(partials) == pytest.approx(100 * SECONDS / 0.4, abs=1)
    assert partials[0].draft == ()
    assert partials[3].draft == counting(partials[2]).tokens
    assert partials[-1].forced > 0
    stable = [event.stable for event in events]
    assert all(later.startswith(earlier) for earlier, later in pairwise(stable))


def test_what_was_said_shortly_before_is_decoded_with_it() -> None:
    _, decodings, _ = run(audio(50, ENDS + 4, 50, BELONGS_TO + 20, 50, 40), 100 * FRAME)
    last = [one for one in decodings if one.over_at is not None]
    assert [list(one.prefix) for one in last] == [[], [1, 2, 3, 4, 5], []]
    assert last[1].prefix_samples == (50 + SPECULATE) * FRAME


def test_marks_of_what_was_said_before_are_not_told_again() -> None:
    def with_mark(decoding: Decoding) -> Hypothesis:
        found = counting(decoding)
        words = [",", *spaced(["", *[word.strip() for word in found.words]])[1:]] if decoding.prefix else found.words
        ones = [1.0] * len(words)
        return found._replace(words=words, probabilities=ones, times=[(0.0, 0.1)] * len(words), confidences=ones)

    events, _, _ = run(audio(50, ENDS + 4, 50, 40), 100 * FRAME, with_mark)
    assert finals(events) == [(0, "w1 w2 w3 w4 w5"), (1, "w6 w7 w8 w9 w10")]
    assert [[word.text for word in event.words] for event in events if event.final] == [
        said.split() for _, said in finals(events)
    ]


def test_without_a_pause_a_segment_is_cut_at_its_longest() -> None:
    events, decodings, _ = run(audio(700, 30), 1600)
    assert " ".join(text for _, text in finals(events)).split() == [f"w{word}" for word in range(1, 71)]
    assert max(one.samples.size for one in decodings) <= LONGEST * SAMPLE_RATE


def test_behind_the_target_a_short_pause_ends_it() -> None:
    long_enough = round(TARGET / SECONDS) + 60
    events, _, _ = run(audio(long_enough, 5, 100, 30), 512)
    assert len(finals(events)) == 2
    assert finals(events)[0][1].split()[-1] == f"w{long_enough // 10}"


def test_silence_tells_nothing_and_keeps_nothing() -> None:
    stream = Segmenter(voice, TARGET, LONGEST)
    for _ in range(1000):
        stream.hear(np.zeros(1600, np.float32))
        assert stream.decoding() is None
        assert stream.events() == []
        assert stream._audio.shape[0] <= PAD + 4


def test_each_word_of_a_final_has_times_also_where_the_last_decoding_has_fewer() -> None:
    """Families without drafts may hear otherwise at last; what is stable stays."""

    def forgetting(decoding: Decoding) -> Hypothesis:
        found = counting(decoding)
        kept = len(found.words) if decoding.over_at is None else 1
        times = [(0.1 * number, 0.1 * number + 0.05) for number in range(kept)]
        return found._replace(words=found.words[:kept], times=times, confidences=[0.5] * kept)

    events, _, _ = run(audio(100, 60), 512, forgetting)
    (final,) = (event for event in events if event.final)
    assert len(final.stable.split()) > 1
    assert [word.text for word in final.words] == final.stable.split()
    edges = [edge for word in final.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= final.heard
    assert not any(word.confidence for word in final.words[1:])


def test_noise_that_has_no_words_is_no_segment() -> None:
    events, _, _ = run(
        audio(20, 30, 40, 30), 512, lambda decoding: Hypothesis() if decoding.end < 60 else counting(decoding)
    )
    assert finals(events) == [(0, "w3 w4 w5 w6")]


def test_a_decoding_that_failed_is_asked_for_again() -> None:
    stream = Segmenter(voice, TARGET, LONGEST)
    stream.hear(audio(40, ENDS))
    first = stream.decoding()
    assert first is not None
    assert stream.decoding() is None, "one at a time"
    stream.failed(first)
    again = stream.decoding()
    assert again is not None
    assert again.over_at == first.over_at


def test_only_the_latest_partial_waits_for_a_slow_reader() -> None:
    stream = Segmenter(voice, TARGET, LONGEST)
    samples = audio(100)
    for start in range(0, samples.size, FRAME):
        stream.hear(samples[start : start + FRAME])
        if (decoding := stream.decoding()) is not None:
            stream.decoded(decoding, counting(decoding))
    (only,) = stream.events()
    assert not only.final


chunks = st.sampled_from([160, 512, 1600, 7_777, 48_000])
decoders = st.sampled_from([counting, unsure])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=9), chunks, decoders)
def test_the_size_of_chunks_changes_no_final(
    parts: list[int], chunk: int, decode: Callable[[Decoding], Hypothesis]
) -> None:
    samples = audio(*parts)
    whole, _, _ = run(samples, samples.size, decode)
    events, _, stream = run(samples, chunk, decode)
    assert finals(events) == finals(whole)
    assert stream._audio.shape[0] <= LONGEST / SECONDS + 40


@given(st.lists(st.tuples(st.integers(GOES_ON, 90), st.integers(1, 90)), min_size=1, max_size=5), chunks, decoders)
def test_every_word_is_told_once(
    parts: list[tuple[int, int]], chunk: int, decode: Callable[[Decoding], Hypothesis]
) -> None:
    events, _, _ = run(audio(*(each for pair in parts for each in pair)), chunk, decode)
    spoken = sum(speech for speech, _ in parts)
    assert " ".join(text for _, text in finals(events)).split() == [f"w{word}" for word in range(1, spoken // 10 + 1)]
