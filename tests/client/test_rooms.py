"""A program that only transcribes does not load live audio, the command, bulk work, TLS and subtitles."""

import subprocess
import sys
import typing

import asrloop_client
import pytest

ROOMS = {"cli", "duration", "live", "many", "subtitles", "tls"}
SAY = "import sys; print(*sorted(name.split('.')[1] for name in sys.modules if name.startswith('asrloop_client.')))"


def loaded(code: str) -> set[str]:
    """The modules of the client after `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", f"{code}\n{SAY}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_import_loads_no_room() -> None:
    modules = loaded("import asrloop_client")
    assert "call" in modules
    assert not modules & ROOMS


@pytest.mark.parametrize(
    ("code", "room"),
    [
        ("from asrloop_client import Stream, AsyncStream, StreamEvent", "live"),
        ("import asrloop_client; asrloop_client.StreamEvent", "live"),
        ("import asrloop_client; asrloop_client.AsrClient('127.0.0.1:1', prewarm=False).stream()", "live"),
        ("from asrloop_client import Outcome", "many"),
        ("from asrloop_client import TlsConfig", "tls"),
        (
            "import asrloop_client; list(asrloop_client.AsrClient('127.0.0.1:1', prewarm=False).as_completed([]))",
            "many",
        ),
    ],
)
def test_a_room_is_loaded_when_it_is_first_used(code: str, room: str) -> None:
    assert loaded(code) & ROOMS == {room}


def test_every_public_name_is_there_and_another_is_an_attribute_error() -> None:
    assert all(hasattr(asrloop_client, name) for name in asrloop_client.__all__)
    with pytest.raises(AttributeError, match="asrloop_client.*Streem"):
        asrloop_client.Streem  # noqa: B018 - the access is what fails
    assert typing.get_type_hints(asrloop_client.AsrClient.transcribe)["return"] is asrloop_client.Transcript
