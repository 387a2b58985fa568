"""Recognizers that stand beside the default in a model repository: their folders are made, found and deleted here."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asrloop.recognizer import DEFAULT, STREAM, is_name, name_of, recognizer
from asrloop.tritonserver import template


def names_in(repository: Path) -> list[str]:
    """Return the names of the recognizers beside the default, in order. Other models of a user may have names that end alike."""
    loops = [path.parent.name for path in sorted(repository.glob("*_loop/config.pbtxt"))]
    return [name for loop in loops if is_name(name := name_of(loop))]


@contextmanager
def made(repository: Path, name: str) -> Iterator[Path]:
    """Give the folder for the weights of a recognizer, as :func:`provide` does. Where they cannot be made and it is new, nothing of
    it stays: no server starts with a recognizer that has no weights. Raises ValueError for a name that none may have."""
    if not name:
        raise ValueError("the name of the recognizer is empty: give one, such as whisper")
    is_new = name not in names_in(repository)
    try:
        yield provide(repository, name)
    except BaseException:
        if is_new and name in names_in(repository):
            remove(repository, name)
        raise


def provide(repository: Path, name: str) -> Path:
    """Write config.pbtxt and model.py of a recognizer, from those of the default, and return the folder of its weights.

    Existing files are kept. Execution mode bls is the default's alone: the models that it calls have one name each.
    """
    own = recognizer(name)
    for theirs, ours in zip(DEFAULT[:3], own[:3], strict=True):
        source, target = template.source() / theirs, repository / ours
        (target / "1").mkdir(parents=True, exist_ok=True)
        if not (config := target / "config.pbtxt").exists():
            text = (source / "config.pbtxt").read_text(encoding="utf-8")
            text = text.replace(f'"{DEFAULT.loop}"', f'"{own.loop}"').replace('"bls"', '"in_process"')
            config.write_text(text, encoding="utf-8")
        if (model := source / "1" / "model.py").is_file() and not (target / "1" / "model.py").exists():
            shutil.copyfile(model, target / "1" / "model.py")
        template.keep_version(target)
    return repository / own.loop / "1"


def remove(repository: Path, name: str) -> None:
    """Delete the models of a recognizer. Raises ValueError where there is none of that name beside the default."""
    if not name or name not in names_in(repository):
        there = ", ".join(names_in(repository)) or "none"
        raise ValueError(f"{repository} has no recognizer {name!r:.80} beside the default: there are {there}")
    own = recognizer(name)
    for model in own[:3]:  # the loop last: by that it is found, should this be interrupted
        if (folder := repository / model).exists():
            shutil.rmtree(folder)
    (repository / STREAM / "1" / own.description).unlink(missing_ok=True)
