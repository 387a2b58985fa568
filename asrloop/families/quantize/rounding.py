"""Rounds a matrix to integers so that its products with real activations, not its elements, change least (GPTQ, Frantar et
al. 2022, arXiv:2210.17323)."""

import numpy as np
from numpy.typing import NDArray

from asrloop.families.quantize.layer import Array

DAMPING = 0.01
"""Part of the mean squared activation that is added to every component, so that the moment can be inverted."""


def integers(matrix: Array, moment: NDArray[np.float64] | None, greatest: int) -> tuple[NDArray[np.int8], Array]:
    """Return ``matrix`` as s8 [inputs, outputs] in -greatest..greatest and the f32 [outputs] scale of each column.

    Inputs are rounded one after another; the inputs behind make up for the error of each as well as they can by ``moment``, the
    activations' summed outer products, f64 [inputs, inputs]. Without it each is rounded to the nearest.
    """
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / greatest
    if moment is None:
        return np.round(matrix / scale).astype(np.int8), scale.astype(np.float32)
    damped = moment + np.eye(len(moment)) * (DAMPING * moment.diagonal().mean() + 1e-9)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)
    left = (matrix / scale).astype(np.float32)
    values = np.empty(matrix.shape, np.int8)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        errors = np.empty((stop - start, matrix.shape[1]), np.float32)
        for row in range(start, stop):
            rounded = np.clip(np.round(left[row]), -greatest, greatest)
            values[row] = rounded
            errors[row - start] = (left[row] - rounded) / upper[row, row]
            left[row + 1 : stop] -= np.outer(upper[row, row + 1 : stop], errors[row - start])
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return values, scale.astype(np.float32)


BLOCK = 32
"""Rows that are rounded before the rest of the matrix is brought up to date; only speed depends on it."""
