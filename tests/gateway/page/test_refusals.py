"""Keys, and what the page says when there is no server or no microphone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asrloop.tritonserver.process import TritonServer
from tests.conftest import words
from tests.gateway.conftest import StartGateway
from tests.gateway.page.chromium import CHROMIUM, LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import (
    expect,
    hear_all,
    problems_for_readers,
    record,
    state,
    text_of,
)

pytestmark = NEEDS_CHROMIUM
KEY = "a-key-of-this-test"


def test_a_key_is_asked_for_and_kept_in_the_tab(
    server: TritonServer, start_gateway: StartGateway, open_page: OpenPage, beckett_path: Path
) -> None:
    with start_gateway(server.grpc_endpoint, keys=KEY) as gateway:
        page = open_page(gateway.url, expected="status of 401")
        field = page.get_by_label("This server requires an API key")
        expect(field).to_be_hidden()
        page.get_by_label("Choose files").set_input_files(beckett_path)
        expect(field).to_be_focused(timeout=LONG)
        assert not problems_for_readers(page)
        field.fill("not the key of this test")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The server did not accept this API key")).to_be_visible(timeout=LONG)
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
        field = page.get_by_label("This server requires an API key")
        expect(field).to_be_focused(timeout=LONG)
        expect(page.get_by_role("article")).to_have_count(0)
        field.fill("a key with spaces, which no browser sends with a recording")
        page.keyboard.press("Enter")
        record(page)
        expect(page.get_by_role("alert")).to_contain_text("cannot send this API key", timeout=LONG)
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
        expect(page.get_by_role("alert")).to_contain_text("only on https:// pages and localhost", timeout=LONG)
    finally:
        browser.close()
