"""Where a recording is cut: a scripted detector decides where speech is, so every cut can be foretold."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrloop.audio import SAMPLE_RATE, Samples
from asrloop.speech.detector import FRAME, Heard
from asrloop.speech.windows import OVERLAP, PAD, Cutter, Window

TARGET, LONGEST = 10.0, 15.0
QUIET, LOUD = 1e-5, 0.3


def scripted(samples: Samples, heard: Heard) -> tuple[Samples, Heard]:
    """A frame is speech when the gain control brought it up to full level, which it does with what is loudest around."""
    return (np.abs(samples.reshape(-1, FRAME)).max(axis=1) > 0.4).astype(np.float32) * 0.9, heard


def recording(*stretches: tuple[str, float]) -> Samples:
    """Speech and pauses, each of so many seconds."""
    rng = np.random.default_rng(7)
    parts = [
        rng.choice([-1.0, 1.0], int(seconds * SAMPLE_RATE)) * (LOUD if kind == "speech" else QUIET)
        for kind, seconds in stretches
    ]
    return np.concatenate(parts).astype(np.float32)


def cut(samples: Samples, block: int = 16_000) -> list[Window]:
    cutter = Cutter(scripted, TARGET, LONGEST)
    windows = [
        window for start in range(0, samples.size, block) for window in cutter.push(samples[start : start + block])
    ]
    return windows + cutter.finish()


def times(windows: Sequence[Window]) -> list[tuple[float, float]]:
    return [(one.start / SAMPLE_RATE, (one.start + one.samples.size) / SAMPLE_RATE) for one in windows]


def covers(found: tuple[float, float], begin: float, end: float) -> bool:
    """The speech from begin to end, with some padding and not more."""
    pad = PAD * FRAME / SAMPLE_RATE + 0.1
    return begin - pad <= found[0] <= begin + 0.04 and end - 0.04 <= found[1] <= end + pad


def test_a_long_pause_ends_a_window_and_is_left_out() -> None:
    windows = cut(recording(("pause", 3), ("speech", 2), ("pause", 4), ("speech", 1.5), ("pause", 60)))
    first, second = times(windows)
    assert covers(first, 3, 5)
    assert covers(second, 9, 10.5)


def test_short_pauses_stay_inside() -> None:
    windows = cut(recording(("speech", 2), ("pause", 0.4), ("speech", 2), ("pause", 0.6), ("speech", 2)))
    (only,) = times(windows)
    assert covers(only, 0, 7)


def test_without_a_long_pause_the_longest_behind_the_target_is_taken() -> None:
    windows = cut(
        recording(
            ("speech", 6), ("pause", 0.7), ("speech", 4), ("pause", 0.3), ("speech", 1), ("pause", 0.5), ("speech", 1),
            ("pause", 0.3), ("speech", 6),
        )
    )  # fmt: skip
    first, second = times(windows)
    assert covers(first, 0, 12)
    assert covers(second, 12.5, 19.8)


def test_an_earlier_pause_is_better_than_a_cut_through_a_word() -> None:
    first, second = times(cut(recording(("speech", 6), ("pause", 0.3), ("speech", 14))))
    assert covers(first, 0, 6)
    assert covers(second, 6.3, 20.3)


def test_speech_without_a_pause_is_cut_with_an_overlap() -> None:
    samples = recording(("speech", 40))
    windows = cut(samples)
    assert [one.overlap for one in windows] == [0] + [OVERLAP * FRAME] * (len(windows) - 1)
    for before, after in pairwise(windows):
        assert after.start + after.overlap == before.start + before.samples.size
    assert windows[-1].start + windows[-1].samples.size >= samples.size


def test_what_fills_up_the_last_frame_is_known() -> None:
    samples = recording(("speech", 20))[: -FRAME - 100]
    *others, last = cut(samples)
    assert last.start + last.samples.size - last.filling == samples.size
    assert 0 < last.filling < FRAME
    assert not any(one.filling for one in others)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 700.0])
def test_silence_has_no_window(seconds: float) -> None:
    assert cut(np.zeros(int(seconds * SAMPLE_RATE), np.float32)) == []


def test_hum_that_the_detector_takes_for_speech_has_no_window() -> None:
    hum = 0.3 * np.sin(2 * np.pi * 50 * np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE)
    assert cut(hum.astype(np.float32)) == []


def test_a_quiet_speaker_after_a_loud_one_is_heard() -> None:
    loud = recording(("speech", 3), ("pause", 2))
    quiet = recording(("pause", 1), ("speech", 3), ("pause", 1)) * np.float32(0.01)  # 40 dB less
    first, second = times(cut(np.concatenate([loud, quiet])))
    assert covers(first, 0, 3)
    assert covers(second, 6, 9)


def test_memory_does_not_grow_with_the_recording() -> None:
    cutter = Cutter(scripted, TARGET, LONGEST)
    for kind in ("pause", "speech"):
        block = recording((kind, 1))
        for _ in range(300):
            cutter.push(block)
            assert cutter._audio.size <= (LONGEST + 3) * SAMPLE_RATE


stretches = st.lists(st.tuples(st.sampled_from(["speech", "pause"]), st.floats(0.05, 9)), min_size=1, max_size=12)


@given(stretches, st.integers(400, 40_000))
def test_windows_are_in_order_within_their_limit_and_true_to_the_audio(
    parts: list[tuple[str, float]], block: int
) -> None:
    samples = recording(*parts)
    windows = cut(samples, block)
    padded = np.pad(samples, (0, FRAME))
    for window in windows:
        assert 1 <= window.samples.size <= LONGEST * SAMPLE_RATE
        assert np.array_equal(window.samples, padded[window.start : window.start + window.samples.size])
    for before, after in pairwise(windows):
        assert after.start + after.overlap >= before.start + before.samples.size
        assert after.start > before.start
    loud = [(int(at), int(to)) for kind, at, to in _placed(parts) if kind == "speech" and to - at > 3 * FRAME]
    for begin, end in loud:
        heard = [window for window in windows if window.start < end and window.start + window.samples.size > begin]
        assert heard, "speech that no window has"


def _placed(parts: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    at, placed = 0, []
    for kind, seconds in parts:
        size = int(seconds * SAMPLE_RATE)
        placed.append((kind, at, at + size))
        at += size
    return placed


def test_the_size_of_the_blocks_changes_nothing() -> None:
    samples = recording(("speech", 7), ("pause", 0.5), ("speech", 9), ("pause", 2), ("speech", 30), ("pause", 1.1))
    assert len({tuple(times(cut(samples, block))) for block in (512, 1_000, 16_000, 123_457, samples.size)}) == 1
