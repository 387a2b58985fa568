"""The models' own files, as the wheel and the project's tree hold them: each model's config.pbtxt and model.py, without weights."""

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def provide(repository: Path) -> None:
    """Give ``repository`` the models' files where they are missing. Files that are there stay as they are."""
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
