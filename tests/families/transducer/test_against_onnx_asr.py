"""onnx-asr on the same directory gives the same tokens, timestamps and text, whether an utterance is alone or among others."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from asrloop.families.offline import DecodedTokens
from asrloop.families.transducer.greedy import Transducer
from tests.families.conftest import Samples
from tests.families.transducer.conftest import SLOTS, TINY, Open
from tests.families.transducer.decoding import decode

onnx_asr = pytest.importorskip("onnx_asr")


def reference(directory: Path, family: Transducer) -> Any:
    model_type = "nemo-conformer-tdt" if family.rules.has_durations else "nemo-conformer-rnnt"
    one_thread = ort.SessionOptions()
    one_thread.intra_op_num_threads = 1
    model = onnx_asr.load_model(model_type, directory, sess_options=one_thread, providers=["CPUExecutionProvider"])
    return model.with_timestamps()


def assert_same(
    directory: Path, family: Transducer, utterances: list[Samples], runs: list[list[DecodedTokens]]
) -> None:
    theirs = reference(directory, family)
    for index, samples in enumerate(utterances):
        expected = theirs.recognize(samples, sample_rate=16_000)
        for run in runs:
            ours = run[index]
            pieces = [family.rules.vocabulary[token].replace("\u2581", " ") for token in ours.tokens]
            assert (pieces, ours.times) == (expected.tokens, expected.timestamps), f"utterance {index}"
            assert family.text(ours.tokens) == expected.text


def test_the_trained_model(open_directory: Open, synthetic: list[tuple[str, Samples]]) -> None:
    family = open_directory(TINY)
    utterances = [samples for _, samples in synthetic]
    runs = [decode(family, utterances, 1), decode(family, utterances, SLOTS)]
    assert_same(TINY, family, utterances, runs)


def test_the_trained_model_on_real_speech(open_directory: Open, cuts: list[Samples]) -> None:
    family = open_directory(TINY)
    assert_same(TINY, family, cuts, [decode(family, cuts, 1), decode(family, cuts, SLOTS)])


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["random_tdt", "random_rnnt"])
def test_random_weights_of_parakeets_sizes(
    fixture: str, open_directory: Open, cuts: list[Samples], request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(fixture)
    family = open_directory(directory)
    runs = [decode(family, cuts, 1), decode(family, cuts, SLOTS)]
    assert sum(len(one.tokens) for one in runs[0]) > 500  # else the comparison would say little
    assert len({token for one in runs[0] for token in one.tokens}) > 50
    assert_same(directory, family, cuts, runs)
