"""The page at GET /, in a real Chromium whose microphone plays a WAV: its words, what it saves, what it says of failures."""

from __future__ import annotations

import base64
import difflib
import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asrloop.tritonserver.process import TritonServer
from tests.conftest import BECKETT, words
from tests.gateway.conftest import RunningGateway, StartGateway

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright, the extra `browser`")
axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe, the extra `browser`")
expect, Page = playwright_api.expect, playwright_api.Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]
LONG = 60_000
"""Milliseconds; a busy machine may take long."""
KEY = "a-key-of-this-test"

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
    with playwright_api.sync_playwright() as running:
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
            if not url.startswith((address, address.replace("http", "ws", 1), "blob:", "data:")):
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


def record(page: Any) -> None:
    page.get_by_role("button", name="Record").click()


def text_of(page: Any, number: int = 0) -> str:
    return " ".join(page.get_by_role("article").nth(number).locator(".words").all_inner_texts())


def hear_all(page: Any) -> None:
    """Wait until the last word is on the page and will not change."""
    expect(page.locator(".words").filter(has_text=re.compile("better", re.IGNORECASE))).to_be_visible(timeout=LONG)


def finals_told(page: Any) -> list[str]:
    """Grows with the final texts that the page gets over its WebSocket."""
    told: list[str] = []

    def note(message: str | bytes) -> None:
        event = json.loads(message)
        if event.get("final"):
            told.append(event["stable"])

    page.on("websocket", lambda websocket: websocket.on("framereceived", note))
    return told


def assert_nearly_beckett(said: str) -> None:
    """Short pieces now and then have a word wrong; what the page does with them is compared exactly."""
    alike = difflib.SequenceMatcher(None, said.split(), BECKETT.split()).ratio()
    assert alike > 0.75, said


