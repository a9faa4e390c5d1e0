"""Neighbour lists: positions, cell and cutoff -> pair_index and shifts."""

import numpy as np
import vesin

from mace_gaunt.errors import UserError

# Nearer than this (Å), two atoms are one atom written twice: their direction, and so their forces, are undefined.
COINCIDENT = 1e-8
# Farther out than this (Å), float64 no longer tells places apart that COINCIDENT does.
MOST_DISTANT = 1e7
# A cell whose images within r_max are more than these is a mistake: 1 Å wide and r_max 6 Å, it has 2,200.
MOST_IMAGES = 10_000


def neighbor_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray | bool, r_max: float
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of atoms, periodic images included, nearer than r_max, each once.

    The vector of pair p is positions[pair_index[1, p]] - positions[pair_index[0, p]] + shifts[p]. A pair stands for
    two edges: this one, and the opposite one with sender and receiver exchanged and the negative vector. Of the two,
    the list holds the one with sender < receiver. An atom is a neighbour of its own periodic images, never of itself;
    of two opposite images the list holds the one whose first step along a cell vector that is not zero is positive.
    Positions may lie anywhere, also outside the cell, and any of the three directions may be periodic.

    Args:
        positions: Shape [n_nodes, 3] (Å).
        cell: Rows are cell vectors, shape [3, 3] (Å). Rows of directions that are not periodic are ignored.
        pbc: Which directions are periodic, shape [3], or one bool for all.
        r_max: Cutoff radius (Å).

    Returns:
        pair_index: Sender and receiver, shape [2, n_pairs], int64, sorted by receiver, then sender, then image.
        shifts: Whole lattice vectors, shape [n_pairs, 3] (Å).

    Raises:
        UserError: If a position is not finite or beyond MOST_DISTANT, r_max is not positive, the periodic cell vectors
            span no volume or next to none, or two atoms coincide.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    _check_finite(positions, r_max)
    box = _complete_cell(np.asarray(cell, dtype=np.float64), periodic)
    inverse = np.linalg.inv(box)
    _check_images(box, inverse, periodic, r_max)
    # Wrapping first keeps the images few and exact for atoms that have travelled many cells.
    images = np.floor(positions @ inverse) * periodic
    wrapped = _without_gaps(positions - images @ box, box, inverse, periodic, r_max)
    senders, receivers, steps = _pairs(wrapped, box, periodic, r_max)
    senders, receivers, steps = _one_way(senders, receivers, steps - images[receivers] + images[senders])
    order = np.lexsort((*steps.T[::-1], senders, receivers))
    return np.stack([senders[order], receivers[order]]), steps[order] @ box


def _pairs(
    wrapped: np.ndarray, box: np.ndarray, periodic: np.ndarray, r_max: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sender, receiver and steps along the cell vectors, each pair once, in no particular order or direction."""
    neighbors = vesin.NeighborList(cutoff=r_max, full_list=False, n_threads=1)
    senders, receivers, steps, lengths = neighbors.compute(wrapped, box, periodic, quantities="ijSd")
    if lengths.size and lengths.min() < COINCIDENT:
        i, j = sorted([senders[lengths.argmin()], receivers[lengths.argmin()]])
        raise UserError(f"atoms {i} and {j} are at the same place ({wrapped[i].round(4).tolist()} Å in the cell).")
    return senders.astype(np.int64), receivers.astype(np.int64), steps.astype(np.float64)


def _without_gaps(
    positions: np.ndarray, box: np.ndarray, inverse: np.ndarray, periodic: np.ndarray, r_max: float
) -> np.ndarray:
    """The positions with gaps wider than r_max made as narrow as that, in directions that are not periodic.

    No pair within r_max is changed and none is made. The search lays a grid over all the space between atoms: one that
    has flown off takes it seconds at 10,000 Å and ends the process at 1,000,000 Å.
    """
    heights = positions @ inverse
    for direction in np.flatnonzero(~periodic):
        order = np.argsort(heights[:, direction])
        gaps = np.diff(heights[order, direction], prepend=heights[order[:1], direction])
        excess = np.cumsum(np.maximum(gaps - r_max - 1.0, 0.0))
        if excess.size and excess[-1] > 0:
            moved = np.empty_like(excess)
            moved[order] = excess
            positions = positions - moved[:, None] * box[direction]
    return positions


def _one_way(
    senders: np.ndarray, receivers: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same pairs, in the direction in which the list holds them."""
    first_step = np.take_along_axis(steps, (steps != 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    backwards = (senders > receivers) | ((senders == receivers) & (first_step < 0))
    forwards = np.where(backwards, -1.0, 1.0)[:, None]
    return np.minimum(senders, receivers), np.maximum(senders, receivers), steps * forwards


def _complete_cell(cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """The cell with each vector that is not periodic replaced by a unit vector normal to those that are."""
    if not (np.abs(cell) <= MOST_DISTANT).all():
        raise UserError(f"the cell {cell.tolist()} Å has vectors that are not finite or beyond {MOST_DISTANT:g} Å.")
    rows = cell[periodic]
    _, lengths, basis = np.linalg.svd(rows) if len(rows) else (None, np.ones(0), np.eye(3))
    if (lengths < 1e-6 * max(1.0, lengths.max(initial=0.0))).any():
        raise UserError(
            f"pbc is {periodic.tolist()}, but the periodic cell vectors span no volume: cell is {cell.tolist()} Å. "
            "Give the cell, or switch pbc off."
        )
    box = cell.copy()
    box[~periodic] = basis[len(rows) :]
    return box


def _check_images(box: np.ndarray, inverse: np.ndarray, periodic: np.ndarray, r_max: float) -> None:
    reach = r_max * np.linalg.norm(inverse, axis=0)[periodic]
    if np.prod(2 * reach + 1) > MOST_IMAGES:
        raise UserError(
            f"the cell {box.tolist()} Å has {np.prod(2 * reach + 1):.0f} images within {r_max:g} Å. Is it in Å?"
        )


def _check_finite(positions: np.ndarray, r_max: float) -> None:
    if not r_max > 0:
        raise UserError(f"r_max is a positive length in Å, not {r_max}.")
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if bad.size:
        raise UserError(f"the position of atom {bad[0]} is not finite: {positions[bad[0]].tolist()}.")
    far = np.flatnonzero((np.abs(positions) > MOST_DISTANT).any(axis=1))
    if far.size:
        raise UserError(
            f"the position of atom {far[0]} is {positions[far[0]].tolist()} Å; beyond {MOST_DISTANT:g} Å places are "
            "too coarse to tell apart."
        )
