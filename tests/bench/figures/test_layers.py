"""The layers of a request are taken from the real server."""

import pytest
from asrloop_bench.checkout import IDLE_MODELS
from asrloop_bench.figures import layers
from asrloop_bench.method import clips, target

from asrloop import config


@pytest.mark.slow
def test_layers_are_taken_from_the_real_server() -> None:
    settings = config.load()
    clip = clips.cut(clips.speech_files(), 1.0, 1)[0].samples
    with target.started(settings, more_repositories=[IDLE_MODELS]) as server:
        found = layers.measured(clip, server.grpc, settings, 0.0)
    assert set(found) == set(layers.LAYERS)
    assert min(found["encoder"] + found["nothing"]) > 0
    assert layers.table(found).count("\n| ") == len(layers.LAYERS) + 2
