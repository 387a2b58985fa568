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
from asrloop_gateway.speakers import letter

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


def test_the_latency_counts_from_where_speech_fell_silent() -> None:
    """Chunks of 0.1 s arrive when they are complete; faint noise, speech until 0.55 s, silence, speech from 1.2 s on."""
    code = """
        import { Latency } from "./latency.js";
        const latency = new Latency();
        const level = (second) => (second < 0.2 ? 0.002 : second < 0.55 || second >= 1.2 ? 0.5 : 0.02);
        for (let at = 0; at < 20; at++) {
            const peaks = Array.from({ length: 10 }, (_, index) => level(at / 10 + index / 100 + 0.005));
            latency.hear(0.1, peaks, 7000 + 100 * (at + 1));
        }
        const seen = [[latency.last ?? null, latency.median ?? null]];
        for (const [start, heard, now] of finals) {
            latency.final(start, heard, 7000 + 1000 * now);
            seen.push([latency.last, latency.median, latency.measured.length]);
        }
        console.log(JSON.stringify(seen));
    """
    finals = [(0.1, 0.8, 0.85), (0.1, 0.8, 1.55), (1.1, 1.9, 2.0), (0.7, 1.1, 1.2), (0.1, 1.1, 1.05)]
    first, *rest = json.loads(node(code, finals=finals))
    assert first == [None, None]
    rounded = [[round(last), round(median), count] for last, median, count in rest]
    assert rounded[:2] == [[300, 300, 1], [1000, 1000, 2]], "speech that follows before the text changes nothing"
    assert rounded[2:4] == [[1000, 1000, 2]] * 2, "cut in the middle of speech, and without any"
    assert rounded[4] == [500, 500, 3]


def test_what_is_saved_names_the_speakers() -> None:
    code = """
        import { FORMATS } from "./subtitles.js";
        const saved = Object.entries(FORMATS).map(([name, { write }]) => [name, write(segments)]);
        console.log(JSON.stringify(Object.fromEntries(saved)));
    """
    segments = [
        {"start": 0, "end": 1, "text": "No,", "speaker": "Ann & Bo"},
        {"start": 1, "end": 2, "text": " no\n\nmatter.", "speaker": "Ann & Bo"},
        {"start": 2, "end": 3.5, "text": "Try <again>.", "speaker": ""},
    ]
    saved = json.loads(node(code, segments=segments))
    assert saved["txt"] == "Ann & Bo: No, no matter.\nTry <again>.\n"
    assert saved["srt"].splitlines()[2::4] == ["Ann & Bo: No,", "Ann & Bo: no matter.", "Try <again>."]
    assert saved["vtt"].splitlines()[3::3] == [
        "<v Ann &amp; Bo>No,",
        "<v Ann &amp; Bo>no matter.",
        "Try &lt;again&gt;.",
    ]
    told = json.loads(saved["json"])["segments"]
    assert told[1] == {"start": 1, "end": 2, "text": "no matter.", "speaker": "Ann & Bo"}
    assert told[2] == {"start": 2, "end": 3.5, "text": "Try <again>."}


def test_speakers_are_numbered_as_the_api_numbers_them() -> None:
    code = 'import { numberOf } from "./speakers.js"; console.log(JSON.stringify(letters.map(numberOf)));'
    found = json.loads(node(code, letters=[letter(number) for number in range(50)]))
    assert found == [number + 1 for number in range(50)]


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
