"""Live text in a script without spaces becomes stable by characters, and a character of several tokens is never shown in part."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.text.words import words_between_spaces
from asrloop.live.decodings import Decoding, Hypothesis
from asrloop.live.events import Event
from asrloop.live.segmenter import Segmenter
from tests.live.test_segmenter import FRAME, audio, voice

BYTES = Vocabulary([bytes([value]) for value in range(256)])
TEXT = "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002\u3053\u308c\u306f\U00020bb7\u0e14\u0e35"


def heard(text: str, cut: int = 0) -> Hypothesis:
    """What a model of bytes says, without the last ``cut`` bytes."""
    tokens = [*text.encode()]
    tokens = tokens[: len(tokens) - cut]
    words = [word.text for word in words_between_spaces(BYTES.spelled(tokens))]
    return Hypothesis(words, tokens, probabilities=[1.0] * len(words))


def played(frames: int, cuts: list[int]) -> list[Event]:
    """Events of so many frames of speech, of which every second is a character; partials lack the last bytes."""
    stream, events, samples = Segmenter(voice, 10.0, 15.0, interval=0.1), [], audio(frames, 20)
    partials = iter([*cuts, *[0] * 1000])

    def go_on() -> None:
        while (decoding := stream.decoding()) is not None:
            stream.decoded(decoding, decoded(decoding))
        events.extend(stream.events())

    def decoded(decoding: Decoding) -> Hypothesis:
        spoken = int(
            (
                np.abs(decoding.samples[: decoding.samples.size // FRAME * FRAME].reshape(-1, FRAME)).max(axis=1) > 0.1
            ).sum()
        )
        return heard(TEXT[: spoken // 2], 0 if decoding.over_at is not None else next(partials))

    for start in range(0, samples.size, 2 * FRAME):
        stream.hear(samples[start : start + 2 * FRAME])
        go_on()
    stream.end()
    go_on()
    return events


def test_characters_become_stable_one_by_one() -> None:
    events = played(2 * len(TEXT), [])
    growing = [event.stable for event in events]
    assert growing[-1] == TEXT
    assert len(set(growing)) > len(TEXT) / 3, "not all at once"


@given(st.lists(st.integers(0, 3), max_size=40))
def test_stable_text_only_grows_and_has_whole_characters(cuts: list[int]) -> None:
    before = ""
    for event in played(2 * len(TEXT), cuts):
        assert event.stable.startswith(before)
        assert "\ufffd" not in event.stable
        before = event.stable
    assert before == TEXT
