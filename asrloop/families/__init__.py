"""Model families, one file each. ``open_family`` finds out which one a model repository holds and opens it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrloop.config import Settings
from asrloop.cores import usable_cores
from asrloop.families.moonshine import Moonshine
from asrloop.families.transducer_files import open_transducer
from asrloop.family import Family

Tensors = Mapping[str, NDArray[np.generic]]
Graphs = Mapping[str, Callable[[Tensors], Tensors]]


def open_family(repository: Path, settings: Settings, graphs: Graphs | None = None) -> Family[Any]:
    """Open the family whose ``decoder/1/family.json`` is in ``repository``.

    ``graphs`` has callables that run ``encoder`` and ``decoder`` elsewhere; without it ONNX Runtime sessions are opened
    on the files, with as many threads as the settings or the cores say. Raises OSError and ValueError with the mend.
    """
    encoder, decoder = repository / "encoder" / "1", repository / "decoder" / "1"
    description = decoder / "family.json"
    if not description.is_file():
        raise FileNotFoundError(f"{description} is missing; make the models with `make models`")
    families: dict[str, Callable[..., Family[Any]]] = {"moonshine": Moonshine, "transducer": open_transducer}
    name = json.loads(description.read_text(encoding="utf-8")).get("family")
    if name not in families:
        raise ValueError(f"{description}: family is {name!r}, known are {', '.join(families)}; make the models again")
    return families[name](
        encoder,
        decoder,
        slots=settings.engine.slots,
        max_audio_seconds=settings.audio.max_seconds,
        encoder_threads=settings.engine.encoder_threads or usable_cores(),
        # Half the cores: steps are short, and the other half encodes newcomers meanwhile.
        decoder_threads=settings.engine.decoder_threads or max(1, usable_cores() // 2),
        encoder_call=graphs and graphs["encoder"],
        decoder_call=graphs and graphs["decoder"],
    )
