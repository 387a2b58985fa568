"""The front-end graph computes NeMo's features, and an utterance's features do not depend on its neighbours."""

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from asrloop.families.features.mel import build_mel, mel_filters
from tests.families.conftest import Samples


@pytest.fixture(scope="module", params=[80, 128])
def bands(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def features(bands: int, utterances: list[Samples]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    session = ort.InferenceSession(build_mel(bands).SerializeToString(), providers=["CPUExecutionProvider"])
    lens = np.array([len(one) for one in utterances])
    waveforms = np.full((len(utterances), lens.max()), 0.7, np.float32)  # what is behind the end must not matter
    for row, one in zip(waveforms, utterances, strict=True):
        row[: len(one)] = one
    result, result_lens = session.run(None, {"waveforms": waveforms, "waveforms_lens": lens})
    return result, result_lens


def test_same_as_onnx_asr(bands: int, cuts: list[Samples]) -> None:
    preprocessors = pytest.importorskip("onnx_asr.preprocessors.numpy_preprocessor")
    theirs = preprocessors.NemoPreprocessorNumpy(f"nemo{bands}")
    for samples in cuts[:20]:
        expected, expected_lens = theirs(samples[None].copy(), np.array([len(samples)]))
        ours, lens = features(bands, [samples])
        assert lens.tolist() == expected_lens.tolist()
        np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_same_in_a_batch_as_alone(bands: int, cuts: list[Samples]) -> None:
    together, lens = features(bands, cuts[:5])
    for row, length, samples in zip(together, lens, cuts, strict=False):
        alone, _ = features(bands, [samples])
        # The last frames look beyond the end: zeros alone, and zeros in company.
        np.testing.assert_allclose(row[:, :length], alone[0][:, :length], atol=1e-4)
        assert not row[:, length:].any()


def test_a_tone_is_loudest_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    spectrum = np.abs(np.fft.rfft(tone[:512])) ** 2
    band = int((spectrum @ mel_filters(128)).argmax())
    peak = mel_filters(128)[:, band].argmax() * 16_000 / 512
    assert abs(peak - 1_000) < 50
