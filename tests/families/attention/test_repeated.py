"""Rows that are one memory: what is written to any is read from all, and it is given back."""

from pathlib import Path

import numpy as np
import pytest

from asrloop.families.attention.repeated import capacity, repeated_zeros


def test_rows_are_the_same_memory() -> None:
    array = repeated_zeros((5, 4, 256), np.float32)
    assert array.flags.c_contiguous
    assert not array.any()
    array[3, 2, 7] = 4.0
    assert array[:, 2, 7].tolist() == [4.0] * 5
    assert array.sum() == 20.0


def test_a_row_that_ends_within_a_page_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 4000 bytes; they must be a multiple of"):
        repeated_zeros((2, 1000), np.float32)


@pytest.mark.parametrize(("least", "bytes_each"), [(1, 320), (64, 320), (65, 320), (121, 1536), (10, 4096), (10, 8192)])
def test_capacity_fills_whole_pages(least: int, bytes_each: int) -> None:
    found = capacity(least, bytes_each)
    assert found >= least
    assert found * bytes_each % 4096 == 0
    assert capacity(found, bytes_each) == found


def test_the_memory_is_given_back() -> None:
    def mappings() -> int:
        return sum("asrloop-repeated" in line for line in Path("/proc/self/maps").read_text().splitlines())

    before = mappings()
    array = repeated_zeros((6, 4096), np.int8)
    assert mappings() == before + 6
    del array
    assert mappings() == before
