"""Decodes untrusted audio files to mono 16 kHz, block by block: memory is bounded by the block, whatever the header says.

Containers are recognised by their first bytes. Each one's module finds its bitstreams; libsndfile decodes them. A file that is cut
is decoded as far as it goes.
"""

import re
from collections.abc import Iterator
from itertools import chain

import numpy as np
import soundfile

from asrloop.audio import aiff, au, caf, containers, flac, mp3, ogg, wav
from asrloop.audio.bitstream import MOST_CHUNKS, Bitstream, Check
from asrloop.audio.mixing import Mixer
from asrloop.audio.pcm import SAMPLE_RATE, LongAudio, Resampler, Samples, check_duration, check_finite
from asrloop.errors import InvalidAudio

MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 100, 192_000
"""At a lower rate there is no speech, and one block of the resampler is minutes: 806 s at 1 Hz."""
DECODE_FRAMES, DECODE_SECONDS = 65_536, 4
"""Most frames and most seconds of a block that is decoded at once: at a low rate few frames become many samples."""

HEAD_SECONDS = 30
"""Longest file that is handed over whole, which is the fastest way for short ones."""

TORN_SECONDS = 0.1
"""Sound that may be missing without a word where a container has no frames: recorders count their headers as sound."""

_PADDING = re.compile(rb"\0{,1000000}")
"""Zeros that some writers put behind a tag."""

_DECODER_ERRORS = (soundfile.SoundFileError, RuntimeError, ValueError, OSError)


