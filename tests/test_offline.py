"""Files in this process without a server: in order, side by side, and one that cannot be read harms no other."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from numpy.typing import NDArray
from typer.testing import CliRunner

import asrloop
from asrloop import config
from asrloop.cli import app
from asrloop.errors import InvalidOption
from asrloop.families import registry
from asrloop.offline import FILES_AT_ONCE, Model
from tests.audio.recordings import RECORDINGS
from tests.conftest import BECKETT, ROOT, words


def test_many_files_keep_their_order_and_their_errors(
    model_repository: Path, beckett_path: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(beckett_path.read_bytes()[:40])
    paths = [beckett_path, broken, tmp_path / "missing.wav", *[beckett_path] * (FILES_AT_ONCE + 2), broken]
    told: list[tuple[float, float]] = []
    with Model(model_repository / "decoder_loop" / "1", config.Settings()) as engine:
        heard = list(engine.transcribe_many(paths, lambda done, known: told.append((done, known))))
        assert list(engine.transcribe_many([])) == []
    assert [each.path for each in heard] == paths
    assert [each.path for each in heard if each.error] == [broken, tmp_path / "missing.wav", broken]
    assert {words(each.transcript.text) for each in heard if each.transcript} == {BECKETT}
    assert all(done <= known for done, known in told)
    # Sums in another order differ in their last bit.
    rounded = [(round(done, 3), round(known, 3)) for done, known in told]
    assert rounded == sorted(rounded)


def test_a_model_is_loaded_in_four_lines(beckett_path: Path, beckett: NDArray[np.float32], tmp_path: Path) -> None:
    voice_memo = tmp_path / "memo.m4a"
    voice_memo.write_bytes(RECORDINGS["M4A, AAC"](beckett))
    with asrloop.load_model() as model:
        heard = model.transcribe(beckett_path, language="en-US")
        assert words(model.transcribe(voice_memo).text) == BECKETT
        timed = model.transcribe(beckett_path, word_times=True, key_terms=["Szczecin"])
        with pytest.raises(InvalidOption, match="a term of 65 characters"):
            model.transcribe(beckett_path, key_terms=["x" * 65])
        with pytest.raises(InvalidOption, match="key_terms is the text 'Szczecin': give a list"):
            model.transcribe(beckett_path, key_terms="Szczecin")
        with pytest.raises(InvalidOption, match="the served model has en"):
            model.transcribe(beckett_path, language="de")
        with pytest.raises(FileNotFoundError):
            model.transcribe("missing.wav")
    assert words(heard.text) == BECKETT
    assert [words(word.text) for word in heard.words] == BECKETT.split()
    assert "".join(word.text for word in heard.words) == heard.text
    assert heard.language == "en"
    assert not any(word.times for word in heard.words)
    assert timed.text == heard.text
    ends = [end for word in timed.words for end in word.times or ()]
    assert ends == sorted(ends)
    assert len(ends) == 2 * len(heard.words)


def test_terms_that_the_model_cannot_write_are_named(tmp_path: Path, beckett_path: Path) -> None:
    registry.build("transducer", ROOT / "training" / "tiny-tdt", tmp_path)
    with (
        Model(tmp_path, config.Settings()) as model,
        pytest.raises(InvalidOption, match="key_terms has \u0141\u00f3d\u017a: "),
    ):
        model.transcribe(beckett_path, key_terms=["open", "\u0141\u00f3d\u017a"])


@pytest.mark.parametrize("repeats", [1, 2])
def test_speakers_are_told_apart(beckett_path: Path, call: NDArray[np.float32], tmp_path: Path, repeats: int) -> None:
    """By channels, of a short file and of one that is decoded block by block; and by voices."""
    path = tmp_path / "call.wav"
    soundfile.write(path, np.tile(call, (repeats, 1)), 16_000)
    with asrloop.load_model() as model:
        two = model.transcribe(path, diarize="channels")
        one = model.transcribe(beckett_path, diarize=True, speakers=2)
        with pytest.raises(InvalidOption, match="the audio has 1 channel"):
            model.transcribe(beckett_path, diarize="channels")
        with pytest.raises(InvalidOption, match=r"speakers is 0: send a whole number in 1\.\.50"):
            model.transcribe(beckett_path, diarize=True, speakers=0)
        (heard,) = model.transcribe_many([path], options=model.options(diarize="channels"))
    assert heard.seconds == pytest.approx(repeats * len(call) / 16_000, abs=0.1)
    for speaker in (0, 1):
        said = [each for each in two.segments if each.speaker == speaker]
        assert len(words(" ".join(each.text for each in said)).split()) > 10 * repeats
    assert [each.start for each in two.segments] == sorted(each.start for each in two.segments)
    assert {each.speaker for each in (*one.segments, *one.words)} == {0}


def test_many_short_calls_are_told_apart(call: NDArray[np.float32], tmp_path: Path) -> None:
    """Each of their channels has its place."""
    path = tmp_path / "call.wav"
    soundfile.write(path, call[:16_000], 16_000)
    with asrloop.load_model() as model:
        heard = list(model.transcribe_many([path] * FILES_AT_ONCE, options=model.options(diarize="channels")))
    assert [each.error for each in heard] == [None] * FILES_AT_ONCE


@pytest.mark.slow
def test_a_model_is_made_where_there_is_none(
    tmp_path: Path, beckett_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (ROOT / ".cache").iterdir():
        (tmp_path / cached.name).symlink_to(cached)
    monkeypatch.setattr("asrloop.paths.beside_us", lambda _: None)
    monkeypatch.setattr("asrloop.paths.cache", lambda: tmp_path)
    with asrloop.load_model() as model:
        assert words(model.transcribe(str(beckett_path)).text) == BECKETT
        assert model.transcribe(beckett_path, diarize=True).segments[0].speaker == 0
    assert (tmp_path / "models" / "moonshine" / "family.json").is_file()


def test_the_command_tells_each_file_and_fails_if_one_failed(
    model_repository: Path, beckett_path: Path, tmp_path: Path
) -> None:
    arguments = ["transcribe", f"--model-repository={model_repository}"]

    def run(*paths: Path | str) -> Result:
        return CliRunner().invoke(app, [*arguments, *map(str, paths)], env={"COLUMNS": "200"})

    command = [sys.executable, "-m", "asrloop.cli", *arguments, str(beckett_path)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "real-time factor" in good.stderr
    mixed = run(tmp_path / "missing.wav", beckett_path)
    assert mixed.exit_code == 1
    first, second = mixed.stdout.splitlines()
    assert "No such file" in first
    assert BECKETT in words(second)

    options = (
        "--word-times",
        "--language=en-US",
        "--task=transcribe",
        "--key-terms=Szczecin,Ada Byron",
        "--key-terms-boost=2",
    )
    asked = run("--json", *options, beckett_path, tmp_path / "missing.wav")
    heard, missing = map(json.loads, asked.stdout.splitlines())
    assert (heard["file"], words(heard["text"]), heard["language"]) == (str(beckett_path), BECKETT, "en")
    assert [words(word["text"]) for word in heard["words"]] == BECKETT.split()
    assert all(0 <= word["start"] <= word["end"] <= heard["duration"] for word in heard["words"])
    assert missing["error"] == "FileNotFoundError"

    spoken = run("--diarize", beckett_path).stdout
    assert spoken.startswith(f"{beckett_path}: Speaker 1: Ever")
    told = json.loads(run("--diarize", "--speakers=3", "--json", beckett_path).stdout)
    assert {each["speaker"] for each in (*told["segments"], *told["words"])} == {0}
    assert {each["speaker"] for each in heard["segments"]} == {None}
    assert run("--diarize", "--diarize-channels", beckett_path).exit_code == 2
    mono = run("--diarize-channels", beckett_path)
    assert mono.exit_code == 1
    assert "[invalid_option] diarize is channels, and the audio has 1 channel" in mono.stdout

    for wrong, message in {
        "--speakers=2": "[invalid_option] speakers is 2, and diarize is not true",
        "--language=de": "[invalid_option] language is 'de': the served model has en",
        "--task=translate": "[invalid_option] task is 'translate': the served model can transcribe",
        "--prompt=before": "[invalid_option] prompt is 'before': this server does not serve it",
        "--key-terms=none.txt": "--key-terms: there is no file none.txt",
        "--key-terms-boost=11": "[invalid_option] key_terms_boost is 11.0",
    }.items():
        refused = run(wrong, beckett_path)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert message in refused.stderr.replace("\n", " ")


def test_more_files_are_read_at_once_where_there_are_more_batches(model_repository: Path, beckett_path: Path) -> None:
    read = 0

    def paths() -> Iterator[Path]:
        nonlocal read
        for _ in range(FILES_AT_ONCE + 3):
            read += 1
            yield beckett_path

    settings = config.Settings(engine=config.EngineSettings(batches=2))
    with Model(model_repository / "decoder_loop" / "1", settings) as model:
        heard = model.transcribe_many(paths())
        first = next(heard)
        assert read == FILES_AT_ONCE + 3, "none waits for the first to be done"
        assert len({one.transcript and one.transcript.text for one in (first, *heard)}) == 1
