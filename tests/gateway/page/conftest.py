"""A real Chromium whose microphone plays a WAV. Every page is watched: no complaint on its console, no request to another host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.gateway.conftest import RunningGateway
from tests.gateway.page.chromium import CHROMIUM, LONG

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def microphone(beckett_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears: ten seconds of speech, then a minute of silence."""
    samples, rate = soundfile.read(beckett_path, dtype="int16")
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    soundfile.write(path, np.concatenate([samples, np.zeros(60 * rate, np.int16)]), rate)
    return path


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright, the extra `browser`")
    with api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Any, microphone: Path) -> Iterator[Any]:
    """One that gives every page the microphone."""
    arguments = [
        "--no-sandbox",  # containers
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
    ]
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    yield running
    running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Open an address; afterwards nothing was complained of on the console, and nobody else was asked for anything."""
    complaints: list[str] = []
    elsewhere: list[str] = []
    contexts = []

    def open_(address: str, expected: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(LONG)

        def note(text: str) -> None:
            if not (expected and re.search(expected, text)):
                complaints.append(text)

        def note_request(url: str) -> None:
            home = address.partition("?")[0]
            if not url.startswith((home, home.replace("http", "ws", 1), "blob:", "data:")):
                elsewhere.append(url)

        page.on("console", lambda message: message.type in ("error", "warning") and note(message.text))
        page.on("pageerror", lambda error: note(str(error)))
        page.on("request", lambda request: note_request(request.url))
        page.on("websocket", lambda websocket: note_request(websocket.url))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints
    assert not elsewhere


@pytest.fixture(scope="module")
def address(gateway: RunningGateway) -> str:
    return gateway.url
