"""Word error rate of a server over a manifest, with the normalisation named."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NORMALISATION = "lower case; hyphens and dashes to spaces; apostrophes and all other punctuation dropped; nothing else"


@dataclass(frozen=True)
class Reference:
    """One line of a manifest."""

    audio: Path
    text: str


@dataclass(frozen=True)
class WordErrors:
    """Counts over all utterances."""

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Errors per word of the reference."""
        return (self.substitutions + self.deletions + self.insertions) / self.words


def read_manifest(path: Path) -> list[Reference]:
    """JSON lines with ``audio`` (a path, relative to the manifest) and ``text``. Raises ValueError that names the line."""
    references = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            references.append(Reference(path.parent / entry["audio"], str(entry["text"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{path}, line {number}: {error!r}; each line is {{"audio": PATH, "text": WORDS}}'
            ) from None
    if not references:
        raise ValueError(f'{path}: no lines; each line is {{"audio": PATH, "text": WORDS}}')
    return references


def normalised(text: str) -> str:
    """``text`` as it is compared; see NORMALISATION."""
    spaced = re.sub(r"[-\u2010-\u2015/]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", spaced).split())


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Align each pair after normalisation; references without a word are left out."""
    import jiwer  # takes long, and only this command needs it

    pairs = [
        (normalised(reference), normalised(hypothesis))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    spoken = [(reference, hypothesis) for reference, hypothesis in pairs if reference]
    if not spoken:
        raise ValueError("no reference has a word; nothing to compare")
    result = jiwer.process_words([reference for reference, _ in spoken], [hypothesis for _, hypothesis in spoken])
    words = result.hits + result.substitutions + result.deletions
    return WordErrors(words, result.substitutions, result.deletions, result.insertions)
