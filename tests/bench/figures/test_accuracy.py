"""Word errors are counted after normalisation, and a manifest that cannot be read is named."""

from pathlib import Path

import pytest
from asrloop_bench.figures import accuracy
from asrloop_bench.method import clips


def test_word_errors_after_normalisation() -> None:
    errors = accuracy.word_errors(
        ["It's a well-known fact.", "Try again", "..."], ["its a well known FACT", "try a gain", "noise"]
    )
    assert (errors.words, errors.substitutions, errors.deletions, errors.insertions) == (7, 1, 0, 1)
    assert errors.rate == pytest.approx(2 / 7)


def test_a_bad_manifest_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "a.wav", "text": "a"}\n{"audio": "b.wav"}\n')
    with pytest.raises(ValueError, match="line 2"):
        clips.references(path)
