"""Odd but honest files, made here from good ones: what recorders, pipes, radio and `cat` write."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
PIPE_SIZES = (0, 0x7FFFFF00, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""What arecord, sox, ffmpeg and others write into a WAV header when they cannot seek back."""


def encoded(samples: Samples, rate: int, container: str, subtype: str, **options: Any) -> bytes:
    """The file that libsndfile writes of 16 kHz ``samples`` at ``rate``."""
    buffer = io.BytesIO()
    at_rate = samples if rate == 16_000 else soxr.resample(samples, 16_000, rate)
    soundfile.write(buffer, at_rate, rate, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def mp3(samples: Samples, rate: int = 44_100, mode: str = "VARIABLE") -> bytes:
    return encoded(samples, rate, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)


def without_xing(content: bytes) -> bytes:
    """Without the first frame, which counts the others."""
    tag = max(content.find(b"Xing"), content.find(b"Info"))
    return content[content.index(content[:2], tag) :]


def id3(size: int = 300) -> bytes:
    return b"ID3\x04\x00\x00" + bytes([0, 0, size >> 7, size & 0x7F]) + bytes(size)


def flac_without_total(samples: Samples, rate: int = 16_000) -> bytes:
    content = bytearray(encoded(samples, rate, "FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pcm16(samples: Samples) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


FORM = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))


def piped_wav(samples: Samples, size: int) -> bytes:
    content = bytearray(riff(FORM, chunk(b"data", pcm16(samples))))
    struct.pack_into("<I", content, 4, size)
    struct.pack_into("<I", content, 40, size)
    return bytes(content)


def halves(samples: Samples) -> tuple[Samples, Samples]:
    """Cut in a pause of beckett.wav."""
    window = np.convolve(np.abs(samples), np.ones(1600), "same")
    middle = len(samples) // 3 + int(window[len(samples) // 3 : len(samples) * 2 // 3].argmin())
    return samples[:middle], samples[middle:]


def mp3_in_wav(samples: Samples) -> bytes:
    form = chunk(b"fmt ", struct.pack("<HHIIHHHHIHHH", 0x55, 1, 44_100, 8_000, 1, 0, 12, 1, 2, 1152, 1, 1393))
    return riff(form, chunk(b"fact", struct.pack("<I", len(samples))), chunk(b"data", without_xing(mp3(samples))))


def silent_mp2(samples: Samples) -> bytes:
    """Layer 2 at 44.1 kHz, 128 kbit/s, as long as ``samples``: libsndfile writes none. A frame of zeros is silence."""
    padded = (b"\xff\xfd\x82\xc4".ljust(418, b"\0"), b"\xff\xfd\x80\xc4".ljust(417, b"\0"))
    return b"".join(padded[number % 25 == 24] for number in range(round(len(samples) / 16_000 * 44_100 / 1152)))


def ogg_flac(samples: Samples) -> bytes:
    """FLAC in pages of up to 4 kB; who reads them does not need the limits of packets."""
    native = encoded(samples, 16_000, "FLAC", "PCM_16")
    bodies = [b"\x7fFLAC\x01\x00\x00\x01" + native[:42]]
    bodies += [native[start : start + 4_080] for start in range(42, len(native), 4_080)]
    pages = []
    for number, body in enumerate(bodies):
        lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
        flags = 2 if number == 0 else 0
        pages.append(ogg_page(flags, 7, number, lacing, body))
    return b"".join(pages)


def ogg_page(flags: int, serial: int, number: int, lacing: bytes, body: bytes, granule: int = 0) -> bytes:
    """A page with its checksum: RFC 3533."""
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, number, 0, len(lacing)) + lacing + body
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", crc) + page[26:]


def ogg_pages(content: bytes) -> list[bytes]:
    pages = []
    while content:
        count = content[26]
        size = 27 + count + sum(content[27 : 27 + count])
        pages.append(content[:size])
        content = content[size:]
    return pages


def caf_of_a_pipe(samples: Samples) -> bytes:
    """The size of the chunk `data` is -1, as Apple's recorders write it, and another chunk comes before it."""
    content = encoded(samples, 16_000, "CAF", "PCM_16")
    at = content.index(b"data")
    note = b"info" + struct.pack(">q", 5) + b"\0\0\0\0\0"
    return content[:52] + note + b"data" + struct.pack(">q", -1) + content[at + 12 :]


