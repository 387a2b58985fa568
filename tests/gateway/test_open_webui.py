"""Uploads in the shape that Open WebUI sends (`_transcribe_openai` in its routers/audio.py), as aiohttp writes them.

It converts most recordings to MP3 first, reads only `text` of the response, and asks again without `language` after a refusal.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from tests.audio import zoo
from tests.conftest import BECKETT
from tests.gateway.conftest import RunningGateway
from tests.gateway.test_limits import BOUNDARY, post

USER = {
    "Authorization": "Bearer sk-none",
    "User-Agent": "Python/3.11 aiohttp/3.13.2",
    "X-OpenWebUI-User-Name": "Jan%20Kowalski",
    "X-OpenWebUI-User-Id": "5f0c",
    "X-OpenWebUI-User-Role": "user",
}
"""Those of the user come with ENABLE_FORWARD_USER_INFO_HEADERS."""


def field(name: str, value: str) -> bytes:
    head = f'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="{name}"'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n{value}\r\n".encode()


def upload(content: bytes, kind: str, ending: str, **fields: str) -> bytes:
    name = f"ab5e3f0c-1d52-4c4b-9d0e-3a6f5b1f2c77.{ending}"
    head = f'Content-Type: {kind}\r\nContent-Disposition: form-data; name="file"; filename="{name}"'
    parts = [field(*each) for each in {"model": "whisper-1", **fields}.items()]
    return b"".join([*parts, f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()])


def test_a_recording_that_it_converted_becomes_text(gateway: RunningGateway, beckett: NDArray[np.float32]) -> None:
    mp3 = zoo.encoded(beckett, 16_000, "MP3", "MPEG_LAYER_III")
    assert post(gateway, upload(mp3, "audio/mpeg", "mp3", language="en"), **USER).text == BECKETT


def test_a_file_that_it_leaves_as_it_is_becomes_text(gateway: RunningGateway, beckett_file: bytes) -> None:
    assert post(gateway, upload(beckett_file, "audio/x-wav", "wav"), **USER).text == BECKETT
    # A file whose size it does not know comes in chunks.
    body = upload(beckett_file, "audio/x-wav", "wav")
    assert post(gateway, (body[at : at + 65_536] for at in range(0, len(body), 65_536)), **USER).text == BECKETT


def test_a_language_that_is_refused_has_a_message_that_it_can_show(
    gateway: RunningGateway, beckett_file: bytes
) -> None:
    refused = post(gateway, upload(beckett_file, "audio/x-wav", "wav", language="de"), **USER)
    assert refused.status == 400
    assert "language" in json.loads(refused.content)["error"]["message"]


def test_its_other_shape_is_refused_with_what_to_set(gateway: RunningGateway) -> None:
    """AUDIO_STT_OPENAI_API_REQUEST_FORMAT=json sends a body of OpenRouter's, which OpenAI's API does not have."""
    refused = post(
        gateway,
        b'{"model": "whisper-1", "input_audio": {"data": "", "format": "wav"}}',
        **{"Content-Type": "application/json"},
    )
    assert (refused.status, refused.code) == (400, "invalid_form")
    assert "Send multipart/form-data" in json.loads(refused.content)["error"]["message"]