class Length:
    """Length of a file, in seconds, as far as it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """By its headers."""
        self.missing = 0.0
        """What its headers claim and that is not there."""

    def miss(self, seconds: float, torn: float) -> None:
        """Note that ``seconds`` are missing. Up to ``torn`` it is a last frame that is cut, which takes no words with it."""
        if seconds > torn:
            self.missing += seconds

    def warning(self) -> str:
        """Return what to tell where sound is missing."""
        return f"the file is cut short: {self.missing:.1f} s are missing by its header"


class _NoSound(Exception):
    """Nothing of a bitstream can be decoded; the text is that of the InvalidAudio it becomes where no other has sound."""


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
    """A file that is read from start to end: soundfile would seek after each block, which fails in FLAC that is cut."""

    def seekable(self) -> bool:
        return False


def from_file(content: bytes, max_seconds: float, check: Check = lambda: None) -> Samples:
    """Decode a file of any rate and channel count to mono 16 kHz, f32 [N]; see :func:`blocks`."""
    return np.concatenate([*blocks(content, max_seconds, check)])


def blocks(
    content: bytes, max_seconds: float, check: Check = lambda: None, length: Length | None = None
) -> Iterator[Samples]:
    """Decode a file to blocks of mono 16 kHz, f32 [N], at least one sample in all. ``containers.ACCEPTED`` names the kinds.

    ``check`` is called between blocks and may raise to end the work. ``length`` is kept up to date. Raises InvalidAudio where there
    is no sound, and TooLong at the first block beyond ``max_seconds``: drop the blocks before it.
    """
    if not content:
        raise InvalidAudio(f"AUDIO has 0 bytes: send the bytes of a file: {containers.ACCEPTED}")
    length = length or Length()
    seconds, reached, yielded, read, unread = 0.0, 0.0, 0, 0, 0
    why_unread = ""
    for stream in _bitstreams(content, max_seconds, check):
        check()
        try:
            for block, until in _decoded(stream, seconds, max_seconds, check, length):
                reached = until
                if block.size:
                    yielded += block.size
                    yield block
            seconds = reached
            read += stream.size
        except _NoSound as error:
            unread += stream.size
            why_unread = why_unread or str(error)
    if not seconds:
        raise InvalidAudio(why_unread or "AUDIO has 0 samples: send at least 1")
    # A stream of a chain that cannot be read is about as long as its bytes say.
    length.miss(seconds * unread / read, TORN_SECONDS)
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


def opened(content: bytes, max_seconds: float) -> tuple[Samples | LongAudio, Length]:
    """Decode a file up to HEAD_SECONDS at once, a longer one block by block; see :func:`blocks`."""
    length = Length()
    head, rest = head_and_rest(blocks(content, max_seconds, length=length))
    if rest is None:
        return head, length
    return LongAudio(chain([head], rest), length.seconds, missing=lambda: length.missing), length


def _bitstreams(content: bytes, max_seconds: float, check: Check) -> list[Bitstream]:
    """Find the bitstreams by the first bytes. Other formats that libsndfile reads are not accepted."""
    view = memoryview(content)
    magic = bytes(view[:4])
    if wav.is_wav(view):
        return wav.bitstreams(view, max_seconds, check)
    if magic == ogg.MAGIC:
        return ogg.bitstreams(view, content, max_seconds, check)
    if aiff.is_aiff(view):
        return aiff.bitstreams(view)
    if magic == au.MAGIC:
        return au.bitstreams(view)
    if magic == caf.MAGIC:
        return caf.bitstreams(view)
    start = _behind_id3(view)
    if bytes(view[start : start + 4]) == flac.MAGIC:
        return flac.bitstreams(view[start:], content, start, flac.tries(), check)
    if start and (padding := _PADDING.match(view, start)):
        start = padding.end()
    if mp3.starts_like_mp3(view[start:]):
        return mp3.bitstreams(view[start:], max_seconds, check)
    if refused := containers.refused(view[start:]):
        raise refused
    if mp3.is_part(view[start:]):
        return mp3.bitstreams(view[start:], max_seconds, check)
    raise InvalidAudio(str(_unreadable(len(content), "its first bytes are those of no such file")))


def _behind_id3(view: memoryview) -> int:
    """Return where the audio begins behind ID3v2 tags. Source: id3.org, ID3v2.4 section 3.1."""
    start = 0
    for _ in range(MOST_CHUNKS):
        if bytes(view[start : start + 3]) != b"ID3" or len(view) < start + 10:
            break
        a, b, c, d = (byte & 0x7F for byte in view[start + 6 : start + 10])
        start += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if view[start + 5] & 0x10 else 0)
    return start


def _decoded(
    stream: Bitstream, before: float, max_seconds: float, check: Check, length: Length
) -> Iterator[tuple[Samples, float]]:
    """Yield blocks at 16 kHz, each with the seconds of audio so far, counted from ``before``. Raises _NoSound."""
    pieces = stream.open(check)
    try:
        file = _Forward(pieces)
    except _DECODER_ERRORS as reason:
        raise pieces.stopped or _unreadable(stream.size, reason) from None
    with file:
        rate, channels = int(file.samplerate), int(file.channels)
        _check_format(rate, channels)
        announced = int(file.frames) if stream.frames is None else stream.frames
        check_duration(before + announced / rate, max_seconds)
        length.seconds = before + announced / rate
        resample, mixed = Resampler(rate), Mixer(rate)
        got, size = 0, min(DECODE_FRAMES, DECODE_SECONDS * rate)
        while True:
            check()
            block, error = _read(file, size, channels)
            if pieces.stopped:
                raise pieces.stopped
            check_finite(block, "AUDIO", got * channels)
            got += len(block)
            if error and not got:
                raise _unreadable(stream.size, error)
            check_duration(before + got / rate, max_seconds)
            is_last = len(block) == 0 or error is not None
            yield resample(mixed(block), last=is_last), before + got / rate
            if is_last:
                break
        missing = max(announced, round(got * stream.claims)) - got
        length.miss(missing / rate, max(TORN_SECONDS, stream.slack / rate))


def _read(file: soundfile.SoundFile, size: int, channels: int) -> tuple[Samples, Exception | None]:
    """Return the next block, empty at the end, and the error that ended it, behind which nothing can be read."""
    block = np.full((size, channels), np.nan, np.float32)
    try:
        return file.read(out=block), None
    except _DECODER_ERRORS as error:
        # The decoder says how far it came by nothing else.
        untouched = np.isnan(block).all(axis=1)
        return block[: int(untouched.argmax()) if untouched.any() else size], error


def _check_format(rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudio(f"AUDIO has {channels} channels: the limit is {MAX_CHANNELS}; mix it to mono")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidAudio(f"AUDIO says a sample rate of {rate} Hz: it must be between {MIN_RATE} and {MAX_RATE}")


def _unreadable(size: int, reason: object) -> _NoSound:
    text = str(getattr(reason, "error_string", reason))
    why = f" ({text})" if text else ""
    return _NoSound(f"AUDIO: {size} bytes that are no readable audio file{why}: send {containers.ACCEPTED}")
