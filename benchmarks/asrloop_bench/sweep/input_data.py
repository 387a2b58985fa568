"""The input file of perf_analyzer: the clips as requests of asr_ensemble, with their expected texts."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asrloop_bench.method.clips import Clip


def write(path: Path, clips: Sequence[Clip], texts: Mapping[str, str] | None) -> None:
    """Write ``path`` with one request a clip, in order. ``texts`` has the expected text by clip name.

    perf_analyzer compares texts over plain gRPC only: over HTTP it insists on every output, which it cannot take when
    an output is of variable size, and in shared memory it compares the whole region. Leave ``texts`` out for those.
    """
    document: dict[str, Any] = {"data": [_request(clip) for clip in clips]}
    if texts is not None:
        document["validation_data"] = [{"TRANSCRIPTS": {"content": [texts[clip.name]], "shape": [1]}} for clip in clips]
    path.write_text(json.dumps(document), encoding="utf-8")


def _request(clip: Clip) -> dict[str, Any]:
    # Shared memory wants the optional input as well.
    encoded = base64.b64encode(clip.samples.tobytes()).decode("ascii")
    return {
        "WAV": {"content": {"b64": encoded}, "shape": [len(clip.samples)]},
        "WAV_LENS": {"content": [len(clip.samples)], "shape": [1]},
    }
