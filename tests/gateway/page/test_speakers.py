"""Who spoke, on the page: it is asked for, shown in colours under names that can be changed, and saved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from asrloop_client import AsrClient

from asrloop.tritonserver.process import TritonServer
from tests.conftest import words
from tests.gateway.page.chromium import LONG, NEEDS_CHROMIUM
from tests.gateway.page.conftest import OpenPage
from tests.gateway.page.person import drop, expect, overflow, problems_for_readers, saved, state

pytestmark = NEEDS_CHROMIUM
RATE = 16_000


def shown(page: Any) -> list[tuple[str, str]]:
    """The name over each line, "" where the speaker goes on, and the line's words."""
    return [
        (line.locator(".who").inner_text() if line.locator(".who").is_visible() else "", line.locator(".words").inner_text())
        for line in page.locator(".lines li").all()
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_speakers_have_names_and_colours_and_what_is_renamed_is_saved_so(
    address: str, open_page: OpenPage, server: TritonServer, call_path: Path, tmp_path: Path, scheme: str
) -> None:
    page = open_page(address, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page.get_by_label("Who spoke, in files").select_option("by channels")
    drop(page, ("call.wav", call_path.read_bytes()))
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    lines = shown(page)
    assert [name for name, _ in lines if name] == ["Speaker 1", "Speaker 2"]
    colours = {who.evaluate("who => getComputedStyle(who).color") for who in page.locator(".who:visible").all()}
    assert len(colours) == 2
    with AsrClient(server.grpc_endpoint) as client:
        said = client.transcribe(call_path, diarize="channels")
    assert [text for _, text in lines] == [segment.text for segment in said.segments]
    assert saved(page, "TXT", tmp_path) == said.to_txt()
    assert not problems_for_readers(page)
    assert overflow(page) <= 0

    page.get_by_label("Name of speaker 2").fill("Ann <Lee> & Co")
    assert [name for name, _ in shown(page) if name] == ["Speaker 1", "Ann <Lee> & Co"]
    first, second = saved(page, "TXT", tmp_path).splitlines()
    assert first.startswith("Speaker 1: ")
    assert second.startswith("Ann <Lee> & Co: ")
    assert words(second.partition(": ")[2]) == words(said.to_txt().splitlines()[1][11:])
    assert "\nAnn <Lee> & Co: " in saved(page, "SRT", tmp_path)
    assert "\n<v Ann &lt;Lee&gt; &amp; Co>" in saved(page, "VTT", tmp_path)
    told = json.loads(saved(page, "JSON", tmp_path))["segments"]
    assert [each["speaker"] for each in told] == [
        "Ann <Lee> & Co" if one.speaker else "Speaker 1" for one in said.segments
    ]
    page.get_by_label("Name of speaker 2").fill(" ")
    assert [name for name, _ in shown(page) if name] == ["Speaker 1", "Speaker 2"]


def test_without_the_question_there_are_no_speakers(
    address: str, open_page: OpenPage, call_path: Path, tmp_path: Path
) -> None:
    page = open_page(address)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    drop(page, ("call.wav", call_path.read_bytes()))
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    assert not any("diarize" in each for each in sent)
    expect(page.get_by_role("group", name="Speakers of call.wav")).to_be_hidden()
    assert not any(name for name, _ in shown(page))
    assert "Speaker" not in saved(page, "SRT", tmp_path)
    assert "speaker" not in saved(page, "JSON", tmp_path)


def test_voices_are_asked_for_and_one_channel_is_not_two(address: str, open_page: OpenPage, beckett_path: Path) -> None:
    page = open_page(address, expected="status of 400")
    page.get_by_label("Who spoke, in files").select_option("by voices")
    drop(page, ("beckett.wav", beckett_path.read_bytes()))
    expect(state(page)).to_contain_text("Done", timeout=LONG)
    assert [name for name, _ in shown(page) if name] == ["Speaker 1"]
    page.get_by_label("Who spoke, in files").select_option("by channels")
    drop(page, ("mono.wav", beckett_path.read_bytes()))
    expect(state(page)).to_have_text("Failed", timeout=LONG)
    expect(page.get_by_role("article").first.locator(".problem")).to_contain_text(re.compile("the audio has 1 channel"))
