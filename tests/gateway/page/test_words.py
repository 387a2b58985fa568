"""Words on the page: the one that is being played, those that are unsure, and names that the user expects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.conftest import BECKETT, words
from tests.gateway.page.chromium import LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import drop, expect, hear_all, problems_for_readers, record, state

pytestmark = NEEDS_CHROMIUM

NOTE_MARKED = """() => {
    window.marked = [];
    const look = (changes) => {
        for (const { target } of changes) {
            if (target.matches('.word.now')) window.marked.push([target.textContent, document.querySelector('audio').currentTime]);
        }
    };
    const changes = { subtree: true, attributes: true, attributeFilter: ['class'] };
    new MutationObserver(look).observe(document.getElementById('transcripts'), changes);
}"""


def played(page: Any) -> list[str]:
    """Words that are marked, in turn, while the first seconds are played."""
    page.evaluate(NOTE_MARKED)
    page.locator("button.time").first.click()
    page.evaluate(
        """async () => {
            for (let at = 0; at < 600 && window.marked.length < 4; at++) await new Promise(done => setTimeout(done, 50));
        }"""
    )
    page.locator("audio").evaluate("sound => sound.pause()")
    assert page.locator(".word.now").count() <= 1
    return [words(word) for word, _ in page.evaluate("window.marked")][:4]


def test_the_word_that_is_played_is_marked(address: str, open_page: OpenPage, beckett_path: Path) -> None:
    page = open_page(address)
    drop(page, ("beckett.wav", beckett_path.read_bytes()))
    expect(state(page)).to_have_text("Done, 0:09", timeout=LONG)
    said = page.locator(".word").all_inner_texts()
    assert words(" ".join(said)) == BECKETT
    assert page.locator(".words").inner_text() == " ".join(said)
    assert played(page) == ["ever", "tried", "ever", "failed"]


def test_a_recording_can_be_played_when_it_is_over(address: str, open_page: OpenPage) -> None:
    page = open_page(address)
    record(page)
    expect(page.locator(".time").first).to_be_disabled(timeout=LONG)
    hear_all(page)
    page.get_by_role("button", name="Stop").click()
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    assert page.locator(".word").count() > 6
    expect(page.locator(".time").first).to_be_enabled()
    seconds = page.locator("audio").evaluate(
        """async sound => {
            if (!(sound.duration > 0)) await new Promise(resolve => sound.addEventListener('loadedmetadata', resolve));
            return sound.duration;
        }"""
    )
    assert seconds > 8
    assert played(page) == [words(word) for word in page.locator(".word").all_inner_texts()[:4]]


def test_unsure_words_are_underlined_and_names_are_heard(address: str, open_page: OpenPage, beckett_path: Path) -> None:
    page = open_page(address)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.get_by_label("Names and words to expect").fill("Szczecin, , Jan Kowalski;")

    def answer(route: Any) -> None:
        body = (
            'data: {"type": "transcript.text.segment", "id": "0", "start": 0, "end": 1, "text": "Ever <tried>"}\n\n'
            'data: {"type": "transcript.text.done", "text": "Ever <tried>", "words": ['
            '{"word": "Ever", "start": 0, "end": 0.5, "confidence": 0.6},'
            '{"word": "<tried>", "start": 0.5, "end": 1, "confidence": 0.43}], "usage": {"seconds": 1}}\n\n'
        )
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route("**/v1/audio/transcriptions", answer)
    drop(page, ("beckett.wav", beckett_path.read_bytes()))
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    (unsure,) = page.locator(".unsure").all()
    assert (unsure.inner_text(), unsure.get_attribute("title")) == ("<tried>", "Unsure: 43 %")
    assert "underline dotted" in unsure.evaluate("word => getComputedStyle(word).textDecoration")
    assert any(re.search(r'name="key_terms\[\]"\s+\["Szczecin","Jan Kowalski"\]', each) for each in sent)
    assert not problems_for_readers(page)
