"""Description of a family, the constant ``ENTRY`` in its ``entry.py``: everything that the registry needs to know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrloop.engine.family import Family, FamilyInfo


@dataclass(frozen=True)
class FamilyEntry:
    """A family's names, what its models can do, and how they are opened and made."""

    name: str
    """Name in ``--family``, in ``family.json`` and in ``windows.lengths``."""

    info: FamilyInfo
    """Settings may override the windows, and ``family.json`` the languages."""

    open: Callable[..., Family[Any]]
    """Takes the directory, and by name slots, max_audio_seconds, encoder_threads, decoder_threads, graphs and info."""

    build_module: str
    """Its ``build(source, destination, precision, progress)`` writes the files of a model. Imported only then: it needs onnx."""

    precisions: Mapping[str, str]
    """Precision recipes by name, with a description each."""

    usual_precision: Callable[[], str]
    """Returns the recipe that is used by default."""

    source: str
    """Description of what ``--from`` names."""

    wheel_source: Callable[[Path], Path] | None = None
    """Returns the model of a pinned wheel, the default source, and takes the cache of wheels; None where there is none."""

    also_called: tuple[str, ...] = ()
    """Other names in ``--family``."""
