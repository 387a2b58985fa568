"""The figures of live audio say what their descriptions say, on invented events."""

import pytest
from asrloop_bench.figures.live.playing import Played, judged, sent_at
from asrloop_client import StreamEvent

SPEECH = [(0.3, 2.05), (3.0, 4.0)]


def played(*events: tuple[float, int, str, str, bool, float, float]) -> Played:
    return Played(events=[(came, StreamEvent(*event)) for came, *event in events], ended=5.2)


GOOD = (
    (1.0, 0, "", "a", False, 0.2, 0.9),
    (1.5, 0, "a", "b", False, 0.2, 1.4),
    (2.5, 0, "a b c", "", True, 0.2, 2.3),
    (4.5, 1, "d", "", True, 2.9, 4.2),
)


def test_what_is_spoken_is_sent_with_its_chunk() -> None:
    assert sent_at(0.0) == pytest.approx(0.1)
    assert sent_at(0.1) == pytest.approx(0.1)
    assert sent_at(0.11) == pytest.approx(0.2)


def test_latencies_count_from_when_the_speech_was_sent() -> None:
    found = judged(played(*GOOD), 5.0, SPEECH)
    assert found.first_texts == pytest.approx([1.0 - 1.2, 4.5 - 3.9])
    assert found.finals == pytest.approx([2.5 - 2.1, 4.5 - 4.0])
    assert found.text == "a b c d"
    assert found.taken_back == 0


def test_a_segment_that_goes_on_into_the_next_clip_is_no_final_of_its_own() -> None:
    found = judged(played((4.6, 0, "a b c d", "", True, 0.2, 4.3)), 5.0, SPEECH)
    assert found.finals == pytest.approx([4.6 - 4.0])


def test_the_lag_is_what_was_sent_and_not_yet_heard() -> None:
    assert judged(played(*GOOD), 5.0, SPEECH).lag == pytest.approx(0.3)
    slow = played(*GOOD, (4.9, 2, "", "e", False, 1.0, 1.5))
    assert judged(slow, 5.0, SPEECH).lag == pytest.approx(3.4)
    slow.ended = 12.0
    assert judged(slow, 5.0, SPEECH).lag == pytest.approx(7.0)


@pytest.mark.parametrize(
    "event",
    [
        (1.6, 0, "b", "", False, 0.2, 1.5),
        (1.6, 0, "", "a", False, 0.2, 1.5),
    ],
)
def test_stable_text_that_changes_is_counted(event: tuple[float, int, str, str, bool, float, float]) -> None:
    assert judged(played(GOOD[0], GOOD[1], event), 5.0, SPEECH).taken_back == 1


def test_what_follows_a_final_is_counted() -> None:
    assert judged(played(*GOOD, (4.6, 0, "a b c d", "", True, 0.2, 2.3)), 5.0, SPEECH).taken_back == 1
