"""Where the project's own files are: in the working directory, or in the tree that this package runs from."""

import os
import shutil
from pathlib import Path

_TREE = Path(__file__).resolve().parents[1]


def beside_us(name: str) -> Path | None:
    """``name`` in the working directory, or else in the project's tree; None where it is in neither, as after a plain install."""
    return next((path for path in (Path.cwd() / name, _TREE / name) if path.exists()), None)


def cache() -> Path:
    """Where fetched wheels are unpacked: in the project's tree, or after a plain install in the user's cache folder."""
    if (_TREE / "pyproject.toml").is_file():
        return _TREE / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asrloop"


def link_or_copy(file: Path, target: Path) -> None:
    """Put ``file`` at ``target``, which must not exist: a hard link, or a copy where the file system has none."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
