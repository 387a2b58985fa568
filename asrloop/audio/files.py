"""Decodes untrusted audio files to mono 16 kHz, block by block: memory is bounded by the block, whatever the header says.

WAV, FLAC, OGG and MP3 are recognised by their first bytes. Each container's module finds its bitstreams; libsndfile decodes them.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import soundfile

from asrloop.audio import flac, mp3, ogg, wav
from asrloop.audio.bitstream import Bitstream, Check, cut_short
from asrloop.audio.pcm import SAMPLE_RATE, LongAudio, Resampler, Samples, check_duration, check_finite
from asrloop.errors import InvalidAudio

MAX_CHANNELS = 8
MAX_RATE = 192_000
DECODE_FRAMES, DECODE_SECONDS = 65_536, 4
"""Most frames and most seconds of a block that is decoded at once: at a low rate few frames become many samples."""

HEAD_SECONDS = 30
"""Longest file that is handed over whole, which is the fastest way for short ones."""

_DECODER_ERRORS = (soundfile.SoundFileError, RuntimeError, ValueError, OSError)


def from_file(content: bytes, max_seconds: float, check: Check = lambda: None) -> Samples:
    """Decode a file of any rate and channel count to mono 16 kHz, f32 [N]; see :func:`blocks`."""
    return np.concatenate([*blocks(content, max_seconds, check)])


def blocks(
    content: bytes,
    max_seconds: float,
    check: Check = lambda: None,
    announce: Callable[[float], None] = lambda _: None,
) -> Iterator[Samples]:
    """Decode a WAV, FLAC, OGG or MP3 file to blocks of mono 16 kHz, f32 [N], at least one sample in all.

    ``check`` is called between blocks and may raise to end the work. ``announce`` is called with the length so far, in seconds,
    as each header says it. Raises InvalidAudio, and TooLong at the first block beyond ``max_seconds``: drop the blocks before it.
    """
    if not content:
        raise InvalidAudio("AUDIO has 0 bytes: send the bytes of a WAV, FLAC, OGG or MP3 file")
    before = seconds = 0.0
    yielded = 0
    for stream in _bitstreams(content, check):
        for block, until in _decoded(stream, before, max_seconds, check, announce):
            seconds = until
            if block.size:
                yielded += block.size
                yield block
        before = seconds
    if not before:
        raise InvalidAudio("AUDIO has 0 samples: send at least 1")
    if not yielded:
        yield np.zeros(1, np.float32)


def head_and_rest(blocks: Iterator[Samples]) -> tuple[Samples, Iterator[Samples] | None]:
    """Join the first blocks, f32 [N], until they exceed HEAD_SECONDS; return them and the rest, None where nothing is left."""
    head, size = [], 0
    for block in blocks:
        head.append(block)
        size += block.size
        if size > HEAD_SECONDS * SAMPLE_RATE:
            return np.concatenate(head), blocks
    return np.concatenate(head), None


def opened(content: bytes, max_seconds: float) -> Samples | LongAudio:
    """Decode a file up to HEAD_SECONDS at once, a longer one block by block; see :func:`blocks`."""
    announced = [0.0]
    head, rest = head_and_rest(blocks(content, max_seconds, announce=announced.append))
    return head if rest is None else LongAudio(chain([head], rest), announced[-1])


def _bitstreams(content: bytes, check: Check) -> list[Bitstream]:
    """Find the bitstreams by the first bytes. Other formats that libsndfile reads are not accepted."""
    view = memoryview(content)
    if wav.is_wav(view):
        return wav.bitstreams(view, check)
    if bytes(view[:4]) == ogg.MAGIC:
        return ogg.bitstreams(view, content, check)
    start = _behind_id3(view)
    if bytes(view[start : start + 4]) == flac.MAGIC:
        return flac.bitstreams(view[start:], content, start, check)
    while start and start < len(view) and view[start] == 0:  # padding behind a tag
        start += 1
    if mp3.starts_like_mp3(view[start:]):
        return mp3.bitstreams(view[start:], check)
    raise _unreadable(len(content), "its first bytes are those of no such file")


def _behind_id3(view: memoryview) -> int:
    """Return where the audio begins behind ID3v2 tags. Source: id3.org, ID3v2.4 section 3.1."""
    start = 0
    while bytes(view[start : start + 3]) == b"ID3" and len(view) >= start + 10:
        a, b, c, d = (byte & 0x7F for byte in view[start + 6 : start + 10])
        start += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if view[start + 5] & 0x10 else 0)
    return start


def _decoded(
    stream: Bitstream, before: float, max_seconds: float, check: Check, announce: Callable[[float], None]
) -> Iterator[tuple[Samples, float]]:
    """Yield blocks at 16 kHz, each with the seconds of audio so far, counted from ``before``."""
    with _opened(stream) as file:
        rate, channels = int(file.samplerate), int(file.channels)
        _check_format(rate, channels)
        announced = int(file.frames) if stream.frames is None else stream.frames
        check_duration(before + announced / rate, max_seconds)
        announce(before + announced / rate)
        resample = Resampler(rate)
        got, size = 0, min(DECODE_FRAMES, DECODE_SECONDS * rate)
        while True:
            check()
            block = _read(file, stream, size, announced, got)
            check_finite(block, "AUDIO", got * channels)
            got += len(block)
            check_duration(before + got / rate, max_seconds)
            mono = block[:, 0] if channels == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
            is_last = len(block) == 0
            mono = resample(mono, last=is_last)
            yield mono, before + got / rate
            if is_last:
                break
        if got < announced - stream.slack:
            raise _missing(announced, got)


def _opened(stream: Bitstream) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(stream.open())
    except _DECODER_ERRORS as error:
        raise _unreadable(stream.size, getattr(error, "error_string", str(error))) from None


def _read(file: soundfile.SoundFile, stream: Bitstream, size: int, announced: int, got: int) -> Samples:
    try:
        block: Samples = file.read(size, dtype="float32", always_2d=True)
    except _DECODER_ERRORS as error:
        if got < announced:
            raise _missing(announced, got) from None
        raise _unreadable(stream.size, getattr(error, "error_string", str(error))) from None
    return block


def _check_format(rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudio(f"AUDIO has {channels} channels: the limit is {MAX_CHANNELS}; mix it to mono")
    if not 1 <= rate <= MAX_RATE:
        raise InvalidAudio(f"AUDIO says a sample rate of {rate} Hz: it must be between 1 and {MAX_RATE}")


def _missing(announced: int, got: int) -> InvalidAudio:
    return cut_short(f"its header says {announced} samples", f"{got} could be read")


def _unreadable(size: int, reason: str) -> InvalidAudio:
    why = f" ({reason})" if reason else ""
    return InvalidAudio(f"AUDIO: {size} bytes that are no readable audio file{why}: send WAV, FLAC, OGG or MP3")
