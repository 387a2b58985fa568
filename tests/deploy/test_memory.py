"""Memory limits hold what the settings beside them allow at its worst."""

import re
from typing import Any

import pytest
import yaml
from asrloop_client.audio import HIGHEST_RATE
from asrloop_gateway.settings import Settings as GatewaySettings
from asrloop_gateway.websocket_protocol import _ALL_HELD_BYTES

from asrloop.config import ENVIRONMENT_PREFIX, NOT_OURS, Settings
from tests.deploy.manifests import FOLDER, OVERLAYS, build, can_build, one, read

GIB = 1 << 30
PROCESSES = GIB
"""The four processes without audio: 383 MiB after 64 clips; the engine's has at most 700 MB with long files."""
COPIES_OF_A_RECORDING, COPIES_OF_A_STREAM = 4.0, 2.5
"""In all processes together, measured: 8 requests of 55 MiB of samples took 1340 MiB and 116 MiB of shared memory more than idle,
8 streams of 22 MiB that were not recognised yet 417 MiB."""
SAMPLE_BYTES = 4
UNITS = {"Mi": 1 << 20, "Gi": GIB}


def size(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", quantity)
    assert found
    return int(found[1]) * UNITS[found[2]]


def containers() -> list[Any]:
    """The container and the volumes of each way to run the server."""
    built = {"base": lambda: read(FOLDER / "base"), **{each.name: lambda each=each: build(each) for each in OVERLAYS}}
    needs = pytest.mark.skipif(not can_build(), reason="needs kubectl")
    pods = [
        pytest.param(
            lambda make=make: one(make(), "Deployment")["spec"]["template"]["spec"],
            id=name,
            marks=() if name == "base" else needs,
        )
        for name, make in built.items()
    ]
    runtime = FOLDER / "kserve" / "servingruntime.yaml"
    return [*pods, pytest.param(lambda: yaml.safe_load(runtime.read_text())["spec"], id="kserve")]


@pytest.mark.parametrize("make", containers())
def test_a_server_has_room_for_its_recordings_and_streams(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = make()
    (container,) = pod["containers"]
    for variable in container["env"]:
        assert variable["name"].startswith(ENVIRONMENT_PREFIX)
        assert not variable["name"].startswith(NOT_OURS)
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = Settings()  # from the environment alone, as in the image
    second = HIGHEST_RATE * SAMPLE_BYTES
    recordings = settings.windows.recordings * settings.audio.max_pcm_seconds * second * COPIES_OF_A_RECORDING
    streams = settings.live.streams * settings.live.backlog_seconds * second * COPIES_OF_A_STREAM
    (shared,) = (each["emptyDir"]["sizeLimit"] for each in pod["volumes"] if each["emptyDir"].get("medium") == "Memory")
    needed = PROCESSES + size(shared) + recordings + streams
    assert needed <= size(container["resources"]["limits"]["memory"]), f"it may need {needed / GIB:.1f} GiB"


def test_a_gateway_has_room_for_its_uploads_and_sockets() -> None:
    deployment = one(read(FOLDER / "base"), "Deployment", "asrloop-gateway")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    process = 150 << 20
    needed = process + GatewaySettings(keys="k" * 16).memory_megabytes * 1e6 + _ALL_HELD_BYTES
    assert needed <= size(container["resources"]["limits"]["memory"])
