"""Any bytes end in samples or in InvalidAudio, within bounded time and memory; nothing else comes out."""

import io
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from asrloop import audio
from asrloop.errors import InvalidAudio, TooLong
from tests.audio import zoo

TONE = np.sin(np.arange(16_000, dtype=np.float32) / 20) * 0.3
GOOD = {name: zoo.ZOO[name](TONE) for name in zoo.ZOO}
MAGICS = (b"RIFF\x00\x00\x00\x00WAVEfmt ", b"RF64", b"riff.\x91\xcf\x11\xa5\xd6(\xdb\x04\xc1\x00\x00", b"fLaC", b"OggS\x00",
          b"ID3\x04\x00\x00\x00\x00\x00\x00", b"\xff\xfb\x90\x64")  # fmt: skip


def is_decoded(content: bytes, max_seconds: float = 3.0) -> bool:
    started = time.thread_time()
    try:
        samples = audio.from_file(content, max_seconds)
    except InvalidAudio:
        return False
    finally:
        assert time.thread_time() - started < 5
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 1 <= samples.size <= max_seconds * 16_000 + 2
    assert np.isfinite(samples).all()
    return True


@settings(max_examples=300)
@given(content=st.one_of(st.binary(), st.builds(lambda m, t: m + t, st.sampled_from(MAGICS), st.binary(max_size=300))))
def test_any_bytes_end_in_samples_or_are_refused(content: bytes) -> None:
    is_decoded(content)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(GOOD)),
    edits=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_any_header_ends_in_samples_or_is_refused(name: str, edits: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD[name])
    for position, value in edits:
        content[position] = value
    is_decoded(bytes(content))


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes changed, a stretch removed, doubled, zeroed, or the end cut."""
    work = bytearray(content)
    for _ in range(random.integers(1, 5)):
        start = int(random.integers(0, max(1, len(work))))
        size = int(random.integers(1, 2_000))
        match random.integers(0, 5):
            case 0:
                for position in random.integers(0, max(1, len(work)), 20):
                    work[position : position + 1] = random.bytes(1)
            case 1:
                del work[start : start + size]
            case 2:
                work[start:start] = work[start : start + size]
            case 3:
                work[start : start + size] = bytes(len(work[start : start + size]))
            case _:
                del work[max(20, start) :]
    return bytes(work)


def test_three_hundred_damaged_files_end_in_samples_or_are_refused() -> None:
    random = np.random.default_rng(7)
    decoded = [is_decoded(mutated(GOOD[name], random)) for name in (list(GOOD) * 300)[:300]]
    assert 0 < sum(decoded) < 300


def test_the_good_ones_are_good() -> None:
    assert [name for name, content in GOOD.items() if not is_decoded(content)] == []


def silence(seconds: float, rate: int, channels: int, container: str, subtype: str) -> bytes:
    """Compressed to almost nothing, written in blocks."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=rate, channels=channels, format=container, subtype=subtype
    ) as file:
        block = np.zeros((rate // 4, channels), np.float32)
        for _ in range(int(seconds * 4)):
            file.write(block)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: silence(0.5, 192_000, 255, "OGG", "VORBIS"), "255 channels: the limit is 8; mix it to mono"),
        (lambda: silence(1, 16_000, 9, "WAV", "PCM_16"), "9 channels: the limit is 8"),
        (
            lambda: silence(1, 384_000, 1, "FLAC", "PCM_16"),
            "sample rate of 384000 Hz: it must be between 100 and 192000",
        ),
        (lambda: silence(60, 96, 1, "WAV", "PCM_U8"), "sample rate of 96 Hz: it must be between 100 and 192000"),
    ],
)
def test_more_channels_or_another_rate_is_refused(content: object, message: str) -> None:
    assert callable(content)
    with pytest.raises(InvalidAudio, match=message):
        audio.from_file(content(), max_seconds=30)


@pytest.mark.parametrize("rate", [100, 1000])
def test_blocks_are_short_at_the_lowest_rates(rate: int) -> None:
    blocks = audio.blocks(silence(100, rate, 1, "WAV", "PCM_U8"), max_seconds=200)
    assert max(block.size for block in blocks) < 15 * audio.SAMPLE_RATE


PEAK = """
import resource, sys, threading, time
from pathlib import Path
from asrloop import audio
from asrloop.errors import InvalidAudio
# ru_maxrss of a child begins with its parent's: read the peak of this very process instead
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) // 1024
content = Path(sys.argv[1]).read_bytes()
audio.from_file(Path(sys.argv[2]).read_bytes(), 30)
before, started, seconds = peak(), time.process_time(), 0.0
try:
    for block in audio.blocks(content, float(sys.argv[3])):
        seconds += block.size / 16000
except InvalidAudio as error:
    print(error, file=sys.stderr)
print(peak() - before, time.process_time() - started, seconds)
"""


