"""Groups embeddings by agglomerative clustering with average linkage over cosine distances.

Of unit vectors the average distance between two groups is one less the product of their means, so a group is its sum and its
weight. That bounds memory: groups that are surely alike are joined early, and go on as one. SciPy's linkage needs all distances.
"""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

MOST, FEWER = 600, 300
"""So many groups are joined down to FEWER: distances are never more than MOST * MOST."""


class Clusters:
    """Collects embeddings of any number, and returns the means of the groups that they form."""

    def __init__(self, size: int) -> None:
        self._sums = np.zeros((0, size), np.float32)
        self._weights = np.zeros(0, np.float32)

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def weight(self) -> float:
        """Seconds of all."""
        return float(self._weights.sum())

    def add(self, vector: Vectors, weight: float) -> None:
        """Add a unit vector f32 [size] that stands for ``weight`` seconds."""
        self._sums = np.concatenate([self._sums, weight * vector[None]])
        self._weights = np.append(self._weights, np.float32(weight))
        if len(self._weights) >= MOST:
            self._sums, self._weights = joined(self._sums, self._weights, -1.0, FEWER, 0.0)

    def centroids(self, distance: float, most: int | None, least: float) -> Vectors:
        """Return unit vectors f32 [K, size] of the groups, the heaviest first.

        Groups are joined while two are less than ``distance`` apart, and while more than ``most`` weigh ``least``. Those
        that weigh less are left out, unless all do.
        """
        sums, weights = joined(self._sums, self._weights, distance, most, least)
        order = np.argsort(-weights, kind="stable")[:most]
        kept = [one for one in order if weights[one] >= least] or list(order[:1])
        return unit(sums[kept])


def joined(
    sums: Vectors, weights: NDArray[np.float32], distance: float, most: int | None, least: float
) -> tuple[Vectors, NDArray[np.float32]]:
    """Join the closest two of the groups [N, size] while they are less than ``distance`` apart, or while more than ``most`` groups
    weigh at least ``least``. Returns the sums and weights that are left."""
    sums, weights = sums.copy(), weights.copy()
    alike = (sums @ sums.T) / np.outer(weights, weights)
    np.fill_diagonal(alike, -np.inf)
    there = np.ones(len(weights), bool)
    for _ in range(len(weights) - 1):
        one, other = divmod(int(alike.argmax()), len(weights))
        crowded = most is not None and int((there & (weights >= least)).sum()) > most
        if 1 - alike[one, other] >= distance and not crowded:
            break
        sums[one] += sums[other]
        weights[one] += weights[other]
        there[other] = False
        alike[other] = alike[:, other] = -np.inf
        row = (sums @ sums[one]) / (weights * weights[one])
        row[~there] = row[one] = -np.inf
        alike[one] = alike[:, one] = row
    return sums[there], weights[there]


def unit(vectors: Vectors) -> Vectors:
    """Return ``vectors`` f32 [N, size] with length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)
