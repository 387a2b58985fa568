"""Both clients against a real server: results, errors, deadlines, cancellation, and the sockets the kernel sees."""

import gc
import io
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asrloop_client import (
    ClientClosed,
    DeadlineExceeded,
    InvalidAudio,
    InvalidConfig,
    ModelNotReady,
    Overloaded,
    PoolConfig,
    PoolExhausted,
    ServerFailure,
    ServerGone,
    UnreadableFile,
)
from asrloop_client.settings import Settings

from tests.client.stand_in import StandIn, connections_to
from tests.conftest import eventually

Connect = Callable[..., Any]
ONES = np.ones(160, np.float32)
PROBE = 1
"""The probe has a channel of its own."""


def test_samples_rate_and_parameters_arrive(connect: Connect, stand_in: StandIn) -> None:
    transcript = connect(stand_in.address).transcribe(ONES, sample_rate=8000, parameters={"sleep_ms": 1})
    assert (transcript.text, transcript.tokens, transcript.token_times) == ("160 160 8000", (7, 8), ())
    assert (transcript.endpoint, transcript.attempts) == (stand_in.address, 1)
    timings = transcript.timings
    assert min(timings.acquire, timings.call) >= 0
    assert timings.acquire + timings.call <= timings.total


def test_a_file_goes_as_its_bytes(connect: Connect, stand_in: StandIn, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(441, np.float32), 44100)
    client = connect(stand_in.address)
    for audio in (str(path), path, io.BytesIO(path.read_bytes())):
        transcript = client.transcribe(audio)
        assert (transcript.text, transcript.duration) == (f"{path.stat().st_size} bytes", 0.01)
    # Bytes may be a stranger's, and no header of a stranger is parsed in a process that others share.
    transcript = client.transcribe(path.read_bytes())
    assert (transcript.text, transcript.duration) == (f"{path.stat().st_size} bytes", None)


def test_headers_that_are_too_large_are_no_busy_server(connect: Connect, stand_in: StandIn) -> None:
    with pytest.raises(InvalidConfig, match="The headers have 170.. bytes; gRPC takes 8192: send fewer"):
        connect(stand_in.address).transcribe(ONES, headers={"tracestate": "x" * 17_000}, timeout=20)


@pytest.mark.parametrize(
    ("outcome", "error"), [("invalid", InvalidAudio), ("overloaded", Overloaded), ("failed", ServerFailure)]
)
def test_the_servers_errors_arrive_typed(
    connect: Connect, stand_in: StandIn, outcome: str, error: type[Exception]
) -> None:
    client = connect(stand_in.address, fail_fast=True)
    with pytest.raises(error, match=stand_in.address):
        client.transcribe(ONES, parameters={"outcome": outcome})
    assert client.transcribe(ONES).text == "160 160 16000"


def test_bytes_that_are_no_audio_are_invalid(connect: Connect, stand_in: StandIn) -> None:
    with pytest.raises(InvalidAudio, match="no audio file"):
        connect(stand_in.address).transcribe(b"hello")


def test_a_model_that_is_not_there_is_named(connect: Connect, stand_in: StandIn) -> None:
    with pytest.raises(ModelNotReady, match=r"'nothing'.* Check `model`"):
        connect(stand_in.address, model="nothing", fail_fast=True).transcribe(ONES)


def test_the_deadline_holds_over_retries(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address)
    with pytest.raises((Overloaded, DeadlineExceeded)):
        client.transcribe(ONES, timeout=0.5, parameters={"outcome": "overloaded"})
    with pytest.raises(DeadlineExceeded, match=r"^no reply within 0.1 s\. Raise `timeout`\.$"):
        client.transcribe(ONES, timeout=0.1, parameters={"sleep_ms": 60_000})


def test_many_come_back_in_order_and_never_more_than_concurrency_run(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, pool=PoolConfig(min_channels=1, max_channels=3, acquire_timeout=0))
    audios = [np.ones(count, np.float32) for count in range(1, 30)]
    texts = [each.text for each in client.transcribe_many(audios, concurrency=3, parameters={"sleep_ms": 5})]
    assert texts == [f"{count} {count} 16000" for count in range(1, 30)]


def test_one_bad_of_many_is_raised_or_returned_in_its_place(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address)
    audios = [ONES, b"no audio", ONES, "missing.wav"]
    kinds = [type(each) for each in client.transcribe_many(audios, return_errors=True)]
    assert kinds == [type(client.transcribe(ONES)), InvalidAudio, kinds[0], UnreadableFile]
    with pytest.raises(InvalidAudio):
        list(client.transcribe_many(audios))


@pytest.fixture
def no_sockets(stand_in: StandIn) -> None:
    """Connections of earlier tests, kept by errors in reference cycles, are gone."""
    gc.collect()
    assert eventually(lambda: connections_to(stand_in.address) == 0)