def drop(page: Any, *files: tuple[str, bytes]) -> None:
    """As a hand does: over the page, and let go."""
    given = [{"name": name, "data": base64.b64encode(content).decode()} for name, content in files]
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const { name, data } of files)
                transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
            return transfer;
        }""",
        given,
    )
    for event in ("dragenter", "dragover", "drop"):
        page.locator("main").dispatch_event(event, {"dataTransfer": transfer})


def saved(page: Any, button: str, folder: Path, article: int = 0) -> str:
    with page.expect_download() as download:
        page.get_by_role("article").nth(article).get_by_role("button", name=re.compile(f"as {button}$")).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == f".{button.lower()}"
    return path.read_text(encoding="utf-8")


def state(page: Any, number: int = 0) -> Any:
    return page.get_by_role("article").nth(number).locator(".state")


def problems_for_readers(page: Any) -> list[str]:
    """What axe finds against WCAG and good practice."""
    page.evaluate(axe.AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def overflow(page: Any) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_the_record_button_writes_what_is_said(address: str, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(address)
    told = finals_told(page)
    record(page)
    expect(page.get_by_role("status")).to_have_text("Listening", timeout=LONG)
    expect(page.locator(".tail").filter(has_text=re.compile(r"\w")).first).to_be_visible(timeout=LONG)
    assert float(page.locator("#level").evaluate("level => level.style.getPropertyValue('--level')")) > 0
    hear_all(page)
    page.get_by_role("button", name="Stop").click()
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    said = words(" ".join(told))
    assert_nearly_beckett(said)
    assert words(text_of(page)) == said
    assert not "".join(page.locator(".tail").all_inner_texts())
    assert words(" ".join(page.get_by_role("log").locator("p").all_inner_texts())) == said
    cues = saved(page, "SRT", tmp_path)
    assert cues.startswith("1\n00:00:0")
    assert words(re.sub(r"[\d:,>-]", "", cues)) == said
    assert saved(page, "VTT", tmp_path).startswith("WEBVTT\n\n00:00:0")
    assert words(saved(page, "TXT", tmp_path)) == said
    expect(page.get_by_role("button", name="Record")).to_be_enabled()


def test_a_dropped_file_becomes_text_with_times(
    address: str, open_page: OpenPage, beckett_path: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    drop(page, ("beckett.wav", beckett_path.read_bytes()))
    expect(state(page)).to_have_text("Done, 0:09", timeout=LONG)
    assert words(text_of(page)) == BECKETT
    assert saved(page, "SRT", tmp_path) == _by_api(address, beckett_path, "srt")
    assert saved(page, "VTT", tmp_path) == _by_api(address, beckett_path, "vtt")

    sound = page.locator("audio")
    page.get_by_role("button", name="Play from 0:00").click()
    expect(page.locator("li.now")).to_be_visible(timeout=LONG)  # it plays, and says where
    assert not sound.evaluate("sound => sound.paused")

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.locator(".copy")).to_have_text("Copied")
    assert words(page.evaluate("navigator.clipboard.readText()")) == BECKETT

    page.get_by_role("button", name="Remove beckett.wav").click()
    expect(page.get_by_role("article")).to_have_count(0)


def test_a_queue_goes_on_behind_files_that_are_cancelled_or_no_audio(
    address: str, open_page: OpenPage, beckett: Any, beckett_path: Path, tmp_path: Path
) -> None:
    long, away, letter, empty = (tmp_path / f"{name}.wav" for name in ("long", "away", "letter", "empty"))
    soundfile.write(long, np.tile(beckett, 60), 16_000, subtype="PCM_16")
    shutil.copy(beckett_path, away)
    letter.write_text("Dear Sir, " * 100)
    empty.touch()
    page = open_page(address, expected="status of 400")
    page.get_by_label("Choose files").set_input_files([long, away, letter, empty, beckett_path])
    progress = page.get_by_role("progressbar", name="long.wav")
    expect(progress).to_be_visible()
    expect(state(page, 1)).to_have_text("Waiting")
    page.get_by_role("button", name="Cancel away.wav").click()
    expect(state(page, 1)).to_have_text("Cancelled")
    page.get_by_role("button", name="Cancel long.wav").click()
    expect(state(page, 0)).to_have_text("Cancelled")
    expect(progress).to_be_hidden()

    expect(state(page, 4)).to_contain_text("Done", timeout=LONG)
    assert words(text_of(page, 4)) == BECKETT
    for number in (2, 3):
        expect(state(page, number)).to_have_text("Failed")
        expect(page.get_by_role("article").nth(number).locator(".problem")).to_contain_text("WAV, FLAC")
    for number in (0, 1):
        expect(state(page, number)).to_have_text("Cancelled")


def test_a_key_is_asked_for_and_kept_in_the_tab(
    server: TritonServer, start_gateway: StartGateway, open_page: OpenPage, beckett_path: Path
) -> None:
    with start_gateway(server.grpc_endpoint, keys=KEY) as gateway:
        page = open_page(gateway.url, expected="status of 401")
        field = page.get_by_label("This server asks for a key")
        expect(field).to_be_hidden()
        page.get_by_label("Choose files").set_input_files(beckett_path)
        expect(field).to_be_focused(timeout=LONG)
        assert not problems_for_readers(page)
        field.fill("not the key of this test")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The server did not accept this key")).to_be_visible(timeout=LONG)
        field.fill(KEY)
        page.get_by_role("button", name="Use this key").click()
        expect(state(page)).to_contain_text("Done", timeout=LONG)
        expect(field).to_be_hidden()

        page.reload()  # the tab still knows it
        record(page)
        hear_all(page)
        assert page.evaluate("localStorage.length") == 0


def test_a_recording_asks_for_the_key_too(
    server: TritonServer, start_gateway: StartGateway, open_page: OpenPage
) -> None:
    with start_gateway(server.grpc_endpoint, keys=KEY) as gateway:
        page = open_page(gateway.url)
        record(page)
        field = page.get_by_label("This server asks for a key")
        expect(field).to_be_focused(timeout=LONG)
        expect(page.get_by_role("article")).to_have_count(0)
        field.fill("a key with spaces, which no browser sends with a recording")
        page.keyboard.press("Enter")
        record(page)
        expect(page.get_by_role("alert")).to_contain_text("cannot send this key", timeout=LONG)
        field.fill(KEY)
        page.keyboard.press("Enter")
        record(page)
        hear_all(page)


def test_a_lost_server_leaves_the_text(server: TritonServer, start_gateway: StartGateway, open_page: OpenPage) -> None:
    with start_gateway(server.grpc_endpoint) as gateway:
        page = open_page(gateway.url)
        record(page)
        expect(page.locator(".words")).to_have_count(2, timeout=LONG)
        gateway.process.kill()
        gateway.stop()
        expect(page.get_by_role("alert")).to_have_text(
            "The connection to the server was lost. The text so far is kept.", timeout=LONG
        )
        assert words(text_of(page)).startswith("ever tried")
        expect(state(page)).to_contain_text("Ended early")
        expect(page.get_by_role("button", name="Copy")).to_be_visible()


def test_no_server_at_all_is_said(
    server: TritonServer, start_gateway: StartGateway, open_page: OpenPage, beckett_path: Path
) -> None:
    with start_gateway(server.grpc_endpoint) as gateway:
        page = open_page(gateway.url, expected="ERR_CONNECTION_REFUSED")
        gateway.stop()
        record(page)
        expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.", timeout=LONG)
        page.get_by_label("Choose files").set_input_files(beckett_path)
        expect(page.locator(".transcript .problem")).to_contain_text("connection to the server was lost", timeout=LONG)


def test_a_refused_microphone_is_explained(playwright: Any, address: str) -> None:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    try:
        page = browser.new_page(permissions=[])
        page.goto(address)
        record(page)
        expect(page.get_by_role("alert")).to_contain_text("microphone", timeout=LONG)
        expect(page.get_by_role("button", name="Record")).to_be_enabled()
    finally:
        browser.close()


def test_a_page_without_https_says_so(playwright: Any, address: str) -> None:
    mapped = "--host-resolver-rules=MAP speech.test 127.0.0.1"
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", mapped])
    try:
        page = browser.new_page()
        page.goto(address.replace("127.0.0.1", "speech.test"))
        record(page)
        expect(page.get_by_role("alert")).to_contain_text("only to pages on https:// or localhost", timeout=LONG)
    finally:
        browser.close()


def test_the_keyboard_reaches_everything(address: str, open_page: OpenPage, beckett_path: Path) -> None:
    page = open_page(address)
    page.get_by_label("Choose files").set_input_files(beckett_path)
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    page.locator("body").click(position={"x": 1, "y": 1})
    reached: list[list[Any]] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const element = document.activeElement;
                const seen = element.closest('label') ?? element;
                const ringed = element.matches('audio, body') || getComputedStyle(seen).outlineStyle !== 'none';
                return [element.getAttribute('aria-label') ?? seen.innerText.trim(), ringed];
            }"""
        )
        if focused[0] == "Record" and reached:
            break
        reached.append(focused)
    names = [name for name, _ in reached]
    assert all(ringed for _, ringed in reached), reached
    for name in ("Record", "Choose files", "Play from 0:00", "Save beckett.wav as SRT", "Remove beckett.wav"):
        assert name in names


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_dark_mode_and_screen_readers(
    address: str, open_page: OpenPage, beckett_path: Path, scheme: str
) -> None:
    page = open_page(address, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    assert not problems_for_readers(page)
    page.get_by_label("Choose files").set_input_files(
        {
            "name": f"{'a-long-name-without-a-space' * 5}.wav",
            "mimeType": "audio/wav",
            "buffer": beckett_path.read_bytes(),
        }
    )
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    record(page)
    hear_all(page)
    assert not problems_for_readers(page)
    assert overflow(page) <= 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper))) < 60) == (scheme == "dark")


def _by_api(address: str, path: Path, form: str) -> str:
    boundary = "----a-boundary-of-this-test"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("model", "default"), ("response_format", form))
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'.encode()
    body = b"".join([*parts, head, path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()])
    request = urllib.request.Request(
        f"{address}/v1/audio/transcriptions", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())
