"""The page by keyboard, by screen reader, on narrow screens, in the dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.page.chromium import LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import (
    expect,
    hear_all,
    overflow,
    problems_for_readers,
    record,
    state,
)

pytestmark = NEEDS_CHROMIUM


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
