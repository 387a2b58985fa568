"""Statistics of a model's activations, gathered in calibration."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrloop.families.quantize.layer import Array


@dataclass(frozen=True)
class Observation:
    """Statistics of a layer's input vectors: least and greatest value of each component, f32 [inputs], and the sum of the outer
    products of all vectors, f64 [inputs, inputs]."""

    least: Array
    greatest: Array
    moment: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: Array) -> "Observation":
        """Observe ``vectors`` f32 [count, inputs]."""
        moment = (vectors.T @ vectors).astype(np.float64)
        return cls(vectors.min(axis=0), vectors.max(axis=0), moment)

    def joined(self, other: "Observation") -> "Observation":
        """Return the statistics of both sets of vectors together."""
        least, greatest = np.minimum(self.least, other.least), np.maximum(self.greatest, other.greatest)
        return Observation(least, greatest, self.moment + other.moment)

    def divided(self, factor: Array) -> "Observation":
        """Return the statistics of the vectors divided by ``factor`` f32 [inputs]."""
        wide = factor.astype(np.float64)
        return Observation(self.least / factor, self.greatest / factor, self.moment / np.outer(wide, wide))


@dataclass(frozen=True)
class CrossLimit:
    """Greatest magnitude of each component of a layer's cross keys and values, f32 [hidden_size] each."""

    key: Array
    value: Array


@dataclass(frozen=True)
class Observations:
    """Inputs of the encoder's and the decoder's layers by layer name, and the cross limits of every decoder layer."""

    encoder: Mapping[str, Observation]
    decoder: Mapping[str, Observation]
    cross: list[CrossLimit]
