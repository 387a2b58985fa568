"""Names of recognizers: the default's Triton models, and those of others that stand beside it in a repository."""

import re
from typing import NamedTuple


class Recognizer(NamedTuple):
    """The Triton models of one recognizer."""

    samples: str
    """Takes samples, as asr_ensemble does."""

    file: str
    """Takes the bytes of a file, as asr_file does."""

    loop: str
    """Decodes, as decoder_loop does."""

    description: str
    """File of asr_stream that says what the recognizer can do."""


DEFAULT = Recognizer("asr_ensemble", "asr_file", "decoder_loop", "family.json")
STREAM = "asr_stream"

_NAME = re.compile(r"[a-z][a-z0-9.-]{0,39}")
_TAKEN = ("asr", "audio", "decoder", "encoder", "family")
"""Beginnings of names that the default's models and files have."""


def recognizer(name: str) -> Recognizer:
    """Return the models of the recognizer ``name``; "" is the default. Raises ValueError for a name that none may have."""
    if not name:
        return DEFAULT
    if not is_name(name):
        raise ValueError(
            f"{name!r:.80} is no name of a recognizer: use up to 40 small letters, digits, dots and dashes, a letter first, "
            f"such as whisper or whisper-large; names that begin with {', '.join(_TAKEN)} are the server's own"
        )
    return Recognizer(name, f"{name}_file", f"{name}_loop", f"{name}.json")


def is_name(name: str) -> bool:
    """Return True for a name that a recognizer beside the default may have."""
    return bool(_NAME.fullmatch(name)) and not name.startswith(_TAKEN)


def name_of(loop: str) -> str:
    """Return the name of the recognizer that has the Triton model ``loop``; "" for the default."""
    return "" if loop == DEFAULT.loop else loop.removesuffix("_loop")


def command(name: str) -> str:
    """Return the command that makes the weights of a recognizer."""
    return f"asrloop models --as {name} --family FAMILY" if name else "asrloop models"


def command_for(loop: str) -> str:
    """Return the command that makes the weights of the Triton model ``loop``; of any other folder that of the default."""
    name = name_of(loop)
    return command(name if is_name(name) and name != loop else "")