def patched(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


ZOO: dict[str, Callable[[Samples], bytes]] = {
    "MP3, VBR, no Xing frame": lambda s: without_xing(mp3(s)),
    "MP3, VBR, no Xing frame, 16 kHz": lambda s: without_xing(mp3(s, 16_000)),
    "MP3, ABR, no Xing frame": lambda s: without_xing(mp3(s, mode="AVERAGE")),
    "MP3, CBR, no Xing frame": lambda s: without_xing(mp3(s, mode="CONSTANT")),
    "MP3, VBR": mp3,
    "MP3, CBR, stereo 48 kHz": lambda s: mp3(np.column_stack([s, s]), 48_000, "CONSTANT"),
    "MP3 between tags": lambda s: id3() + bytes(50) + without_xing(mp3(s)) + b"TAG" + b"x" * 125,
    "MP3s joined": lambda s: b"".join(mp3(half) for half in halves(s)),
    "MP3s joined, tags between": lambda s: b"".join(id3(3000) + mp3(half) for half in halves(s)),
    "MP3s of two rates joined": lambda s: mp3(halves(s)[0], 44_100) + without_xing(mp3(halves(s)[1], 24_000)),
    "MP2": silent_mp2,
    "FLAC": lambda s: encoded(s, 16_000, "FLAC", "PCM_16"),
    "FLAC of unknown length": flac_without_total,
    "FLAC of unknown length, 48 kHz": lambda s: flac_without_total(s, 48_000),
    "FLAC behind an ID3 tag": lambda s: id3() + flac_without_total(s),
    **{f"WAV, sizes {size:#x}": lambda s, size=size: piped_wav(s, size) for size in PIPE_SIZES},
    "WAV, LIST behind data": lambda s: riff(FORM, chunk(b"data", pcm16(s)), chunk(b"LIST", b"INFOICRD odd")),
    "WAV, LIST, fact before": lambda s: riff(chunk(b"LIST", b"INFOodd"), FORM, chunk(b"fact", bytes(4)), chunk(b"data", pcm16(s))),
    "WAV, odd chunk without its pad byte": lambda s: riff(chunk(b"LIST", b"INFOodd")[:-1], FORM, chunk(b"data", pcm16(s))),
    "WAV, data before fmt": lambda s: riff(chunk(b"data", pcm16(s)), FORM),
    "WAV extensible, 24 bit": lambda s: encoded(s, 44_100, "WAVEX", "PCM_24"),
    "WAV, IMA ADPCM": lambda s: encoded(s, 16_000, "WAV", "IMA_ADPCM"),
    "WAV of float, 4 channels": lambda s: encoded(np.column_stack([s] * 4), 16_000, "WAV", "FLOAT"),
    "WAV with MP3 inside": mp3_in_wav,
    "RF64": lambda s: encoded(s, 16_000, "RF64", "PCM_16"),
    "Wave64": lambda s: encoded(s, 16_000, "W64", "PCM_16"),
    "OGG Vorbis": lambda s: encoded(s, 44_100, "OGG", "VORBIS"),
    "OGG Opus": lambda s: encoded(s, 48_000, "OGG", "OPUS"),
    "OGG FLAC": ogg_flac,
    "OGG Vorbis, a chain of two": lambda s: b"".join(encoded(half, 16_000, "OGG", "VORBIS") for half in halves(s)),
    "OGG Opus, a chain of two": lambda s: b"".join(encoded(half, 48_000, "OGG", "OPUS") for half in halves(s)),
    "AIFF": lambda s: encoded(s, 44_100, "AIFF", "PCM_24"),
    "AIFF of a pipe": lambda s: patched(encoded(s, 16_000, "AIFF", "PCM_16"), 42, bytes(4)),
    "AIFF-C, little-endian": lambda s: encoded(s, 16_000, "AIFF", "PCM_16", endian="LITTLE"),
    "AIFF-C, float, 2 channels": lambda s: encoded(np.column_stack([s, s]), 16_000, "AIFF", "FLOAT"),
    "AU": lambda s: encoded(s, 16_000, "AU", "PCM_16"),
    "AU of a pipe": lambda s: patched(encoded(s, 8_000, "AU", "ULAW"), 8, b"\xff" * 4),
    "CAF": lambda s: encoded(s, 16_000, "CAF", "PCM_16"),
    "CAF, little-endian float": lambda s: encoded(s, 44_100, "CAF", "FLOAT", endian="LITTLE"),
    "CAF of a pipe": caf_of_a_pipe,
}  # fmt: skip
