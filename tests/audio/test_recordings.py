"""What browsers, phones and cameras write is decoded; a process that crashes, hangs or is ended costs its file alone."""

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop import audio, config
from asrloop.audio import ffmpeg, ffmpeg_worker
from asrloop.audio.decoding import FileDecoder, FileHead
from asrloop.audio.length import Length
from asrloop.config import AudioSettings
from asrloop.errors import DeadlineExceeded, InvalidAudio, RequestError, TooLong
from tests.audio import zoo
from tests.audio.recordings import FRAGMENTED, RECORDINGS, recorded
from tests.conftest import eventually

TONE = np.sin(np.arange(32_000, dtype=np.float32) / 20) * 0.3


def decoded(content: bytes, max_seconds: float = 60) -> tuple[NDArray[np.float32], Length]:
    length = Length()
    return np.concatenate([*audio.blocks(content, max_seconds, length=length)]), length


def program() -> int:
    """Process id of the program that forks; 0 while none runs."""
    return ffmpeg._programs[0]._program.pid if ffmpeg._programs else 0


def forked() -> list[int]:
    """Process ids of the files that are decoded."""
    return [int(each) for each in Path(f"/proc/{program()}/task/{program()}/children").read_text().split()]


@pytest.fixture(scope="module")
def long(beckett: NDArray[np.float32]) -> bytes:
    """Two minutes, more than fits between two processes."""
    return recorded(np.tile(beckett, 12), "ipod", "aac")


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_decoded_to_its_true_end(name: str, beckett: NDArray[np.float32]) -> None:
    samples, length = decoded(RECORDINGS[name](beckett))
    assert samples.size == pytest.approx(beckett.size, abs=1_600)
    loud = [np.sqrt(np.square(part[:153_600].reshape(-1, 6_400)).mean(axis=1)) for part in (beckett, samples)]
    assert np.corrcoef(loud)[0, 1] > 0.9
    assert length.missing == 0


def test_who_sends_no_such_file_pays_nothing() -> None:
    code = (
        "import sys, numpy as np; from asrloop import audio; from asrloop.audio import ffmpeg; from tests.audio import zoo;"
        "audio.from_file(zoo.ZOO['FLAC'](np.zeros(16000, np.float32)), 30);"
        "assert 'av' not in sys.modules and not ffmpeg._programs"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["MP4, AAC, video, index first", "WebM, Opus", "Matroska, FLAC"])
