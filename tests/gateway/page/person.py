"""What a person does at the page and sees there. Importing it skips the tests where Playwright or axe is missing."""

from __future__ import annotations

import base64
import difflib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BECKETT
from tests.gateway.page.chromium import LONG

axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe, the extra `browser`")
expect = pytest.importorskip("playwright.sync_api", reason="needs Playwright, the extra `browser`").expect


def record(page: Any) -> None:
    page.get_by_role("button", name="Record").click()


def text_of(page: Any, number: int = 0) -> str:
    return " ".join(page.get_by_role("article").nth(number).locator(".words").all_inner_texts())


def hear_all(page: Any) -> None:
    """Wait until the last word is on the page and will not change."""
    expect(page.locator(".words").filter(has_text=re.compile("better", re.IGNORECASE))).to_be_visible(timeout=LONG)


def state(page: Any, number: int = 0) -> Any:
    return page.get_by_role("article").nth(number).locator(".state")


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


def problems_for_readers(page: Any) -> list[str]:
    """What axe finds against WCAG and good practice."""
    page.evaluate(axe.AXE_SCRIPT)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]


def overflow(page: Any) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
