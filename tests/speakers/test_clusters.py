"""Groups are those of average linkage over cosine distances, in bounded memory."""

import numpy as np
import pytest
from numpy.typing import NDArray

from asrloop.speakers import clusters
from asrloop.speakers.clusters import Clusters, joined, unit


def voices(count: int, each: int, spread: float = 0.5) -> NDArray[np.float32]:
    """Unit vectors around ``count`` directions."""
    draw = np.random.default_rng(3)
    centres = np.repeat(unit(draw.normal(size=(count, 32)).astype(np.float32)), each, axis=0)
    return unit(centres + draw.normal(0, spread / np.sqrt(32), centres.shape).astype(np.float32))


def test_groups_are_scipys() -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    vectors = voices(5, 9, 0.9)
    theirs = hierarchy.fcluster(hierarchy.linkage(vectors, "average", "cosine"), 0.6, "distance")
    sums, weights = joined(vectors, np.ones(len(vectors), np.float32), 0.6, None, 0.0)
    assert sorted(weights) == sorted(np.bincount(theirs)[1:])
    expected = {tuple(np.round(vectors[theirs == one].sum(axis=0), 3)) for one in set(theirs)}
    assert {tuple(np.round(one, 3)) for one in sums} == expected


def found(vectors: NDArray[np.float32], distance: float = 0.7, most: int | None = None, least: float = 2.0) -> int:
    groups = Clusters(vectors.shape[1])
    for vector in vectors:
        groups.add(vector, 1.0)
    return len(groups.centroids(distance, most, least))


def test_as_many_groups_as_there_are_voices_and_no_more_than_asked_for() -> None:
    assert found(voices(4, 10)) == 4
    assert found(voices(4, 10), most=2) == 2
    assert found(voices(4, 10), most=9) == 4
    assert found(voices(1, 1)) == 1


def test_what_weighs_too_little_is_no_group_of_its_own() -> None:
    vectors = np.concatenate([voices(3, 10), unit(np.ones((1, 32), np.float32))])
    assert found(vectors) == 3
    assert found(vectors, least=1.0) == 4


def test_many_are_joined_early_and_stay_apart() -> None:
    vectors = voices(6, 400)[np.random.default_rng(0).permutation(2400)]
    groups = Clusters(32)
    for vector in vectors:
        groups.add(vector, 1.0)
        assert len(groups) < clusters.MOST
    centres = groups.centroids(0.7, None, 2.0)
    assert len(centres) == 6
    assert (np.abs(centres @ centres.T - np.eye(6)) < 0.7).all()