def test_a_recording_that_is_cut_is_decoded_as_far_as_it_goes_and_is_not_complete(
    name: str, beckett: NDArray[np.float32]
) -> None:
    content = RECORDINGS[name](beckett)
    samples, length = decoded(content[: len(content) * 2 // 3])
    seconds, all_of_it = samples.size / 16_000, beckett.size / 16_000
    assert 0.4 * all_of_it < seconds < 0.8 * all_of_it
    assert length.missing == pytest.approx(all_of_it - seconds, abs=0.3)


@pytest.mark.parametrize(
    "name", ["live WebM, Opus", "AAC, ADTS", "AMR", "MP4, AAC, fragments", "AVI, MP3, video", "FLV, AAC, video"]
)
def test_a_cut_in_what_claims_no_length_is_not_known(name: str, beckett: NDArray[np.float32]) -> None:
    content = RECORDINGS[name](beckett)
    samples, length = decoded(content[: len(content) * 2 // 3])
    assert samples.size > 0.4 * beckett.size
    assert length.missing == 0


def test_damage_in_the_middle_is_told(beckett: NDArray[np.float32]) -> None:
    content = bytearray(RECORDINGS["MP4, AAC, video, index first"](beckett))
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    samples, length = decoded(bytes(content))
    assert length.missing > 0.5
    assert samples.size > beckett.size // 2


def damaged(content: bytes) -> bytes:
    """A fifth of it, in the middle, is zeros."""
    start, size = len(content) // 3, len(content) // 5
    return content[:start] + bytes(size) + content[start + size :]


ZEROS_ARE_SOUND = {"MP4, Opus", "3GP, AMR", "AMR", "MOV, PCM, video"}


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name not in ZEROS_ARE_SOUND])
def test_damage_in_the_middle_is_told_by_all(name: str, beckett: NDArray[np.float32]) -> None:
    samples, length = decoded(damaged(RECORDINGS[name](beckett)))
    assert length.missing > 0.2
    assert samples.size > 0.2 * beckett.size


@pytest.mark.parametrize("name", ["live WebM, Opus", "FLV, AAC, video", "M4A, AAC"])
def test_what_follows_damage_keeps_its_time(name: str, beckett: NDArray[np.float32]) -> None:
    samples, _ = decoded(damaged(RECORDINGS[name](beckett)))
    assert samples.size == pytest.approx(beckett.size, abs=1_600)


TIMED: dict[str, dict[str, Any]] = {
    "WebM, Opus": {"container": "webm", "codec": "libopus"},
    "Matroska, AAC": {"container": "matroska", "codec": "aac"},
    "MP4, AAC": {"container": "mp4", "codec": "aac"},
    "MP4, AAC, fragments": {"container": "mp4", "codec": "aac", "piped": True, "options": FRAGMENTED},
}


def first_loud(samples: NDArray[np.float32]) -> float:
    return float((np.abs(samples) > 0.05).argmax()) / 16_000


@pytest.mark.parametrize("name", TIMED)
def test_time_in_which_nothing_was_recorded_is_silence_and_no_loss(name: str) -> None:
    """A microphone that is muted, and Opus where nobody speaks: words behind it keep their times."""
    samples, length = decoded(recorded(TONE, **TIMED[name], later=(1.0, 3.0)))
    assert samples.size / 16_000 == pytest.approx(5, abs=0.15)
    assert np.abs(samples[int(1.2 * 16_000) : int(3.8 * 16_000)]).max() < 0.01
    assert np.abs(samples[int(4.2 * 16_000) : int(4.8 * 16_000)]).max() > 0.2
    assert length.missing == 0


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_sound_that_begins_behind_the_picture_keeps_its_time(container: str) -> None:
    samples, length = decoded(recorded(TONE, container, "aac", video="mpeg4", later=(0.0, 1.5)))
    assert first_loud(samples) == pytest.approx(1.5, abs=0.1)
    assert length.missing == 0
    assert length.seconds == pytest.approx(3.5, abs=0.15)


def test_sound_alone_begins_at_once() -> None:
    samples, _ = decoded(recorded(TONE, "matroska", "aac", later=(0.0, 100.0)))
    assert first_loud(samples) < 0.1


def test_a_time_that_cannot_be_true_is_no_silence() -> None:
    live = {"piped": True, "options": {"live": "1"}}
    samples, _ = decoded(recorded(TONE, "matroska", "aac", later=(1.0, 90_000.0), **live))  # type: ignore[arg-type]
    assert samples.size / 16_000 == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(("container", "codec"), [("matroska", "flac"), ("ipod", "aac"), ("webm", "libopus")])
def test_all_channels_that_are_allowed_are_mixed(container: str, codec: str) -> None:
    samples, length = decoded(recorded(TONE, container, codec, channels=8))
    assert samples.size / 16_000 == pytest.approx(2, abs=0.15)
    assert np.abs(samples).max() > 0.2
    assert length.missing == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: RECORDINGS["M4A, AAC"](TONE)[:6_000], "cut short: M4A (MP4) of 6000 bytes, without its index (moov)"),
        (lambda: RECORDINGS["CAF, ALAC"](TONE)[:9_000], "cut short: CAF of 9000 bytes, without its index (pakt)"),
        (lambda: silent_film(), "AUDIO is MP4 without an audio track: send a recording with sound"),
        (lambda: recorded(TONE, "matroska", "tta"), "AUDIO is Matroska with the codec tta, which is not decoded"),
        (lambda: b"#!AMR\n" + bytes(10), "AUDIO is AMR of 16 bytes that cannot be read"),
        (lambda: b"\x1a\x45\xdf\xa3" * 100, "400 bytes that cannot be read (Invalid data found when processing input): send"),
    ],
)  # fmt: skip
def test_what_has_no_sound_says_why(content: "zoo.Callable[[], bytes]", message: str) -> None:
    with pytest.raises(InvalidAudio, match=re.escape(message)):
        decoded(content())


