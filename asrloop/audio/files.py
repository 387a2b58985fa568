"""Decodes untrusted audio files to mono 16 kHz, block by block: memory is bounded by the block, whatever the header says.

Containers are recognised by their first bytes. Each one's module finds its bitstreams, and libsndfile decodes them; what has no
module here FFmpeg reads. A file that is cut is decoded as far as it goes.
"""

import re
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain

import numpy as np

from asrloop.audio import aiff, au, caf, flac, mp3, ogg, wav
from asrloop.audio.bitstream import MOST_CHUNKS, Bitstream, Check
from asrloop.audio.containers import accepted, check_format, container_of, not_decoded
from asrloop.audio.ffmpeg import FfmpegFile
from asrloop.audio.length import Length
from asrloop.audio.mixing import Mixer, picked
from asrloop.audio.pcm import MAX_CHANNELS, SAMPLE_RATE, LongAudio, Resampler, Samples, check_duration, check_finite
from asrloop.audio.sndfile import NoSound, Sndfile
from asrloop.errors import InvalidAudio
from asrloop.formats import FORMATS, Format

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


def from_file(content: bytes, max_seconds: float, check: Check = lambda: None) -> Samples:
    """Decode a file of any rate and channel count to mono 16 kHz, f32 [N]; see :func:`blocks`."""
    return np.concatenate([*blocks(content, max_seconds, check)])


def blocks(
    content: bytes,
    max_seconds: float,
    check: Check = lambda: None,
    length: Length | None = None,
    formats: Collection[Format] = FORMATS,
    channel: int | None = None,
) -> Iterator[Samples]:
    """Decode a file of one of ``formats`` to blocks of mono 16 kHz, f32 [N], at least one sample in all.

    ``channel`` is the number of the only one to be heard; None mixes all.
    ``check`` is called between blocks and may raise to end the work. ``length`` is kept up to date. Raises InvalidAudio where there
    is no sound, and TooLong at the first block beyond ``max_seconds``: drop the blocks before it.
    """
    if not content:
        raise InvalidAudio(f"AUDIO has 0 bytes: send the bytes of a file: {accepted(formats)}")
    length = length or Length()
    seconds, reached, yielded, read, unread = 0.0, 0.0, 0, 0, 0
    why_unread = ""
    for stream in _bitstreams(content, max_seconds, check, formats):
        check()
        try:
            for block, until in _decoded(stream, seconds, max_seconds, check, length, channel):
                reached = until
                if block.size:
                    yielded += block.size
                    yield block
            seconds = reached
            read += stream.size
        except NoSound as error:
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


def opened(
    content: bytes, max_seconds: float, formats: Collection[Format] = FORMATS, channel: int | None = None
) -> tuple[Samples | LongAudio, Length]:
    """Decode a file, or one ``channel`` of it, up to HEAD_SECONDS at once, a longer one block by block; see :func:`blocks`."""
    length = Length()
    head, rest = head_and_rest(blocks(content, max_seconds, length=length, formats=formats, channel=channel))
    if rest is None:
        return head, length
    return LongAudio(chain([head], rest), length.seconds, missing=lambda: length.missing), length


def _bitstreams(content: bytes, max_seconds: float, check: Check, formats: Collection[Format]) -> list[Bitstream]:
    """Find the bitstreams by the first bytes. Other formats that libsndfile or FFmpeg read are not accepted."""
    view = memoryview(content)
    magic = bytes(view[:4])
    if wav.is_wav(view):
        check_format("wav", formats)
        return wav.bitstreams(view, max_seconds, check)
    if magic == ogg.MAGIC:
        check_format("ogg", formats)
        return ogg.bitstreams(view, content, max_seconds, check)
    if aiff.is_aiff(view):
        check_format("aiff", formats)
        return aiff.bitstreams(view)
    if magic == au.MAGIC:
        check_format("au", formats)
        return au.bitstreams(view)
    if magic == caf.MAGIC:
        check_format("caf", formats)
        return caf.bitstreams(view)
    start = _behind_id3(view)
    if bytes(view[start : start + 4]) == flac.MAGIC:
        check_format("flac", formats)
        return flac.bitstreams(view[start:], content, start, flac.tries(), check)
    if start and (padding := _PADDING.match(view, start)):
        start = padding.end()
    is_mp3 = mp3.starts_like_mp3(view[start:])
    if not is_mp3 and (container := container_of(view[start:])):
        if container.format is None:
            raise not_decoded(container.name, container.suffix, formats)
        check_format(container.format, formats, container.name)
        return [Bitstream([view[start:]], container=container)]
    if is_mp3 or mp3.is_part(view[start:]):
        check_format("mp3", formats)
        return mp3.bitstreams(view[start:], max_seconds, check)
    raise InvalidAudio(
        f"AUDIO: {len(content)} bytes that are no readable audio file (its first bytes are those of no such file): "
        f"send {accepted(formats)}"
    )


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
    stream: Bitstream, before: float, max_seconds: float, check: Check, length: Length, channel: int | None
) -> Iterator[tuple[Samples, float]]:
    """Yield blocks at 16 kHz, each with the seconds of audio so far, counted from ``before``. Raises NoSound."""
    with FfmpegFile(stream, stream.container, check, length) if stream.container else Sndfile(stream, check) as file:
        rate, channels = file.rate, file.channels
        _check_format(rate, channels)
        check_duration(before + file.frames / rate, max_seconds)
        length.seconds = before + file.frames / rate
        if channel is not None and before and channels != length.channels:
            raise InvalidAudio(
                f"AUDIO has {length.channels} channels up to {before:.1f} s and {channels} behind it: with diarize=channels all "
                "parts of a file have as many; send them apart, or diarize=true"
            )
        length.channels = max(length.channels, channels)
        resample, mixed = Resampler(rate), Mixer(rate) if channel is None else partial(picked, channel)
        got, size, is_last = 0, min(DECODE_FRAMES, DECODE_SECONDS * rate), False
        while not is_last:
            check()
            block, is_last = file.read(size)
            check_finite(block, "AUDIO", got * channels)
            got += len(block)
            check_duration(before + got / rate, max_seconds)
            yield resample(mixed(block), last=is_last), before + got / rate
        missing, slack = file.missing()
        length.miss(missing, max(TORN_SECONDS, slack))


def _check_format(rate: int, channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidAudio(f"AUDIO has {channels} channels: the limit is {MAX_CHANNELS}; mix it to mono")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidAudio(f"AUDIO says a sample rate of {rate} Hz: it must be between {MIN_RATE} and {MAX_RATE}")
