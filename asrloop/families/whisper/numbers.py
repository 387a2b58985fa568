"""Numbers of ``family.json`` that decoding needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from asrloop.families.attention.memory import DecoderSizes

FAMILY = "whisper"


@dataclass(frozen=True)
class WhisperNumbers:
    """Tokens are None where the vocabulary does not have them."""

    precision: str
    decoder: Mapping[str, Any]
    """Sizes of the decoder's graph, see :class:`DecoderSizes`."""

    frames: int
    """Most frames of the encoder, 20 ms each."""

    positions: int
    """Most tokens, with those before the text."""

    eot: int
    """End of the text; all tokens before it are text."""

    sot: int
    no_timestamps: int
    previous: int | None
    transcribe: int | None
    translate: int | None
    language_tokens: Mapping[str, int]
    """By ISO 639 code, in the order in which the graph tells them apart."""

    @classmethod
    def read(cls, path: Path) -> "WhisperNumbers":
        """Read ``family.json``. Raises ValueError when it describes another family."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (family := content.get("family")) != FAMILY:
            raise ValueError(f"{path} describes family {family!r}, not {FAMILY!r}; make the models again")
        return cls(**{field.name: content[field.name] for field in fields(cls)})

    @property
    def decoder_sizes(self) -> DecoderSizes:
        pairs = tuple((layer, head) for layer, head in self.decoder["alignment_heads"])
        values = {**self.decoder, "alignment_heads": pairs, "not_first": tuple(self.decoder["not_first"])}
        return DecoderSizes(**values)