@pytest.mark.usefixtures("no_sockets")
def test_the_kernel_sees_as_many_connections_as_the_pool_has_channels(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, pool=PoolConfig(min_channels=5, max_channels=8))
    assert connections_to(stand_in.address) == 5 + PROBE, "not connected before the first request"

    def all_eight_at_once() -> bool:
        running = [client.submit(ONES, parameters={"sleep_ms": 300}) for _ in range(8)]
        assert [each.result().text for each in running] == ["160 160 16000"] * 8
        assert connections_to(stand_in.address) == client.stats()[0].pool.open + PROBE
        return client.stats()[0].pool.open == 8

    assert eventually(all_eight_at_once)
    client.close()
    assert eventually(lambda: connections_to(stand_in.address) == 0)


@pytest.mark.usefixtures("no_sockets")
def test_idle_channels_lose_their_sockets_by_themselves(connect: Connect, stand_in: StandIn) -> None:
    settings = PoolConfig(min_channels=2, max_channels=6, idle_timeout=0.05)
    client = connect(stand_in.address, pool=settings, probe_interval=0.05)
    wait([client.submit(ONES, parameters={"sleep_ms": 200}) for _ in range(6)])
    assert eventually(lambda: client.stats()[0].pool.open == 2)
    assert client.stats()[0].pool.evicted > 0


@pytest.mark.usefixtures("no_sockets")
def test_64_callers_on_4_channels_never_have_more_than_4_sockets_and_the_rest_time_out(
    connect: Connect, stand_in: StandIn
) -> None:
    client = connect(stand_in.address, pool=PoolConfig(min_channels=4, max_channels=4), fail_fast=True)
    running = [client.submit(ONES, parameters={"sleep_ms": 1500}) for _ in range(64)]
    assert eventually(lambda: client.stats()[0].pool.waiting > 0)
    most = 0
    while not all(each.done() for each in running):
        most = max(most, connections_to(stand_in.address))
        time.sleep(0.02)
    errors = [each.exception() for each in running]
    assert most == 4 + PROBE
    assert {type(error) for error in errors} == {type(None), PoolExhausted}
    assert client.transcribe(ONES).text == "160 160 16000"


@pytest.mark.usefixtures("no_sockets")
def test_without_pooling_each_request_opens_and_closes_its_own_channel(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, pooling=False)
    assert connections_to(stand_in.address) == PROBE
    for _ in range(3):
        assert client.transcribe(ONES).text == "160 160 16000"
    stats = client.stats()[0].pool
    assert (stats.created, stats.reused, stats.open) == (3, 0, 0)
    assert eventually(lambda: connections_to(stand_in.address) == PROBE)


def test_health_names_servers_and_models(connect: Connect, stand_in: StandIn) -> None:
    (health,) = connect(stand_in.address).health()
    assert (health.address, health.ready, health.error) == (stand_in.address, True, None)
    assert health.models == {"asr_ensemble": True, "asr_file": True}
    (missing,) = connect(stand_in.address, model="nothing").health()
    assert missing.live
    assert not missing.ready


def test_a_missing_server_is_an_error_at_once(connect: Connect) -> None:
    with pytest.raises(ServerGone, match=r"127\.0\.0\.1:1: .* Check the address"):
        connect("127.0.0.1:1")


def test_without_prewarming_it_is_an_error_of_the_first_call(connect: Connect) -> None:
    client = connect("127.0.0.1:1", prewarm=False, fail_fast=True)
    with pytest.raises(ServerGone):
        client.transcribe(ONES)
    (health,) = client.health()
    assert not health.ready
    assert "Check the address" in health.error


def test_a_closed_client_says_so(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address)
    inner = client.client
    running = client.submit(ONES, parameters={"sleep_ms": 5000})
    assert eventually(lambda: client.stats()[0].pool.in_use == 1)
    client.close()
    with pytest.raises(ClientClosed):
        running.result()
    assert "closed" in repr(inner)


@pytest.mark.usefixtures("no_sockets")
def test_a_failed_call_does_not_keep_its_socket_open(connect: Connect, stand_in: StandIn) -> None:
    client = connect(stand_in.address, fail_fast=True)
    gc.disable()
    try:
        failed = {"parameters": {"outcome": "failed"}, "return_errors": True}
        kinds = [type(each) for each in client.transcribe_many([ONES] * 3, **failed)]
        client.close()
        assert eventually(lambda: connections_to(stand_in.address) == 0)
    finally:
        gc.enable()
    assert kinds == [ServerFailure] * 3


def test_a_wrong_setting_is_named(connect: Connect) -> None:
    with pytest.raises(TypeError, match="tiemout"):
        connect("127.0.0.1:1", tiemout=3)
    with pytest.raises(ValueError, match="timeout is -1 s: give more than 0"):
        connect("127.0.0.1:1", timeout=-1)


@pytest.mark.parametrize("given", ["a:1,b:2", "a:1 b:2", " a:1, b:2,", ["a:1", "b:2"], ["a:1,b:2"]])
def test_several_servers_are_given_as_a_list_or_in_a_line(
    given: str | list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asrloop serve --servers` prints such a line."""
    assert Settings(given).addresses == ["a:1", "b:2"]
    if isinstance(given, str):
        monkeypatch.setenv("ASR_CLIENT_SERVERS", given)
        assert Settings().addresses == ["a:1", "b:2"]