def cost(tmp_path: Path, content: bytes, max_seconds: float) -> tuple[float, float, float]:
    """MB beyond what a short file takes, seconds of CPU time, seconds of audio, each in a process of its own."""
    (tmp_path / "big").write_bytes(content)
    (tmp_path / "small").write_bytes(GOOD["OGG Vorbis"])
    command = [sys.executable, "-c", PEAK, str(tmp_path / "big"), str(tmp_path / "small"), str(max_seconds)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    print(run.stdout, run.stderr)
    megabytes, took, heard = map(float, run.stdout.split())
    return megabytes, took, heard


@pytest.mark.parametrize("channels", [8, 255])
def test_a_bomb_costs_little(tmp_path: Path, channels: int) -> None:
    content = silence(2, 192_000, channels, "OGG", "VORBIS")
    megabytes, took, _ = cost(tmp_path, content, 30)
    assert megabytes < 40
    assert took < 3


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_memory_is_bounded_by_the_block_and_not_by_the_file(tmp_path: Path, container: str, subtype: str) -> None:
    content = silence(300, 48_000, 2 if container == "MP3" else 8, container, subtype)  # 460 MB of samples in FLAC
    megabytes, took, heard = cost(tmp_path, content, 3600)
    assert heard == pytest.approx(300, abs=0.1)
    assert megabytes < 40 + 2 * len(content) / 1e6
    assert took < 15


OGG, FLAC_OF_A_PIPE, MP3 = GOOD["OGG Vorbis"], GOOD["FLAC of unknown length"], GOOD["MP3, VBR"]
FRAME, OTHER_FRAME = b"\xff\xf3\x14\xc4".ljust(24, b"\0"), b"\xff\xf3\x18\xc4".ljust(36, b"\0")
HOSTILE = {
    "WAV of chunks": (b"RIFF\0\0\0\0WAVE", b"JUNK\0\0\0\0", b""),
    "WAV, no sound and chunks": (GOOD["WAV, LIST behind data"][:36] + b"data\0\0\0\0", b"JUNK\0\0\0\0", b""),
    "AIFF of chunks": (b"FORM\0\0\0\0AIFF", b"junk\0\0\0\0", b""),
    "CAF of chunks": (GOOD["CAF"][:52], b"junk\0\0\0\0\0\0\0\0", b""),
    "ID3 tags": (b"", b"ID3\4\0\0\0\0\0\0", MP3),
    "zeros behind a tag": (b"ID3\4\0\0\0\0\0\0", b"\0", MP3),
    "OGG of capture patterns": (OGG, b"OggS", b""),
    "OGG of long false pages": (OGG, b"OggS".ljust(26, b"\0") + b"\xff" * 6, b""),
    "OGG of empty pages": (OGG, zoo.ogg_page(0, 7, 0, b"", b""), b""),
    "OGG of streams": (OGG, zoo.ogg_page(2, 7, 0, b"", b"") + zoo.ogg_page(4, 7, 1, b"", b""), b""),
    "OGG of empty packets": (OGG, zoo.ogg_page(0, 7, 0, bytes(255), b""), b""),
    "OGG of FLACs": (b"", zoo.ogg_page(2, 7, 0, b"\x33", b"\x7fFLAC\1\0\0\1" + FLAC_OF_A_PIPE[:42])
                     + zoo.ogg_page(4, 7, 1, b"\xff" * 8, b"\xff\xf8\x69\x08\x41" * 408), b""),
    "FLAC of 0xff": (FLAC_OF_A_PIPE, b"\xff", b""),
    "FLAC of frame heads": (FLAC_OF_A_PIPE, b"\xff\xf8\x69\x08\x41", b""),
    "FLAC of metadata": (GOOD["FLAC"][:4] + b"\0" + GOOD["FLAC"][5:42], b"\1\0\0\0", b""),
    "MP3 of frame heads": (MP3, b"\xff\xfb\x90\0", b""),
    "MP3 of two kinds": (b"", 2 * FRAME + 2 * OTHER_FRAME, b""),
    "MP3 of a week": (b"", FRAME, b""),
    "MP3 of frames and junk": (b"", 2 * FRAME + b"x", b""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_sixteen_megabytes_that_mean_no_good_are_soon_dealt_with(name: str) -> None:
    head, unit, tail = HOSTILE[name]
    content = head + unit * (16_000_000 // len(unit)) + tail
    started = time.thread_time()
    with suppress(InvalidAudio):
        audio.from_file(content, max_seconds=600)
    assert time.thread_time() - started < 5, "it took 10 to 30 s"


def test_a_decoder_writes_nothing_of_a_wrong_header_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    at = MP3.index(b"Xing") + 12
    wrong = zoo.patched(MP3, at, b"\0\xff\xff\xff")
    assert audio.from_file(wrong * 3, 60).size == 3 * audio.from_file(MP3, 60).size
    assert capfd.readouterr().err == ""


def test_damaged_frames_write_nothing_to_the_log() -> None:
    program = """
import sys
from asrloop import audio
from asrloop.audio.quiet import silence_libraries
silence_libraries()
audio.from_file(b"\\xff\\xfb\\x90\\x64".ljust(417, b"\\xff") * 1000, 60)
print("still here", file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stderr == "still here\n"


def test_a_decoder_that_reads_for_long_is_stopped() -> None:
    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise TimeoutError

    calls = 0
    packets = zoo.ogg_page(0, *struct.unpack("<I", OGG[14:18]), 9, b"\1" * 255, bytes(255))
    with pytest.raises(TimeoutError):
        audio.from_file(OGG + packets * 1000, 600, check)


def test_a_chain_ends_at_the_first_stream_beyond_the_limit() -> None:
    given: list[int] = []
    with pytest.raises(TooLong):
        given.extend(block.size for block in audio.blocks(GOOD["OGG Vorbis"] * 8, max_seconds=3))
    assert sum(given) <= 3 * 16_000


def test_what_the_check_raises_ends_the_work_between_blocks(beckett: NDArray[np.float32]) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise TimeoutError

    content = zoo.encoded(beckett, 44_100, "FLAC", "PCM_16")
    with pytest.raises(TimeoutError):
        audio.from_file(content, 30, check)
    assert calls == 2