def silent_film() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        picture = output.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
        output.mux(picture.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(picture.encode(None))
    return file.getvalue()


def test_limits_of_length_channels_and_kinds_hold(long: bytes) -> None:
    with pytest.raises(TooLong):
        decoded(long, max_seconds=60)
    live = RECORDINGS["live WebM, Opus"](np.tile(TONE, 5))
    with pytest.raises(TooLong):
        decoded(live, max_seconds=5)
    with pytest.raises(
        InvalidAudio,
        match=r"AUDIO is WebM, which this server does not take \(audio.formats\): send FLAC, MP4, M4A, MOV or 3GP",
    ):
        next(audio.blocks(live, 60, formats=["flac", "mp4"]))
    with pytest.raises(InvalidAudio, match=r"AUDIO is AU, which .* \(audio.formats\): send WAV or W64$"):
        next(audio.blocks(zoo.ZOO["AU"](TONE), 60, formats=["wav"]))


def test_the_setting_narrows_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASRLOOP_AUDIO__FORMATS", '["wav", "flac"]')
    decoder = FileDecoder(config.load().audio)
    results: list[list[FileHead] | RequestError] = []
    decoder.submit([RECORDINGS["AAC, ADTS"](TONE)], None, results.append)
    assert eventually(lambda: results, 10)
    decoder.close()
    assert "AUDIO is AAC, which this server does not take (audio.formats): send WAV, FLAC or W64" in str(results[0])


def test_a_process_can_open_nothing_and_take_little(long: bytes) -> None:
    blocks = audio.blocks(long, 600)
    next(blocks)
    (pid,) = forked()
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max open files +0 +0 ", limits)
    assert re.search(r"Max file size +0 +0 ", limits)
    most = int(re.search(r"Max address space +(\d+)", limits)[1])  # type: ignore[index]
    assert most < 192 * 2**20 + 200 * 2**20
    assert "ASRLOOP" not in Path(f"/proc/{pid}/environ").read_text()
    names = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115 - not of files
    assert {re.sub(r"[:[(].*", "", each) for each in names} <= {"/dev/null", "/memfd", "socket"}
    blocks.close()  # type: ignore[attr-defined]
    assert eventually(lambda: not forked())


def test_a_process_that_crashes_costs_its_file_alone(long: bytes) -> None:
    """As FFmpeg does that meets a bug: it ends by a signal while it decodes."""
    hurt, other = audio.blocks(long, 600), audio.blocks(long, 600)
    first = next(hurt)
    (pid,) = forked()
    next(other)
    os.kill(pid, signal.SIGSEGV)
    with pytest.raises(InvalidAudio, match=r"AUDIO is M4A \(MP4\) that ends its decoder"):
        list(hurt)
    assert first.size + sum(block.size for block in other) > 100 * 16_000
    assert decoded(long, 600)[0].size > 100 * 16_000


def test_the_program_that_forks_is_started_again(long: bytes) -> None:
    running = audio.blocks(long, 600)
    next(running)
    before = program()
    os.kill(before, signal.SIGKILL)
    assert decoded(long, 600)[0].size > 100 * 16_000
    assert program() not in (0, before)
    assert sum(block.size for block in running) > 100 * 16_000


def test_a_process_that_ends_before_it_begins_costs_no_other(long: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    running = audio.blocks(long, 600)
    first, before, begin, failed = next(running), program(), ffmpeg._Process.begin, []

    def end_once(self: ffmpeg._Process, watch: "zoo.Callable[[ffmpeg._Process], None]") -> None:
        if not failed:
            failed.append(self)
            raise ffmpeg._Ended
        begin(self, watch)

    monkeypatch.setattr(ffmpeg._Process, "begin", end_once)
    assert decoded(long, 600)[0].size > 100 * 16_000
    assert first.size + sum(block.size for block in running) > 100 * 16_000
    assert program() == before


def test_a_process_that_cannot_be_forked_costs_no_other(
    long: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For lack of memory, or with too many processes."""
    failing = tmp_path / "failing.py"
    failing.write_text(
        f"import os, sys; sys.path.insert(0, {str(Path(ffmpeg_worker.__file__).parent)!r})\n"
        "fork, calls = os.fork, []\n"
        "def second_fails():\n    calls.append(0)\n    if len(calls) == 2: raise BlockingIOError\n    return fork()\n"
        "os.fork = second_fails\nimport ffmpeg_worker\nffmpeg_worker.main()\n"
    )
    ffmpeg.close()
    monkeypatch.setattr(ffmpeg_worker, "__file__", str(failing))
    running = audio.blocks(long, 600)
    first = next(running)
    assert decoded(long, 600)[0].size > 100 * 16_000
    assert first.size + sum(block.size for block in running) > 100 * 16_000
    ffmpeg.close()


def test_a_process_that_hangs_ends_also_without_the_program(long: bytes) -> None:
    running = audio.blocks(long, 600)
    next(running)
    (pid,) = forked()
    os.kill(program(), signal.SIGKILL)
    os.kill(pid, signal.SIGSTOP)
    running.close()  # type: ignore[attr-defined]
    assert eventually(
        lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    )
    ffmpeg.close()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each process stops as soon as it runs."""
    begin = ffmpeg._Process.begin

    def begin_and_stop(self: ffmpeg._Process, watch: "zoo.Callable[[ffmpeg._Process], None]") -> None:
        begin(self, watch)
        os.kill(forked()[-1], signal.SIGSTOP)

    monkeypatch.setattr(ffmpeg._Process, "begin", begin_and_stop)
    yield
    assert eventually(lambda: not forked())


def test_a_process_that_hangs_ends_with_the_callers_time(long: bytes, stopped: None) -> None:
    decoder = FileDecoder(AudioSettings())
    results: list[list[FileHead] | RequestError] = []
    started = time.monotonic()
    decoder.submit([long], started + 0.5, results.append)
    assert eventually(lambda: results, 10)
    decoder.close()
    assert isinstance(results[0], DeadlineExceeded)


def test_a_process_that_says_nothing_is_not_waited_for(
    long: bytes, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(InvalidAudio, match=r"whose decoder says nothing for 0.3 s: send the WAV that this makes"):
        decoded(long, 600)


def test_the_time_of_a_process_is_the_files(long: bytes) -> None:
    """A file that costs more than ``audio.decode_seconds`` ends, also where another process pays."""
    decoder = FileDecoder(AudioSettings(decode_seconds=0.02))
    results: list[list[FileHead] | RequestError] = []
    decoder.submit([long], None, results.append)
    assert eventually(lambda: results, 10)
    decoder.close()
    assert "takes over 0.02 s to decode" in str(results[0])


def test_processes_end_with_the_one_that_started_them(long: bytes, tmp_path: Path) -> None:
    path = tmp_path / "long.m4a"
    path.write_bytes(long)
    code = (
        "import sys, os; from pathlib import Path; from asrloop import audio; from asrloop.audio import ffmpeg;"
        f"blocks = audio.blocks(Path({str(path)!r}).read_bytes(), 600); next(blocks);"
        "print(ffmpeg._programs[0]._program.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_sixty_broken_recordings_end_in_samples_or_are_refused() -> None:
    from tests.audio.test_hostile import mutated

    random = np.random.default_rng(28)
    good = [make(TONE) for make in RECORDINGS.values()]
    outcomes = []
    for content in islice((each for _ in range(60) for each in good), 60):
        started = time.monotonic()
        try:
            samples, _ = decoded(mutated(content, random), max_seconds=30)
            outcomes.append(samples.size)
            assert np.isfinite(samples).all()
        except InvalidAudio:
            outcomes.append(0)
        assert time.monotonic() - started < 10  # a busy machine; the fault suite says how long it takes
    assert 0 < np.count_nonzero(outcomes) < 60


def test_the_decoders_that_are_allowed_are_there() -> None:
    assert [name for name in ffmpeg_worker.CODECS if av.Codec(name, "r").name != name] == []
    assert not any(av.Codec(name, "r").type != "audio" for name in ffmpeg_worker.CODECS)


def test_without_pyav_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InvalidAudio, match=r"AUDIO is M4A \(MP4\), which needs PyAV, and that is not installed here: install the"
    ):
        decoded(RECORDINGS["M4A, AAC"](TONE))


def test_a_title_in_another_encoding_does_no_harm(beckett: NDArray[np.float32]) -> None:
    content = RECORDINGS["Matroska, FLAC"](beckett)
    tag = re.search(rb"Lav[cf]\d+", content)
    assert tag is not None
    samples, _ = decoded(content.replace(tag[0], b"\xe9\xe8" + tag[0][2:]))
    assert samples.size == beckett.size
