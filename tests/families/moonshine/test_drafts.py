"""Drafts change how long decoding takes and never what is decided: alone, in company, and whatever is in them."""

import dataclasses
import queue
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from asrloop.engine.engine import Engine
from asrloop.engine.family import NOTHING, Emission
from asrloop.engine.options import Draft, Options
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.families.attention.rows import EncodedAudio
from asrloop.families.moonshine.decoding import Moonshine
from asrloop.families.offline import decode
from asrloop.onnx_files.sessions import session_graph

Array = NDArray[np.float32]
ROWS = 16


@pytest.fixture(scope="module")
def directory(model_repository: Path) -> Path:
    """The prepared model."""
    return model_repository / "decoder_loop" / "1"


@pytest.fixture(scope="module")
def family(directory: Path) -> Moonshine:
    return Moonshine(directory, slots=ROWS, max_audio_seconds=12)


@pytest.fixture(scope="module")
def growing(family: Moonshine, assets: Path, beckett: Array) -> list[list[EncodedAudio]]:
    """Two recordings as live audio is heard: again and again from the start, each time 0.8 s more."""
    two_cities, rate = soundfile.read(assets / "two_cities.wav", dtype="float32", frames=12 * 48_000)
    two_cities = soxr.resample(two_cities, rate, 16_000)[: 12 * 16_000]
    return [
        [family.encode(samples[:end]) for end in range(16_000, samples.size + 1, 12_800)]
        for samples in (beckett, np.asarray(two_cities, np.float32))
    ]


def drafted_by(tokens: Sequence[int], forced: int = 0) -> Options:
    return Options(draft=Draft(tokens, forced))


def emissions(family: Moonshine, encoded: EncodedAudio, draft: Sequence[int] = ()) -> list[Emission]:
    """All that an utterance gets in a slot of its own, its admission's first."""
    found = [family.admit(0, encoded, drafted_by(draft))]
    while not found[-1].done:
        found += family.step([0])
    return found


def tokens(found: Sequence[Emission]) -> list[int]:
    return [token for one in found for token in one.tokens]


def log_probs(found: Sequence[Emission]) -> list[float]:
    return [value for one in found for value in one.log_probs]


def test_growing_audio_gets_the_same_bits_with_fewer_steps(
    family: Moonshine, growing: list[list[EncodedAudio]]
) -> None:
    stepped = checked = 0
    for recording in growing:
        draft: list[int] = []
        for encoded in recording:
            plain, drafted = emissions(family, encoded), emissions(family, encoded, draft)
            assert tokens(drafted) == tokens(plain)
            assert log_probs(drafted) == log_probs(plain)
            assert (drafted[-1].done, drafted[-1].cut) == (plain[-1].done, plain[-1].cut)
            stepped, checked = stepped + len(plain) - 1, checked + len(drafted) - 1
            draft = tokens(plain)
    assert checked < 0.7 * stepped


def test_company_does_not_change_a_row_with_a_draft(family: Moonshine, growing: list[list[EncodedAudio]]) -> None:
    encoded = [one for recording in growing for one in recording]
    plain = [decode(family, [one])[0].tokens for one in encoded]
    drafts = [[], *plain[:-1]]
    order = [int(place) for place in np.random.default_rng(0).permutation(len(encoded))]
    decoded = decode(
        family,
        [encoded[place] for place in order],
        drafts=[drafts[place] for place in order],
        slots=ROWS,
        arrivals_per_step=2,
    )
    assert [one.tokens for one in decoded] == [plain[place] for place in order]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda right: [], id="empty"),
        pytest.param(lambda right: [7] * 5, id="wrong"),
        pytest.param(lambda right: right[1:], id="without its first"),
        pytest.param(lambda right: [*right[:3], 99, *right[4:]], id="wrong in the middle"),
        pytest.param(lambda right: [*right[:3], 32_768, *right[3:]], id="beyond the vocabulary"),
        pytest.param(lambda right: [2**62], id="far beyond"),
        pytest.param(lambda right: [*right[:2], -1, *right[2:]], id="negative"),
        pytest.param(lambda right: [*right[:3], 2, *right[3:]], id="ended too early"),
        pytest.param(lambda right: [2, *right], id="ended at once"),
        pytest.param(lambda right: [1, *right], id="begun twice"),
        pytest.param(lambda right: [*right, 2, 2, 2], id="ended"),
        pytest.param(lambda right: right * 30, id="longer than the token limit"),
    ],
)
def test_a_bad_draft_changes_nothing(family: Moonshine, growing: list[list[EncodedAudio]], spoil: object) -> None:
    assert callable(spoil)
    encoded = growing[0][-1]
    plain = emissions(family, encoded)
    drafted = emissions(family, encoded, spoil(tokens(plain)))
    assert tokens(drafted) == tokens(plain)
    assert not drafted[-1].cut


