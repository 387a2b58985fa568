"""Paths of the project's files: in the working directory, or in the source tree of this package."""

import os
import shutil
from pathlib import Path

_TREE = Path(__file__).resolve().parents[1]


def beside_us(name: str) -> Path | None:
    """Return the path of ``name`` in the working directory, else in the project's tree; None when it is in neither."""
    return next((path for path in (Path.cwd() / name, _TREE / name) if path.exists()), None)


def cache() -> Path:
    """Return the folder for unpacked wheels: in the project's tree, or after a plain install in the user's cache folder."""
    if (_TREE / "pyproject.toml").is_file():
        return _TREE / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asrloop"


def link_or_copy(file: Path, target: Path) -> None:
    """Hard-link ``file`` to ``target``, which must not exist, or copy it where the file system has no hard links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
