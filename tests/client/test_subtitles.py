"""Subtitles from the times of words: width of lines, where they break, how long cues last, and that nothing is left out."""

import re
from collections.abc import Sequence

import pytest
from asrloop_client import InvalidConfig, Segment, Transcript, Word
from hypothesis import given
from hypothesis import strategies as st

BECKETT = "Ever tried. Ever failed. No matter. Try again, fail again, and in the end you may fail better."


def said(text: str, each: float = 0.3, start: float = 0.0) -> list[Word]:
    """The words of `text`, one every `each` seconds."""
    return [Word(word, start + at * each, start + (at + 1) * each) for at, word in enumerate(text.split())]


def transcript(words: Sequence[Word], *segments: Segment) -> Transcript:
    text = " ".join(word.text for word in words)
    whole = Segment(text, 0.0, words[-1].end if words else 0.0)
    return Transcript(
        text=text, segments=segments or (whole,), words=tuple(words), duration=None, confidence=None, complete=True,
        tokens=(), token_times=(), endpoint="host:1",
    )  # fmt: skip


def cues(srt: str) -> list[tuple[float, float, list[str]]]:
    """Start, end and lines of each cue."""
    found = []
    for number, block in enumerate(srt.split("\n\n")[:-1], 1):
        head, times, *lines = block.split("\n")
        assert head == str(number)
        ends = re.fullmatch(r"(\d\d):(\d\d):(\d\d,\d{3}) --> (\d\d):(\d\d):(\d\d,\d{3})", times)
        assert ends is not None
        first, last = ends.groups()[:3], ends.groups()[3:]
        start, end = (int(h) * 3600 + int(m) * 60 + float(s.replace(",", ".")) for h, m, s in (first, last))
        found.append((start, end, lines))
    return found


def test_cues_break_behind_marks_and_have_the_times_of_their_words() -> None:
    first, second = cues(transcript(said(BECKETT)).to_srt())
    assert first == (0.0, 1.8, ["Ever tried. Ever failed. No matter."])
    assert second == (1.8, 5.4, ["Try again, fail again,", "and in the end you may fail better."])


def test_a_sentence_that_fits_is_not_torn() -> None:
    text = "It was a very long day in the deep woods. They came back to the house before the night fell on them."
    assert [lines[-1][-1] for _, _, lines in cues(transcript(said(text)).to_srt())] == [".", "."]


def test_a_short_cue_has_one_line_and_a_long_one_two_alike() -> None:
    ((_, _, lines),) = cues(transcript(said("Fail again, fail better.")).to_srt())
    assert lines == ["Fail again, fail better."]
    ((_, _, lines),) = cues(transcript(said("so these are two lines of about the same length here")).to_srt())
    assert [len(line) for line in lines] == pytest.approx([26, 26], abs=5)


def test_no_cue_is_shown_over_a_long_pause_or_for_long() -> None:
    words = [*said("Fail again."), *said("Fail better.", start=9.0)]
    assert cues(transcript(words).to_srt()) == [(0.0, 0.6, ["Fail again."]), (9.0, 9.6, ["Fail better."])]
    slow = cues(transcript(said("a b c d e f g h i j", each=0.9)).to_srt())
    assert [(start, end) for start, end, _ in slow] == [(0.0, 4.5), (4.5, 9.0)]


def test_a_word_wider_than_a_line_stands_alone() -> None:
    wide = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"
    found = cues(transcript(said(f"We went to {wide} by train.")).to_srt())
    assert [lines for _, _, lines in found] == [["We went to"], [wide], ["by train."]]


def test_marks_are_escaped_and_do_not_count_so() -> None:
    text = "a<b & c>d " * 4
    vtt = transcript(said(text, each=0.1)).to_vtt(40)
    assert vtt == f"WEBVTT\n\n00:00:00.000 --> 00:00:01.200\n{'a&lt;b &amp; c&gt;d ' * 4}".strip() + "\n\n"
    strange = [Word("one\n\n2", 0.0, 1.0), Word("-->", 1.0, 2.0)]
    assert transcript(strange).to_vtt() == "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\none 2 --&gt;\n\n"


