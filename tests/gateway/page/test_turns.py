"""What ends a turn at the page's microphone, and how soon its text comes, which ?debug shows."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.gateway.page.chromium import LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import expect, hear_all, overflow, problems_for_readers, record

pytestmark = NEEDS_CHROMIUM


def starts_sent(page: Any) -> list[dict[str, Any]]:
    """Grows with the first messages that the page sends over its WebSockets."""
    sent: list[dict[str, Any]] = []
    note = lambda message: sent.append(json.loads(message)) if isinstance(message, str) else None  # noqa: E731
    page.on("websocket", lambda websocket: websocket.on("framesent", note))
    return sent


def test_without_debug_nothing_is_measured(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    sent = starts_sent(page)
    expect(page.get_by_label("Latency")).to_be_hidden()
    record(page)
    hear_all(page)
    expect(page.get_by_label("Latency")).to_be_hidden()
    assert "turn_detection" not in sent[0]


def test_a_corner_shows_how_soon_final_texts_come(address: str, open_page: OpenPage) -> None:
    page = open_page(f"{address}/?debug", viewport={"width": 320, "height": 640})
    sent = starts_sent(page)
    corner = page.get_by_label("Latency")
    expect(corner).to_have_text("End of speech to final text: none yet")
    page.get_by_label("A turn ends").select_option("when the speaker sounds done")
    record(page)
    hear_all(page)
    expect(corner).to_have_text(
        re.compile(r"final text: \d+ ms, median \d+ ms of \d+\. Turn over: [01]\.\d\d"), timeout=LONG
    )
    last, median, count = map(int, re.findall(r"(\d+) ms, median (\d+) ms of (\d+)", corner.inner_text())[0])
    assert count > 1
    assert 100 < last < 6000
    assert 100 < median < 6000
    assert sent[0]["turn_detection"] == "semantic"
    assert not problems_for_readers(page)
    assert overflow(page) <= 0
