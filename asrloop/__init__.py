"""asrloop: speech recognition on Triton with the decode loop inside the server. This package imports no Triton."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from asrloop.offline import Model

__version__ = "0.1.0"

# ONNX Runtime reports how it is used to its maker, from 1.29 on, unless this is set before it is loaded. Whoever serves others'
# speech has not agreed to that; 0 in the environment allows it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load_model(directory: Path | str | None = None) -> Model:
    """Open a model in this process, without a server; see :func:`asrloop.offline.load_model`."""
    from asrloop import offline  # the engine takes long to import, and a client or a server's model does not need it

    return offline.load_model(directory)
