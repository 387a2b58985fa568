"""The models' own files, as the wheel and the project's tree hold them: each model's config.pbtxt and model.py, without weights."""

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def provide(repository: Path) -> bool:
    """Give ``repository`` the models' files where they are missing; says whether any was. Files that are there stay as they are."""
    source = _source()
    missing = [
        path.relative_to(source)
        for path in (*source.glob("*/config.pbtxt"), *source.glob("*/1/model.py"))
        if not (repository / path.relative_to(source)).exists()
    ]
    for model in source.glob("*/1"):
        (repository / model.relative_to(source)).mkdir(parents=True, exist_ok=True)
    for path in missing:
        shutil.copyfile(source / path, repository / path)
    return bool(missing)


def _source() -> Path:
    packed = _PACKAGE / "model_repository"
    return packed if packed.is_dir() else _PACKAGE.parent / "model_repository"
