"""The pieces themselves: eight, of which two are mirror images of each other."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from rotations import random_rotation
from scipy.spatial.transform import Rotation

from mace_gaunt.data.tetris import NAMES, NUM_CHIRAL, PIECES, TetrisPieces
from mace_gaunt.errors import UserError


def centred(piece):
    cubes = np.array(PIECES[piece], dtype=float)
    return cubes - cubes.mean(axis=0)


def misfit(one, other):
    """Smallest root mean square distance of two sets of cubes over all rotations and orders."""
    orders = (list(order) for order in itertools.permutations(range(4)))
    # Only the quality of the alignment is asked for: for a line there are many best rotations.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return min(Rotation.align_vectors(one, other[order])[1] for order in orders)


def test_the_mirror_image_of_one_chiral_piece_is_the_other():
    first, second = (centred(name) for name in NAMES[:NUM_CHIRAL])
    assert misfit(second, -first) < 1e-7
    assert misfit(second, first) > 0.1
    assert misfit(first, -first) > 0.1


@pytest.mark.parametrize("piece", NAMES[NUM_CHIRAL:])
def test_all_others_are_their_own_mirror_images(piece):
    assert misfit(centred(piece), -centred(piece)) < 1e-7


def test_no_two_pieces_are_the_same():
    assert len(PIECES) == 8
    for one, other in itertools.combinations(NAMES, 2):
        assert misfit(centred(one), centred(other)) > 0.1


def test_cubes_that_touch_are_neighbours():
    pieces = TetrisPieces(r_max=1.1)
    # Three faces are shared in every piece but the square, which has four.
    assert pieces.batch.edge_index.shape == (2, 2 * (7 * 3 + 4))
    assert pieces.avg_num_neighbors == 50 / 32
    assert pieces.batch.num_graphs == 8


def test_transformed_pieces_and_their_rotations():
    pieces, matrix = TetrisPieces(r_max=1.1, num_rotations=3, seed=5), random_rotation(inversion=True)
    turned = pieces.transformed(matrix)
    assert torch.allclose(turned.positions, pieces.batch.positions @ matrix.T)
    assert torch.allclose(torch.linalg.det(pieces.rotations), torch.ones(3, dtype=torch.float64))
    assert torch.equal(TetrisPieces(1.1, 3, seed=5).rotations, pieces.rotations)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="above 1"):
        TetrisPieces(r_max=1.0)
    with pytest.raises(UserError, match="num_rotations is at least 1"):
        TetrisPieces(r_max=1.1, num_rotations=0)
