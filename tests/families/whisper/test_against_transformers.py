"""Small random models give the tokens of transformers' own generation: greedy, with language and task forced."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.engine.options import TRANSLATE, Options
from asrloop.families import registry
from asrloop.families.whisper.decoding import Whisper
from tests.families.whisper.folders import MULTILINGUAL, TURBO, HuggingFaceFolder, Shape, random_tensors

pytestmark = pytest.mark.torch
Array = NDArray[np.float32]


@pytest.mark.parametrize("shape", [MULTILINGUAL, TURBO], ids=["multilingual", "turbo"])
@pytest.mark.parametrize("task", ["transcribe", TRANSLATE])
def test_greedy_generation_is_the_same(shape: Shape, task: str, beckett: Array, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    eot, after = shape.token("<|endoftext|>"), range(shape.token("<|endoftext|>") + 1, shape.size)
    generation = {
        "suppress_tokens": [1, 2, 7, *after],  # ours never takes tokens that steer
        "decoder_start_token_id": shape.token("<|startoftranscript|>"),
        "eos_token_id": eot,
        "pad_token_id": eot,
        "bos_token_id": eot,
        "lang_to_id": {f"<|{code}|>": shape.token(f"<|{code}|>") for code in shape.languages},
        "task_to_id": {name: shape.token(f"<|{name}|>") for name in ("transcribe", "translate")},
        "no_timestamps_token_id": shape.token("<|notimestamps|>"),
        "is_multilingual": True,
    }
    config = {
        key: generation[key] for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id", "bos_token_id")
    }
    tensors = random_tensors(shape)
    source = HuggingFaceFolder(shape, tensors, config=config, generation=generation).write(tmp_path / "source")
    registry.build("whisper", source, tmp_path / "prepared", "fp32", lambda line: None)
    family = Whisper(tmp_path / "prepared", slots=2, max_audio_seconds=30)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(source).eval()
    features = transformers.WhisperFeatureExtractor(feature_size=shape.mels)
    for start in (0, 40_000):
        samples = beckett[start : start + 64_000]
        options = Options(language="de", task=task)
        found = [family.admit(0, family.encode(samples, options, again=True), options)]
        while not found[-1].done:
            found += family.step([0])
        ours = [token for one in found for token in one.tokens]
        assert len(set(ours)) >= 3
        heard = features(samples, sampling_rate=16_000, return_tensors="pt").input_features
        with torch.no_grad():
            theirs = model.generate(
                heard, language="de", task=task, do_sample=False, num_beams=1, max_new_tokens=len(ours) + 4
            )[0].tolist()
        theirs = (
            theirs[theirs.index(shape.token("<|notimestamps|>")) + 1 :]
            if shape.token("<|notimestamps|>") in theirs
            else theirs
        )
        assert theirs[: len(ours)] == ours
