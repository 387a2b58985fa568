"""examples/bulk_ray.py on a real local Ray: all is transcribed once, also when it is stopped in the middle. `make test-bulk`."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BECKETT, ROOT, eventually, words

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: make test-bulk")


def start(source: Path, output: Path, *options: str) -> "subprocess.Popen[str]":
    model = ROOT / "model_repository" / "decoder_loop" / "1"
    command = [
        sys.executable,
        str(ROOT / "examples" / "bulk_ray.py"),
        str(source),
        str(output),
        f"--model={model}",
        "--cores=2",
    ]
    # Only its own process is told to stop, as a scheduler would; Ray's end with it.
    return subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        start_new_session=True,
    )


def rows(output: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    parquet = [row for path in output.glob("part-*.parquet") for row in pq.read_table(path).to_pylist()]
    lines = [line for path in output.glob("part-*.jsonl") for line in path.read_text().splitlines()]
    return parquet + [json.loads(line) for line in lines]


def test_a_folder_becomes_parquet_and_a_stop_in_the_middle_costs_little(
    model_repository: Path, beckett_path: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for number in range(160):
        path = source / f"{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(beckett_path)
    stopped = start(source, output, "--rows-a-file=16")
    assert eventually(lambda: list(output.glob("part-*")) or stopped.poll() is not None, 120)
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, said
    before = rows(output)
    assert 0 < len(before) < 160
    again = start(source, output, "--rows-a-file=16", "--price=0.04")
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert f"{160 - len(before)} recordings to do, {len(before)} done before" in said
    assert "core hours" in said
    after = rows(output)
    assert sorted(row["path"] for row in after) == sorted(str(path) for path in source.rglob("*.wav"))
    assert {words(row["text"]) for row in after} == {BECKETT}
    assert {row["error"] for row in after} == {""}
    assert all(row["segments"][0]["text"] == row["text"] for row in after)
    assert all(row["words"] == [] for row in after)


def test_a_manifest_becomes_lines_and_what_failed_is_tried_again(
    model_repository: Path, assets: Path, tmp_path: Path
) -> None:
    for name in ("beckett.wav", "two_cities.wav"):
        shutil.copy(assets / name, tmp_path)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"x")
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        "".join(json.dumps({"audio": name}) + "\n" for name in ("beckett.wav", "broken.wav", "two_cities.wav"))
    )
    failed = start(manifest, tmp_path / "out", "--form=jsonl", "--word-times")
    _, said = failed.communicate(timeout=120)
    assert failed.returncode == 1, said
    found = {Path(row["path"]).name: row for row in rows(tmp_path / "out")}
    assert words(found["beckett.wav"]["text"]) == BECKETT
    assert "best of times" in words(found["two_cities.wav"]["text"])
    assert len(found["two_cities.wav"]["segments"]) > 1
    assert found["two_cities.wav"]["segments"][0]["speaker"] is None
    assert [word["text"] for word in found["beckett.wav"]["words"]] == found["beckett.wav"]["text"].split()
    ends = [end for word in found["two_cities.wav"]["words"] for end in (word["start"], word["end"])]
    assert ends == sorted(ends)
    assert all(0 < word["confidence"] <= 1 for word in found["beckett.wav"]["words"])
    assert found["broken.wav"]["words"] == []
    assert "[invalid_audio]" in found["broken.wav"]["error"]
    shutil.copy(assets / "beckett.wav", broken)
    mended = start(manifest, tmp_path / "out", "--form=jsonl")
    _, said = mended.communicate(timeout=120)
    assert mended.returncode == 0, said
    assert "1 recordings to do, 2 done before" in said


def test_who_spoke_is_in_segments_and_words(model_repository: Path, beckett_path: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(beckett_path, source)
    done = start(source, tmp_path / "out", "--diarize", "--speakers=2")
    _, said = done.communicate(timeout=120)
    assert done.returncode == 0, said
    (row,) = rows(tmp_path / "out")
    assert {each["speaker"] for each in (*row["segments"], *row["words"])} == {0}
    assert len(row["words"]) == len(BECKETT.split())
