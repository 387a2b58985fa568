"""Speech with reference texts: a manifest of JSON lines."""

import json
from dataclasses import dataclass
from pathlib import Path

from asrloop.audio import Samples
from asrloop_bench.method import clips

LINE = '{"audio": PATH, "text": WORDS}'


@dataclass(frozen=True)
class Reference:
    audio: Path
    text: str

    @property
    def samples(self) -> Samples:
        """The audio as f32 [N], 16 kHz."""
        return clips.read(self.audio)


def read(path: Path) -> list[Reference]:
    """Read JSON lines with ``audio`` (a path, relative to the manifest) and ``text``. Raises ValueError that names the line."""
    references = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            references.append(Reference(path.parent / entry["audio"], str(entry["text"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error!r}; each line is {LINE}") from None
    if not references:
        raise ValueError(f"{path}: no lines; each line is {LINE}")
    return references
