"""Modules that know nothing of the page, run by Node: where words stand in a text, which one is said, a recording as a WAV."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import asrloop_gateway
import numpy as np
import pytest
import soundfile
from asrloop_client.spacing import joined

PAGE = Path(asrloop_gateway.__file__).parent / "page"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node")

WORDS = [
    {"word": "No,", "start": 0.5, "end": 0.75, "confidence": 0.9},
    {"word": "no", "start": 1.0, "end": 1.25, "confidence": 0.59},
    {"word": "matter.", "start": 1.25, "end": 2.0, "confidence": 0.6},
    {"word": "No", "start": 4.0, "end": 4.5},
]


def node(code: str, **values: Any) -> bytes:
    """What a module prints that has these values and imports from the page."""
    lines = [f"const {name} = {json.dumps(value)};" for name, value in values.items()]
    script = "\n".join([*lines, code]).replace('from "./', f'from "{PAGE.as_uri()}/')
    return subprocess.run(
        [str(NODE), "--no-warnings", "--input-type=module", "--eval", script],
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout


def split(text: str, first: int = 0) -> tuple[list[Any], int]:
    code = 'import { split } from "./words.js"; console.log(JSON.stringify(split(text, words, first)));'
    found = json.loads(node(code, text=text, words=WORDS, first=first))
    return [part if isinstance(part, str) else (part["word"],) for part in found["parts"]], found["next"]


def test_words_are_found_in_the_texts_of_segments_one_after_another() -> None:
    assert split("No, no matter.") == ([("No,",), " ", ("no",), " ", ("matter.",)], 3)
    assert split("No", 3) == ([("No",)], 4)
    assert split("No", 4) == (["No"], 4)


def test_a_text_with_other_words_stays_as_it_is() -> None:
    assert split("<b>Yes</b>") == (["<b>Yes</b>"], 0)
    assert split("") == ([], 0)
    assert split("No, never") == ([("No,",), " never"], 1)


def test_the_word_that_is_said_is_known_at_every_moment() -> None:
    code = """
        import { isUnsure, saidAt } from "./words.js";
        console.log(JSON.stringify([times.map((time) => saidAt(words, time)?.word ?? null), words.map(isUnsure)]));
    """
    said, unsure = json.loads(node(code, words=WORDS, times=[0, 0.5, 0.74, 0.75, 1.25, 1.99, 3, 4.2, 9]))
    assert said == [None, "No,", "No,", None, "matter.", "matter.", None, "No", None]
    assert unsure == [False, True, False, False]
    assert json.loads(node(code, words=[], times=[1])) == [[None], []]


def test_a_recording_becomes_a_wav() -> None:
    code = """
        import { Sound } from "./wav.js";
        const sound = new Sound(48000);
        const none = sound.wav;
        for (let at = 0; at < 1300; at++) sound.add(Int16Array.of(at, -at).buffer);
        process.stdout.write(none === null ? new Uint8Array(await sound.wav.arrayBuffer()) : "not null");
    """
    samples, rate = soundfile.read(io.BytesIO(node(code)), dtype="int16")
    assert rate == 48_000
    assert np.array_equal(samples, np.array([[at, -at] for at in range(1300)], np.int16).reshape(-1))


def test_a_recording_of_more_than_an_hour_is_not_kept() -> None:
    code = """
        import { Sound } from "./wav.js";
        const sound = new Sound(1);
        for (let second = 0; second <= 3600; second++) sound.add(Int16Array.of(1).buffer);
        console.log(JSON.stringify([sound.wav, sound.blobs.length + sound.chunks.length]));
    """
    assert json.loads(node(code)) == [None, 0]


def test_texts_are_joined_as_the_servers_join_them() -> None:
    code = 'import { gap } from "./spacing.js"; console.log(JSON.stringify(pairs.map(([one, two]) => one + gap(one, two) + two)));'
    characters = [
        "",
        "it",
        "is.",
        "\u4eca\u5929",
        "\u597d\u3002",
        "\u3053\u30fc",
        "\uc548\ub155",
        "\u0e01\u0e35",
        "...",
        "\U00020bb7",
        "\u1019",
    ]
    pairs = [[one, two] for one in characters for two in characters]
    assert json.loads(node(code, pairs=pairs)) == [joined(pair) for pair in pairs]
