"""Who spoke when: pyannote's networks hear voices, and what is alike becomes a speaker. Knows no words and no server."""

from pathlib import Path

from asrloop.wheels import SPEAKER_EMBEDDING, SPEAKER_SEGMENTATION


def missing_networks(directory: Path) -> list[str]:
    """Return the names of the networks that are not in ``directory``, that of a prepared model."""
    return [name for name in (SPEAKER_SEGMENTATION, SPEAKER_EMBEDDING) if not (directory / name).is_file()]
