"""Files of the Triton models without weights: config.pbtxt and model.py, from the wheel or the project's tree."""

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def provide(repository: Path) -> None:
    """Copy the models' files into ``repository``. Existing files are kept."""
    source = _source()
    for model in source.glob("*/1"):
        (repository / model.relative_to(source)).mkdir(parents=True, exist_ok=True)
    for path in (*source.glob("*/config.pbtxt"), *source.glob("*/1/model.py")):
        target = repository / path.relative_to(source)
        if not target.exists():
            shutil.copyfile(path, target)


def _source() -> Path:
    packed = _PACKAGE / "model_repository"
    return packed if packed.is_dir() else _PACKAGE.parent / "model_repository"
