"""A Whisper model as a source gives it: weights, vocabulary, and the tokens that steer it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asrloop.families.quantize.layer import Array, Linear
from asrloop.families.text.byte_level import piece_bytes
from asrloop.families.text.vocabulary import Vocabulary
from asrloop.families.whisper.weights import Norm, WhisperConfig, WhisperWeights

MULTILINGUAL_SIZE = 51865
"""Least vocabulary of a multilingual model; those of OpenAI that speak English only have one token less."""

ISO = {"jw": "jv"}
"""Codes of ISO 639 for those that Whisper's tokens have instead."""

_SPECIAL = re.compile(r"<\|.*\|>", re.DOTALL)
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True)
class Tokens:
    """Tokens that steer a model; None for what its vocabulary does not have."""

    eot: int
    """End of the text. All tokens before it are text, and all behind it steer."""

    sot: int
    no_timestamps: int
    previous: int | None
    """Begins the text that came before."""

    transcribe: int | None
    translate: int | None
    languages: Mapping[str, int]
    """By ISO 639 code; empty for a model that speaks English only."""

    suppressed: tuple[int, ...]
    """Tokens that are never taken."""

    not_first: tuple[int, ...]
    """Tokens that a text never begins with."""


class Source(Protocol):
    """A folder that holds a model in one of the formats."""

    config: WhisperConfig

    def weights(self) -> WhisperWeights:
        """Read the weights. Raises ValueError when one is missing or does not fit the others."""

    def vocabulary(self) -> tuple[Vocabulary, Tokens]:
        """Read vocabulary and tokens. Raises ValueError when they do not fit the weights."""


class Shaped:
    """Reads tensors of known shape by name."""

    def __init__(self, read: Callable[[str], Array], where: Path, said_by: str) -> None:
        """``read`` gives a tensor; ``where`` holds it and ``said_by`` names what says its shape, for messages."""
        self._read = read
        self._where = where
        self._said_by = said_by

    def __call__(self, name: str, *shape: int) -> Array:
        found = self._read(name)
        if found.shape != shape:
            raise ValueError(
                f"{self._where}: tensor {name!r} has shape {list(found.shape)}, {self._said_by} says {list(shape)}: the files do "
                "not belong together; fetch the model again"
            )
        return found

    def linear(self, name: str, inputs: int, outputs: int, *, bias: str = "") -> Linear:
        """Read a layer, which files hold as ``[outputs, inputs]``; ``bias`` is the name of its bias."""
        matrix = np.ascontiguousarray(self(name, outputs, inputs).T)
        return Linear(matrix, self(bias, outputs) if bias else None)

    def norm(self, scale: str, bias: str, size: int) -> Norm:
        return Norm(self(scale, size), self(bias, size))


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that must hold an object. Raises FileNotFoundError and ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: fetch the model again, with all its files")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); fetch the model again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; fetch the model again")  # noqa: TRY004 - the file is wrong
    return content


def read_names(directory: Path) -> tuple[Path, dict[int, str]]:
    """Return the file with the tokens in ``directory`` and what each is written as. Raises FileNotFoundError and ValueError."""
    for name, read in _READERS.items():
        path = directory / name
        if path.is_file():
            try:
                return path, read(path)
            except (KeyError, TypeError, AttributeError, ValueError):
                raise ValueError(f"{path} is no list of tokens as it should be; fetch the model again") from None
    raise FileNotFoundError(f"{directory} has none of {', '.join(_READERS)}: fetch the model again, with all its files")


def tokens_of(
    directory: Path,
    size: int,
    suppressed: object,
    not_first: object,
    *,
    multilingual: bool,
) -> tuple[Vocabulary, Tokens]:
    """Return vocabulary and tokens of a model with ``size`` tokens. ``suppressed`` and ``not_first`` are what its files name.

    Raises FileNotFoundError, and ValueError for what does not fit.
    """
    path, names = read_names(directory)
    if min(names, default=0) < 0:
        raise ValueError(f"{path} has a token {min(names)}: they count from 0; fetch the model again")
    if max(names, default=-1) >= size:
        raise ValueError(
            f"{path} has tokens up to {max(names)}, the weights have {size}: they do not belong together; fetch the model again"
        )
    special = {name: token for token, name in names.items() if _SPECIAL.fullmatch(name)}
    for needed in ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"):
        if needed not in special:
            raise ValueError(f"{path} has no token {needed}: is it a Whisper model?")
    never, not_at_first = (_listed(tokens, size, directory) for tokens in (suppressed, not_first))
    eot = special["<|endoftext|>"]
    pieces = [b""] * size
    for token, name in names.items():
        if token < eot:
            pieces[token] = piece_bytes(name)
    languages = {
        ISO.get(found[1], found[1]): token for name, token in special.items() if (found := _LANGUAGE.fullmatch(name))
    }
    steering = range(eot + 1, size)
    tokens = Tokens(
        eot=eot,
        sot=special["<|startoftranscript|>"],
        no_timestamps=special["<|notimestamps|>"],
        previous=special.get("<|startofprev|>"),
        transcribe=special.get("<|transcribe|>"),
        translate=special.get("<|translate|>"),
        languages=dict(sorted(languages.items(), key=lambda pair: pair[1])) if multilingual else {},
        suppressed=tuple(sorted({*never, *steering} - {eot})),
        not_first=tuple(sorted(not_at_first)),
    )
    if multilingual and (not languages or tokens.transcribe is None or tokens.translate is None):
        raise ValueError(
            f"{path} lacks tokens of languages or tasks, and the model is multilingual; fetch the model again"
        )
    return Vocabulary(pieces), tokens


def _listed(tokens: object, size: int, directory: Path) -> set[int]:
    """Return the tokens that a file lists; -1 and null stand for none. Raises ValueError for what is no list of tokens."""
    if tokens is None:
        return set()
    if not isinstance(tokens, list):
        raise ValueError(f"{directory}: suppressed tokens are {tokens!r:.80}, not a list; fetch the model again")  # noqa: TRY004 - the file is wrong
    for token in tokens:
        if not (isinstance(token, int) and -1 <= token < size):
            raise ValueError(
                f"{directory}: token {token!r} is suppressed, the model has 0..{size - 1}; fetch the model again"
            )
    return {token for token in tokens if token >= 0}


def _tokenizer_json(path: Path) -> dict[int, str]:
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {int(token): str(name) for name, token in document["model"]["vocab"].items()}
    return names | {int(added["id"]): str(added["content"]) for added in document.get("added_tokens", [])}


def _vocab_json(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for file in (path, path.parent / "added_tokens.json"):
        if file.is_file():
            names |= {int(token): str(name) for name, token in json.loads(file.read_text(encoding="utf-8")).items()}
    return names


def _list_json(path: Path) -> dict[int, str]:
    return {token: str(name) for token, name in enumerate(json.loads(path.read_text(encoding="utf-8")))}


def _lines(path: Path) -> dict[int, str]:
    return dict(enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")))


_READERS: dict[str, Callable[[Path], dict[int, str]]] = {
    "vocabulary.json": _list_json,
    "vocabulary.txt": _lines,
    "tokenizer.json": _tokenizer_json,
    "vocab.json": _vocab_json,
}
"""Of each file that may list the tokens: those of CTranslate2, then those of Hugging Face."""
