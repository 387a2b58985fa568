"""Text from the microphone and from files, with its times, as it is shown and saved."""

from __future__ import annotations

import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.conftest import BECKETT, words
from tests.gateway.page.chromium import LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import (
    assert_nearly_beckett,
    drop,
    expect,
    finals_told,
    hear_all,
    record,
    saved,
    state,
    text_of,
)

pytestmark = NEEDS_CHROMIUM


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


def test_a_long_file_shows_how_far_it_is_and_its_text_so_far(
    address: str, open_page: OpenPage, long_file: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "long.flac"
    path.write_bytes(long_file)
    page = open_page(address)
    page.evaluate(
        """() => {
            window.seen = [];
            const look = () => {
                const [state, text, bar] = ['.state', '.running', 'progress'].map(part => document.querySelector(part));
                if (state) window.seen.push([state.textContent, text.textContent, bar.hidden ? null : bar.value]);
            };
            const everything = { subtree: true, childList: true, characterData: true, attributes: true };
            new MutationObserver(look).observe(document.getElementById('transcripts'), everything);
        }"""
    )
    page.get_by_label("Choose files").set_input_files(path)
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    seen = page.evaluate("window.seen")
    on_the_way = [value for told, _, value in seen if re.fullmatch(r"Transcribing, \d:\d\d of \d:\d\d", told)]
    assert on_the_way
    assert on_the_way == sorted(on_the_way)
    assert 0 < max(on_the_way) <= 1
    so_far = [words(text) for _, text, _ in seen if text]
    assert so_far
    assert all(words(text_of(page)).startswith(text) for text in so_far)


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
