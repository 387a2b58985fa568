"""Connections that clients keep alive by pings, and the size of bodies that a server takes."""

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tritonclient.grpc as triton_grpc
from numpy.typing import NDArray

from asrloop.tritonserver.install import TritonInstallation
from asrloop.tritonserver.process import TritonServer
from asrloop.tritonserver.transport import connection_options
from tests.conftest import BECKETT, words

PING_SECONDS = 5
PINGS = 5
"""Without the options the fourth ends the connection."""


def fake(folder: Path, text: str) -> TritonInstallation:
    """An installation whose server only prints a text."""
    folder.mkdir()
    binary = folder / "tritonserver"
    binary.write_text(f"#!/bin/sh\necho asked >> {folder}/asked\ncat <<'END'\n{text}\nEND\nexit 1\n")
    binary.chmod(0o755)
    return TritonInstallation(binary, folder, {}, "a test's")


def test_the_limit_of_a_body_is_lifted_where_the_server_has_one(tmp_path: Path) -> None:
    new = fake(tmp_path / "new", "Usage: tritonserver\n  --http-max-input-size <integer>\n\tMaximum allowed ...")
    old = fake(tmp_path / "old", "Usage: tritonserver\n  --http-port <integer>")
    for _ in range(2):
        assert "--http-max-input-size=2147483647" in connection_options(new)
        assert not [option for option in connection_options(old) if option.startswith("--http")]
    assert (tmp_path / "new" / "asked").read_text() == "asked\n"
    gone = TritonInstallation(tmp_path / "nowhere", tmp_path, {}, "a test's")
    assert not [option for option in connection_options(gone) if option.startswith("--http")]


def test_the_server_is_started_with_them(server: TritonServer, installation: TritonInstallation) -> None:
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
    assert set(connection_options(installation)) <= set(command)


def pinging(server: TritonServer, seconds: int) -> triton_grpc.InferenceServerClient:
    options = triton_grpc.KeepAliveOptions(
        keepalive_time_ms=seconds * 1000,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=0,
    )
    return triton_grpc.InferenceServerClient(server.grpc_endpoint, keepalive_options=options)


def transcript(client: triton_grpc.InferenceServerClient, content: bytes) -> str:
    audio = triton_grpc.InferInput("AUDIO", [1, 1], "BYTES")
    audio.set_data_from_numpy(np.array([[content]], np.object_))
    return str(client.infer("asr_file", [audio]).as_numpy("TRANSCRIPTS")[0, 0].decode())


@pytest.mark.slow
def test_a_connection_without_calls_may_ping_every_5_seconds(server: TritonServer, beckett_path: Path) -> None:
    with pinging(server, PING_SECONDS) as client:
        channel = client._channel  # type: ignore[attr-defined]  # the only way to hear of the connection's end
        states: list[str] = []
        assert client.is_server_live()
        channel.subscribe(lambda state: states.append(state.name))
        time.sleep(PINGS * PING_SECONDS)
        assert set(states) == {"READY"}, states
        assert words(transcript(client, beckett_path.read_bytes())) == BECKETT


@pytest.mark.slow
def test_a_client_that_pings_gets_its_hour_of_audio(
    server: TritonServer, beckett: NDArray[np.float32], tmp_path: Path
) -> None:
    hour = np.concatenate([beckett, np.zeros(8_000, np.float32)] * (3600 * 2 // 21))
    soundfile.write(tmp_path / "hour.flac", hour, 16_000)
    with pinging(server, PING_SECONDS) as client:
        began = time.monotonic()
        text = transcript(client, (tmp_path / "hour.flac").read_bytes())
        assert time.monotonic() - began > (PINGS - 1) * PING_SECONDS, "as long as it used to take to be refused"
    assert words(text).count("no matter try again") == 342