def test_a_right_draft_is_all_there_is_to_decide(family: Moonshine, growing: list[list[EncodedAudio]]) -> None:
    encoded = growing[0][-1]
    plain = emissions(family, encoded)
    found = family.admit(0, encoded, drafted_by(tokens(plain)))
    assert found.done
    assert list(found.tokens) == tokens(plain)
    assert list(found.log_probs) == log_probs(plain)
    assert family.admit(0, encoded) == NOTHING


def test_the_token_limit_holds_for_drafts(family: Moonshine, growing: list[list[EncodedAudio]]) -> None:
    encoded = growing[0][-1]
    right = tokens(emissions(family, encoded))
    just_enough = family.admit(0, dataclasses.replace(encoded, token_limit=len(right)), drafted_by(right))
    assert (list(just_enough.tokens), just_enough.done, just_enough.cut) == (right, True, False)
    one_less = family.admit(0, dataclasses.replace(encoded, token_limit=len(right) - 1), drafted_by(right))
    assert (list(one_less.tokens), one_less.done, one_less.cut) == (right[:-1], True, True)


def test_the_longest_audio_takes_the_longest_draft(family: Moonshine, beckett: Array) -> None:
    longest = np.resize(beckett, 12 * 16_000)
    encoded = family.encode(longest)
    plain = tokens(emissions(family, encoded))
    for row in (0, ROWS - 1):
        found = [family.admit(row, encoded, drafted_by([*plain, *[500] * encoded.token_limit]))]
        while not found[-1].done:
            found += family.step([row])
        assert tokens(found) == plain


def test_a_decoder_elsewhere_ignores_drafts(directory: Path, family: Moonshine, beckett: Array) -> None:
    decoder = session_graph(ort.InferenceSession(directory / "decoder.onnx"))
    remote = Moonshine(directory, slots=1, max_audio_seconds=12, graphs={"decoder": decoder})
    encoded = family.encode(beckett[:48_000])
    plain = tokens(emissions(family, encoded))
    assert not remote.info.takes_drafts
    assert remote.admit(0, encoded, drafted_by(plain)) == NOTHING
    assert decode(remote, [encoded], drafts=[plain])[0].tokens == plain


def test_through_the_engine(family: Moonshine, beckett: Array) -> None:
    answered: queue.SimpleQueue[Request] = queue.SimpleQueue()
    engine = Engine(family, Scheduler(slots=ROWS, inbox=8, queue_timeout=20))
    try:
        engine.submit(Request([beckett[:48_000]], answered.put))
        earlier = answered.get(timeout=20).utterances[0].tokens
        requests = [Request([beckett[:60_800]], answered.put, options=drafted_by(draft)) for draft in (earlier, [])]
        for request in requests:
            engine.submit(request)
        for _ in requests:
            answered.get(timeout=20)
        (drafted,), (plain,) = (request.utterances for request in requests)
    finally:
        engine.close()
    assert (drafted.tokens, drafted.log_probs) == (plain.tokens, plain.log_probs)
    assert drafted.draft_accepted > 0


def test_given_tokens_stand_and_decoding_goes_on_behind_them(
    family: Moonshine, growing: list[list[EncodedAudio]]
) -> None:
    encoded = growing[0][-1]
    plain = tokens(emissions(family, encoded))
    given = [plain[0], 500, *plain[2:6]]  # another second token
    found = [family.admit(0, encoded, drafted_by([*given, 501], forced=len(given)))]
    while not found[-1].done:
        found += family.step([0])
    assert tokens(found)[: len(given)] == given
    assert tokens(found)[len(given) :]
    right = [family.admit(0, encoded, drafted_by(plain[:8], forced=8))]
    while not right[-1].done:
        right += family.step([0])
    assert tokens(right) == plain


@pytest.mark.parametrize("end", ["a control token", "the limit of the audio"])
def test_forced_tokens_end_where_the_draft_does(family: Moonshine, growing: list[list[EncodedAudio]], end: str) -> None:
    encoded = growing[0][-1]
    given = [500, 501, family.numbers.decoder_sizes.eos, 502] if end == "a control token" else [500, 501] * 1000
    found = [family.admit(0, encoded, drafted_by(given, forced=len(given)))]
    while not found[-1].done:
        found += family.step([0])
    family.finish(0, ())
    assert tokens(found)[:2] == [500, 501]
    assert len(tokens(found)) <= encoded.token_limit
