"""Reads safetensors files: one, or several that an index lists. A file is the length of a JSON header (u64), the header with every
tensor's type, shape and place, and the tensors' bytes."""

import json
import mmap
import struct
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrloop.families.quantize.layer import Array, Linear

TENSOR_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class _Place(NamedTuple):
    file: Path
    data: memoryview
    dtype: str
    shape: tuple[int, ...]


class Tensors:
    """Tensors by name, as f32. Read where they lie: a file is mapped, not loaded."""

    def __init__(self, directory: Path, kind: str) -> None:
        """Open the file or files in ``directory``; ``kind`` is the model that they should hold, for messages.

        Raises FileNotFoundError, and ValueError for files that are damaged.
        """
        self._kind = kind
        self._places: dict[str, _Place] = {}
        self._directory = directory
        for path in _files(directory):
            self._places |= _places(path)

    def get(self, name: str) -> Array | None:
        return self[name] if name in self._places else None

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Array:
        if name not in self._places:
            raise ValueError(f"{self._directory} has no tensor {name!r}; is it a {self._kind} checkpoint?")
        place = self._places[name]
        return _as_float(place, name).reshape(place.shape)

    def linear(self, name: str) -> Linear:
        """Read a layer; checkpoints store ``[outputs, inputs]``."""
        return Linear(np.ascontiguousarray(self[f"{name}.weight"].T), self.get(f"{name}.bias"))


def _files(directory: Path) -> list[Path]:
    index = directory / INDEX_FILE
    if (directory / TENSOR_FILE).is_file() or not index.is_file():
        return [directory / TENSOR_FILE]
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{index} is no index of safetensors files: it has no weight_map; fetch it again") from None
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{index} names files that are not beside it; fetch the checkpoint again")
    return [directory / name for name in sorted(names)]


def _places(path: Path) -> dict[str, _Place]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: fetch the checkpoint again, with all its files")
    size = path.stat().st_size
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    cut = f"{path} has {size} bytes, fewer than its header says: it was cut short; fetch it again"
    if size < 8:
        raise ValueError(cut)
    (length,) = struct.unpack_from("<Q", data)
    if (size_of_data := size - 8 - length) < 0:
        raise ValueError(cut)
    unreadable = f"{path} is no safetensors file: its header cannot be read; fetch it again"
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
    except ValueError:
        raise ValueError(unreadable) from None
    if not isinstance(header, dict):
        raise ValueError(unreadable)  # noqa: TRY004 - the file is wrong, no type in a call
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if all(
                isinstance(size, int) and size >= 0 for size in shape
            ):
                pass
            case _:
                raise ValueError(unreadable)
        if not 0 <= begin <= end <= size_of_data:
            raise ValueError(cut)
        found[name] = _Place(path, data[8 + length + begin : 8 + length + end], dtype, tuple(shape))
    return found


_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _as_float(place: _Place, name: str) -> Array:
    if place.dtype not in _TYPES:
        raise ValueError(f"{place.file}: tensor {name!r} has type {place.dtype}; F32, F16 and BF16 are supported")
    needed = prod(place.shape) * np.dtype(_TYPES[place.dtype]).itemsize
    if len(place.data) != needed:
        raise ValueError(
            f"{place.file}: tensor {name!r} of shape {list(place.shape)} has {len(place.data)} bytes, it needs {needed}; "
            "fetch it again"
        )
    stored: NDArray[Any] = np.frombuffer(place.data, _TYPES[place.dtype])
    return bfloat16(stored) if place.dtype == "BF16" else stored.astype(np.float32)


def bfloat16(stored: NDArray[np.uint16]) -> Array:
    """Return bf16 numbers, which are the upper halves of f32 ones."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
