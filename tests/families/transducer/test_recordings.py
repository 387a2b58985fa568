"""A long recording through the engine equals its windows, each decoded by onnx-asr, joined with their times."""

import threading

import numpy as np
import pytest

from asrloop import config, wheels
from asrloop.assembly import cutting_for
from asrloop.audio import LongAudio, long_audio
from asrloop.engine.engine import Engine
from asrloop.engine.request import Request
from asrloop.engine.scheduler import Scheduler
from asrloop.speech.detector import SpeechDetector
from tests.conftest import ROOT
from tests.families.conftest import Samples
from tests.families.transducer.conftest import TINY, Open
from tests.families.transducer.test_against_onnx_asr import reference

pytest.importorskip("onnx_asr")

MINUTES = 10


def recording(synthetic: list[tuple[str, Samples]]) -> Samples:
    """The utterances again and again, with pauses of 0.2 to 2 s between them."""
    rng = np.random.default_rng(3)
    parts: list[Samples] = []
    while sum(part.size for part in parts) < MINUTES * 60 * 16_000:
        for _, samples in synthetic:
            parts += [samples, np.zeros(int(rng.uniform(0.2, 2.0) * 16_000), np.float32)]
    return np.concatenate(parts)


@pytest.mark.slow
def test_ten_minutes_equal_their_windows(open_directory: Open, synthetic: list[tuple[str, Samples]]) -> None:
    family = open_directory(TINY)
    detector = SpeechDetector(wheels.speech_detector(ROOT / ".cache"))
    cutting = cutting_for(family.info, config.load(), detector)
    samples = recording(synthetic)

    cutter = cutting.cutter()
    windows = [window for block in long_audio(samples, 16_000).blocks for window in cutter.push(block)]
    windows += cutter.finish()
    theirs = reference(TINY, family)
    expected = [theirs.recognize(window.samples, sample_rate=16_000) for window in windows]

    engine = Engine(family, Scheduler(16, 64, 30.0, encoders=2), cutting=cutting)
    done = threading.Event()
    request = Request([LongAudio(long_audio(samples, 16_000).blocks)], on_done=lambda _: done.set())
    engine.submit(request)
    assert done.wait(120)
    engine.close()
    (heard,) = request.transcripts(family)

    assert request.error is None
    assert len(windows) > MINUTES
    assert not any(window.overlap for window in windows)
    assert [segment.text for segment in heard.segments] == [one.text for one in expected if one.text]
    assert heard.pieces == [piece for one in expected for piece in one.tokens]
    shifted = [
        window.start / 16_000 + time for window, one in zip(windows, expected, strict=True) for time in one.timestamps
    ]
    assert heard.times == pytest.approx(shifted, abs=1e-6)
