"""Files of the Triton models without weights: config.pbtxt and model.py, from the wheel or the project's tree."""

import shutil
from pathlib import Path

MODELS = ("asr_ensemble", "asr_file", "asr_stream", "audio_frontend", "decoder_loop")

_PACKAGE = Path(__file__).resolve().parents[1]


def provide(repository: Path) -> None:
    """Copy the models' files into ``repository``. Existing files are kept."""
    models = source()
    for model in MODELS:
        (repository / model / "1").mkdir(parents=True, exist_ok=True)
        for file in ("config.pbtxt", "1/model.py"):
            path, target = models / model / file, repository / model / file
            if path.is_file() and not target.exists():
                shutil.copyfile(path, target)
        keep_version(repository / model)


def keep_version(model: Path) -> None:
    """Put a file into an empty folder of a Triton model's version: what copies files only must not lose it."""
    if not any((model / "1").iterdir()):
        (model / "1" / ".gitkeep").touch()


def source() -> Path:
    """Return the folder with the models that the package brings."""
    packed = _PACKAGE / "model_repository"
    return packed if packed.is_dir() else _PACKAGE.parent / "model_repository"
