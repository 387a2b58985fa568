"""Token ids to text. Two file formats hold the same pieces: Moonshine's ``tokenizer.bin`` and Hugging Face's ``tokenizer.json``."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SPACE = "\u2581".encode()  # SentencePiece writes a word's leading space as U+2581
CONTROL = re.compile(rb"<unk>|<s>|</s>|<pad>|<<ST_\d+>>")  # tokens that steer the model and are no text


class Vocabulary:
    """Pieces of a SentencePiece-style vocabulary, as UTF-8 bytes; control tokens are empty."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = tuple(pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def piece(self, token: int) -> str:
        """Return what ``token`` by itself adds to a text; U+FFFD where it holds a part of a UTF-8 character."""
        return self._pieces[token].replace(SPACE, b" ").decode("utf-8", errors="replace")

    def spaced(self) -> list[bytes]:
        """Return all pieces, with a space where a word begins."""
        return [piece.replace(SPACE, b" ") for piece in self._pieces]

    def spelled(self, tokens: Sequence[int]) -> list[str]:
        """Return what each of ``tokens`` adds to their text; a character of several tokens is added by the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [self._pieces[token].replace(SPACE, b" ") for token in tokens]
        return [decoder.decode(piece, final=index == len(pieces)) for index, piece in enumerate(pieces, 1)]

    def text(self, tokens: Iterable[int]) -> str:
        """Return the text of ``tokens``; byte pieces that do not make UTF-8 become U+FFFD."""
        joined = b"".join(self._pieces[token] for token in tokens)
        return joined.replace(SPACE, b" ").decode("utf-8", errors="replace").strip()

    @classmethod
    def read_binary(cls, path: Path) -> "Vocabulary":
        """Read ``tokenizer.bin``: each piece is its length (one byte, or two from 128 on: low seven bits first, then the
        multiple of 128) and its bytes. Length 0 is a token without text."""
        data = path.read_bytes()
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            length = data[at]
            at += 1
            if length >= 128:
                if at == len(data):
                    raise ValueError(f"{path} ends within the length of piece {len(pieces)}")
                length += data[at] * 128 - 128
                at += 1
            if at + length > len(data):
                raise ValueError(
                    f"{path} ends within piece {len(pieces)}: {length} bytes expected at offset {at} of {len(data)}"
                )
            pieces.append(_visible(data[at : at + length]))
            at += length
        return cls(pieces)

    @classmethod
    def read_hugging_face(cls, path: Path) -> "Vocabulary":
        """Read ``tokenizer.json`` of a BPE tokenizer with byte fallback (pieces ``<0x0A>`` are single bytes)."""
        document = json.loads(path.read_text(encoding="utf-8"))
        ids: dict[str, int] = dict(document["model"]["vocab"])
        special = set()
        for added in document.get("added_tokens", []):
            ids[added["content"]] = added["id"]
            if added.get("special"):
                special.add(added["id"])
        pieces = [b""] * (max(ids.values()) + 1)
        for piece, token in ids.items():
            if token not in special:
                pieces[token] = _visible(_piece_bytes(piece))
        return cls(pieces)

    def to_bytes(self) -> bytes:
        """Return the content of a ``tokenizer.bin``."""
        out = bytearray()
        for piece in self._pieces:
            length = len(piece)
            out += bytes([length]) if length < 128 else bytes([128 + length % 128, length // 128])
            out += piece
        return bytes(out)


def _piece_bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.encode()


def _visible(piece: bytes) -> bytes:
    return b"" if CONTROL.fullmatch(piece) else piece
