"""Which pairs of a periodic box lie inside one molecule, whichever images its atoms were written in.

A molecule is put together along its shortest distances (a minimum spanning tree over its own pairs, through the cell's
faces); a pair is inside where its image is the one that this puts its atoms in. Another image of the same molecule is a
neighbour like any other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlff.frames import Configuration
from mlff.neighbours import Pairs


def between_molecules(c: Configuration, pairs: Pairs) -> NDArray[np.bool_]:
    """`(n_pairs,)`: True where the two atoms belong to different molecules, or to two images of one.

    Raises `ValueError` where the configuration does not say which atoms make up a molecule, or where a molecule does not
    hold together within the reach of `pairs`.
    """
    if c.fragments is None:
        raise ValueError("which atoms make up a molecule is not known: the frame names no fragments")
    i, j, shift = pairs.i.numpy(), pairs.j.numpy(), pairs.shift.numpy()
    same = c.fragments[i] == c.fragments[j]
    image = _images(c, i[same], j[same], shift[same])
    inside = np.zeros(len(i), bool)
    inside[same] = (image[j[same]] - image[i[same]] == shift[same]).all(axis=1)
    return ~inside


def _images(
    c: Configuration, i: NDArray[np.int64], j: NDArray[np.int64], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Whole cell vectors `(n_atoms, 3)` to add to each atom so that its molecule is in one piece."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    n = len(c.numbers)
    apart = i != j
    i, j, shift = i[apart], j[apart], shift[apart]
    distance = np.linalg.norm(c.positions[i] - c.positions[j] - shift @ c.cell, axis=1)
    # of the images of one pair of atoms the nearest is the one that may be a bond
    i, j, shift = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([shift, -shift])
    distance = np.concatenate([distance, distance])
    order = np.lexsort((distance, j, i))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(i[order]) != 0) | (np.diff(j[order]) != 0)
    kept = order[first]
    i, j, shift, distance = i[kept], j[kept], shift[kept], distance[kept]
    tree = minimum_spanning_tree(coo_matrix((distance, (i, j)), shape=(n, n)))
    nearest = {(int(a), int(b)): s for a, b, s in zip(i, j, shift, strict=True)}
    images = np.zeros((n, 3))
    _, piece = connected_components(tree, directed=False)
    assert c.fragments is not None
    for fragment, members in _members(c.fragments):
        if len(np.unique(piece[members])) > 1:
            atoms = f"atoms {members.min()} to {members.max()}"
            raise ValueError(f"molecule {fragment} ({atoms}) is not in one piece: the model has torn it apart")
        reached, before = breadth_first_order(tree, members[0], directed=False)
        for atom in reached[1:]:
            parent = int(before[atom])
            images[atom] = images[parent] + nearest[parent, int(atom)]
    return images


def _members(fragments: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(fragments, kind="stable")
    names, first = np.unique(fragments[order], return_index=True)
    parts = np.split(order, first[1:])
    return [(int(name), part) for name, part in zip(names, parts, strict=True)]
