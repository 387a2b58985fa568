"""What browsers, phones and cameras write, made here by PyAV: containers and codecs that libsndfile does not take."""

import io
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class Pipe(io.RawIOBase):
    """Something that is written from start to end, as the connection of a browser that records."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.content += bytes(data)
        return len(data)


def recorded(
    samples: Samples,
    container: str,
    codec: str,
    rate: int = 48_000,
    channels: int = 1,
    *,
    piped: bool = False,
    video: str = "",
    options: dict[str, str] | None = None,
    later: tuple[float, float] = (0.0, 0.0),
) -> bytes:
    """``samples``, f32 [N] of 16 kHz, in ``container``; with ``video``, an encoder's name, a track of it comes before the sound.

    ``later``: from the first of these seconds on all sound comes the second of them later.
    """
    at_rate = samples if rate == 16_000 else soxr.resample(samples, 16_000, rate)
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[channels]
    with TemporaryDirectory() as folder:
        path, pipe = Path(folder, "recording"), Pipe()
        target: Any = pipe if piped else str(path)
        with av.open(target, "w", format=container, container_options=options or {}) as output:
            picture: Any = output.add_stream(video, rate=10) if video else None
            if picture:
                picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            sound: Any = output.add_stream(codec, rate=rate, layout=layout, options={"strict": "-2"})
            sound.bit_rate = {"libopencore_amrnb": 12_200, "wmav2": 64_000}.get(codec, 96_000)
            sound.codec_context.open()
            frame_size = sound.codec_context.frame_size or 1024
            resampler = av.AudioResampler(sound.codec_context.format.name, layout, rate, frame_size=frame_size)
            # Packed: PyAV 18 overruns the eight pointers to the planes of a frame.
            packed = np.repeat(at_rate.astype(np.float32), channels)[None]
            whole = av.AudioFrame.from_ndarray(packed, "flt", layout)
            whole.sample_rate, whole.pts, whole.time_base = rate, 0, Fraction(1, rate)
            pictures = 0
            for frame in [*resampler.resample(whole), *resampler.resample(None)]:
                if (frame.time or 0) >= later[0]:
                    frame.pts = (frame.pts or 0) + round(later[1] * rate)
                while picture and pictures / 10 <= float(frame.time or 0):
                    shown = av.VideoFrame.from_ndarray(np.full((48, 64, 3), pictures % 256, np.uint8), "rgb24")
                    shown.pts, shown.time_base = pictures, Fraction(1, 10)
                    output.mux(picture.encode(shown))
                    pictures += 1
                output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
            if picture:
                output.mux(picture.encode(None))
        return bytes(pipe.content) if piped else path.read_bytes()


FRAGMENTED = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"}

RECORDINGS: dict[str, Callable[[Samples], bytes]] = {
    "WebM, Opus": partial(recorded, container="webm", codec="libopus"),
    "WebM, Vorbis": partial(recorded, container="webm", codec="vorbis", channels=2),
    "live WebM, Opus": partial(recorded, container="webm", codec="libopus", piped=True, options={"live": "1"}),
    "Matroska, AAC, video": partial(
        recorded, container="matroska", codec="aac", rate=44_100, channels=2, video="mpeg4"
    ),
    "Matroska, FLAC": partial(recorded, container="matroska", codec="flac"),
    "M4A, AAC": partial(recorded, container="ipod", codec="aac", rate=44_100),
    "M4A, ALAC": partial(recorded, container="ipod", codec="alac", rate=16_000),
    "MP4, Opus": partial(recorded, container="mp4", codec="libopus"),
    "MP4, AAC, video, index first": partial(
        recorded, container="mp4", codec="aac", channels=2, video="mpeg4", options={"movflags": "faststart"}
    ),
    "MP4, AAC, fragments": partial(recorded, container="mp4", codec="aac", piped=True, options=FRAGMENTED),
    "MOV, PCM, video": partial(recorded, container="mov", codec="pcm_s16le", video="mpeg4"),
    "AAC, ADTS": partial(recorded, container="adts", codec="aac"),
    "AMR": partial(recorded, container="amr", codec="libopencore_amrnb", rate=8_000),
    "3GP, AMR": partial(recorded, container="3gp", codec="libopencore_amrnb", rate=8_000),
    "CAF, ALAC": partial(recorded, container="caf", codec="alac", rate=44_100),
    "WMA": partial(recorded, container="asf", codec="wmav2", rate=44_100, channels=2),
    "AVI, MP3, video": partial(recorded, container="avi", codec="libmp3lame", rate=44_100, video="mpeg4"),
    "FLV, AAC, video": partial(recorded, container="flv", codec="aac", rate=44_100, video="flv"),
}
