"""Audio through system shared memory: same result, named in the transcript, again after a restart, removed at the end."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asrloop_client import SharedMemoryFailed
from asrloop_client.shared_memory import Regions

from asrloop.tritonserver.checks import SHARED_MEMORY
from tests.client.stand_in import StandIn

Connect = Callable[..., Any]


def segments() -> set[Path]:
    return set(SHARED_MEMORY.glob(f"asrloop-{os.getpid()}-*"))


def test_the_text_is_the_same_and_the_transport_is_named(connect: Connect, stand_in: StandIn) -> None:
    before = segments()
    client = connect(stand_in.address, shared_memory=True)
    plain = connect(stand_in.address)
    for count in (1, 160, 480_000, 16):
        samples = np.random.default_rng(count).integers(-100, 100, count).astype(np.float32)
        shared = client.transcribe(samples)
        assert shared.text == plain.transcribe(samples).text
        assert shared.transport == "shared_memory"
    assert len(segments() - before) == 2, "regions are reused; one for short audio and one for long"
    client.close()
    assert segments() == before


def test_concurrent_calls_do_not_share_a_region(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, shared_memory=True)
    audios = [np.full(1000, value, np.float32) for value in range(40)]
    texts = [each.text for each in client.transcribe_many(audios, concurrency=8, parameters={"sleep_ms": 3})]
    assert texts == [f"1000 {1000 * value:g} 16000" for value in range(40)]


def test_a_restarted_server_is_told_again(connect: Connect, make_stand_in: Callable[..., StandIn]) -> None:
    server = make_stand_in()
    client = connect(server.address, shared_memory=True, probe_interval=0.1)
    samples = np.ones(160, np.float32)
    client.transcribe(samples)
    server.kill()
    server.start()
    again = client.transcribe(samples)
    assert (again.text, again.transport) == ("160 160 16000", "shared_memory")


def test_files_sent_as_bytes_say_that_they_went_by_grpc(connect: Connect, stand_in: StandIn) -> None:
    assert connect(stand_in.address, shared_memory=True).transcribe(b"RIFF").transport == "grpc"


def test_a_server_elsewhere_is_an_error_not_a_fallback(connect: Connect) -> None:
    with pytest.raises(SharedMemoryFailed, match=r"10\.0\.0\.1:8001: shared memory works with servers on this machine"):
        connect("10.0.0.1:8001", shared_memory=True)


def test_a_segment_that_cannot_be_made_is_an_error_not_a_fallback(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, shared_memory=True)
    endless = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**60,), (0,))
    with pytest.raises(SharedMemoryFailed, match="shared_memory=False"):
        Regions().take(endless.nbytes)
    assert client.transcribe(np.ones(160, np.float32)).transport == "shared_memory"
