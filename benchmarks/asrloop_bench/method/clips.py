"""Speech to measure with: clips of wanted lengths, cut where it pauses, and manifests of files with reference texts."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asrloop import paths
from asrloop.audio import SAMPLE_RATE, Samples, resampled
from asrloop.wheels import MOONSHINE_SPEECH, moonshine_assets

# The saved runs were measured on clips of these two; a third would change which clips are cut.
SPEECH = MOONSHINE_SPEECH[:2]
_FRAME = SAMPLE_RATE // 50
_EDGE_FRAMES = 5
LINE = '{"audio": PATH, "text": WORDS}'


@dataclass(frozen=True, eq=False)
class Clip:
    name: str
    samples: Samples
    """f32 [N], 16 kHz mono, -1..1."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


class ClipError(ValueError):
    """There is no speech to cut the wanted clips from; the message says what to give."""


def speech_files(directory: Path | None = None) -> list[Path]:
    """Return the WAV and FLAC files of ``directory``, or the speech of the model's wheel. Raises ClipError, WheelError."""
    if directory is None:
        return [moonshine_assets(paths.cache()) / name for name in SPEECH]
    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in (".wav", ".flac"))
    if not files:
        raise ClipError(f"{directory}: no .wav or .flac file in it; give a directory with speech")
    return files


def read(path: Path) -> Samples:
    """Read an audio file as f32 [N], 16 kHz mono."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(samples.mean(axis=1), rate)


def as_file(samples: Samples, kind: str = "FLAC") -> bytes:
    """Return f32 [N], 16 kHz, as the bytes of a 16-bit file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def cut(files: Sequence[Path], seconds: float, count: int) -> list[Clip]:
    """Cut ``count`` clips of exactly ``seconds`` from ``files``, from different places as long as there are any.

    The places are those whose both ends are quietest, among those with at least half the usual loudness. Raises ClipError
    where no file is that long.
    """
    length = round(seconds * SAMPLE_RATE)
    recordings = [samples for samples in map(read, files) if len(samples) >= length]
    if not recordings:
        raise ClipError(f"no recording of at least {seconds:g} s among {len(files)} files; give longer with --audio")
    places = sorted(
        (edge, index, start) for index, samples in enumerate(recordings) for edge, start in _places(samples, length)
    )
    chosen: list[tuple[int, int]] = []
    for apart in (length, 0):  # places that do not overlap first, any others where there are too few
        for _, index, start in places:
            if len(chosen) == count:
                break
            if all(index != other or abs(start - begin) >= max(apart, 1) for other, begin in chosen):
                chosen.append((index, start))
    return [
        Clip(f"{seconds:g}s-{number}", recordings[index][start : start + length].copy())
        for number, (index, start) in enumerate(chosen, 1)
    ]


def mixed(by_length: Sequence[Sequence[Clip]], ratio: Sequence[int]) -> list[Clip]:
    """Return clips of all lengths as often as ``ratio`` says, spread evenly; the clips of one length take turns."""
    if len(by_length) != len(ratio):
        counts = f"{len(by_length)} lengths and {len(ratio)} numbers"
        raise ValueError(f"{counts} in benchmark.mix; give one number a length")
    places = sorted(((turn + 0.5) / times, index, turn) for index, times in enumerate(ratio) for turn in range(times))
    return [by_length[index][turn % len(by_length[index])] for _, index, turn in places]


def _places(samples: Samples, length: int) -> list[tuple[float, int]]:
    """Return (loudness of the louder end, first sample) of every frame where a clip may start."""
    frames = np.sqrt(np.square(samples[: len(samples) // _FRAME * _FRAME]).reshape(-1, _FRAME).mean(axis=1))
    spread = min(_EDGE_FRAMES, length // _FRAME)
    span = length // _FRAME
    found = []
    for first in range(max(1, len(frames) - span + 1)):
        inside = frames[first : first + span]
        if inside.mean() >= 0.5 * frames.mean():
            found.append((float(max(inside[:spread].mean(), inside[-spread:].mean())), first * _FRAME))
    return found


class Reference(NamedTuple):
    audio: Path
    text: str

    @property
    def samples(self) -> Samples:
        """The audio as f32 [N], 16 kHz."""
        return read(self.audio)


def references(path: Path) -> list[Reference]:
    """Read JSON lines with ``audio`` (a path, relative to the manifest) and ``text``. Raises ValueError that names the line."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found.append(Reference(path.parent / entry["audio"], str(entry["text"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error!r}; each line is {LINE}") from None
    if not found:
        raise ValueError(f"{path}: no lines; each line is {LINE}")
    return found
