"""Arrays whose rows are all the same memory: a graph that is given many rows reads and writes one. Knows no model."""

import ctypes
import math
import mmap
import os

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MAP_FIXED = 0x10
"""Flag of Linux's mmap that Python does not name."""


def capacity(least: int, bytes_each: int) -> int:
    """Return the smallest number of entries of ``bytes_each`` bytes, at least ``least``, that fill whole pages."""
    step = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, bytes_each)
    return -(-least // step) * step


def repeated_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return an array of ``shape`` in which all rows (its first dimension) are the same memory, zero at first.

    A row must fill whole pages. Raises OSError when the system does not give the memory.
    """
    rows, size = shape[0], math.prod(shape[1:]) * np.dtype(dtype).itemsize
    if size % mmap.PAGESIZE:
        raise ValueError(f"a row has {size} bytes; they must be a multiple of {mmap.PAGESIZE}, see capacity()")
    addresses = mmap.mmap(-1, rows * size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(addresses))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    memory = os.memfd_create("asrloop-repeated")
    try:
        os.ftruncate(memory, size)
        for row in range(rows):
            wanted = start + row * size
            # Over addresses that are reserved above, so nothing else can be there. They are given back all together.
            access, sharing = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
            if libc.mmap(wanted, size, access, sharing, memory, 0) != wanted:
                raise OSError(ctypes.get_errno(), f"mapping {size} bytes {rows} times failed")
    finally:
        os.close(memory)
    array: NDArray[np.generic] = np.frombuffer(addresses, dtype).reshape(shape)
    return array