def test_a_segment_without_its_words_is_a_cue_and_the_others_have_theirs() -> None:
    words = [*said("one two"), *said("only this", start=2.0), *said("five six", start=4.0)]
    segments = (
        Segment("one two", 0, 1),
        Segment("much more than only this was said", 1.5, 3),
        Segment("five six", 3.5, 5),
    )
    found = cues(transcript(words, *segments).to_srt())
    assert found == [
        (0.0, 0.6, ["one two"]),
        (1.5, 3.0, ["much more than only this was said"]),
        (4.0, 4.6, ["five six"]),
    ]
    assert cues(transcript([], Segment("so\n\nit goes", 1, 2)).to_srt()) == [(1.0, 2.0, ["so it goes"])]


@pytest.mark.parametrize("width", [0, -1, 4.5, "42"])
def test_a_width_that_is_none_is_refused(width: int) -> None:
    with pytest.raises(InvalidConfig, match="max_line_width is"):
        transcript(said("a")).to_srt(max_line_width=width)


WORDS = st.lists(
    st.tuples(st.from_regex(r"[a-zé]{1,14}[.,?]?", fullmatch=True), st.floats(0, 1.5), st.floats(0.05, 0.9)),
    max_size=60,
)


@given(WORDS, st.integers(1, 60))
def test_whatever_is_said_all_words_are_shown_in_order_and_lines_fit(
    given: list[tuple[str, float, float]], width: int
) -> None:
    words, now = [], 0.0
    for text, pause, length in given:
        words.append(Word(text, now + pause, now + pause + length))
        now = words[-1].end
    found = cues(transcript(words).to_srt(width)) if words else []
    assert [word for _, _, lines in found for line in lines for word in line.split()] == [word.text for word in words]
    at = 0
    for start, end, lines in found:
        count = len(" ".join(lines).split())
        shown, at = words[at : at + count], at + count
        assert (start, end) == pytest.approx((shown[0].start, shown[-1].end), abs=0.001)
        assert len(lines) <= 2
        assert count == 1 or max(map(len, lines)) <= width
        assert count == 1 or end - start <= 7.001


SPOKEN = ["\u4eca\u5929", "\u5929\u6c14", "\u5f88", "\u597d\uff0c", "\u6211\u4eec", "\u53bb", "\u516c\u56ed", "\u3002"]
"""Words of Chinese, which has no spaces between them."""


def chinese(times: int) -> Transcript:
    texts = SPOKEN * times
    words = [Word(text, 0.25 * at, 0.25 * (at + 1)) for at, text in enumerate(texts)]
    return transcript(words, Segment("".join(texts), 0.0, 0.25 * len(texts)))


def test_words_without_spaces_between_them_are_shown_without() -> None:
    assert cues(chinese(1).to_srt()) == [(0.0, 2.0, ["".join(SPOKEN)])]
    shown = [line for _, _, lines in cues(chinese(6).to_srt()) for line in lines]
    assert "".join(shown) == "".join(SPOKEN * 6)
    assert max(map(len, shown)) <= 21, "a Chinese character takes two columns"


def test_cues_break_behind_chinese_marks() -> None:
    assert {lines[-1][-1] for _, _, lines in cues(chinese(6).to_srt())} == {"\u3002"}


def test_spaces_of_the_text_stay_where_scripts_meet() -> None:
    words = [Word(text, float(at), at + 1.0) for at, text in enumerate(["\u6211", "\u7528", "Open", "AI", "\u5199"])]
    shown = transcript(words, Segment("\u6211\u7528 Open AI \u5199", 0.0, 5.0)).to_srt()
    assert cues(shown) == [(0.0, 5.0, ["\u6211\u7528 Open AI \u5199"])]
