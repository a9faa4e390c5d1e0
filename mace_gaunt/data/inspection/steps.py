"""Pairs of frames of one system a small step apart: how energy and forces change with the positions."""

from collections import OrderedDict

import ase
import numpy as np

# Systems whose last frame is kept; shuffled shards of OC20 interleave hundreds.
MAX_SYSTEMS = 64
MAX_PAIRS = 300
# Root mean square displacement (Å) up to which a step is small: for curvatures, and for energies.
SMALL, TINY = 0.5, 0.3


class Steps:
    """Compares each frame with the last one of the same atoms.

    Attributes:
        curvatures: sum |dF|^2 / sum(-dF . dx) of each pair, a mean of the eigenvalues of the Hessian weighted by the
            energy in each mode.
        works: Change of the energy over -F . dx, of the pairs whose two ends agree about the latter within a factor of
            three.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.curvatures: list[float] = []
        self.works: list[float] = []
        self._last: OrderedDict[bytes, tuple[ase.Atoms, np.ndarray, float]] = OrderedDict()

    def add(self, atoms: ase.Atoms, forces: np.ndarray, energy: float) -> None:
        """Take a frame.

        Args:
            atoms: The frame.
            forces: Shape [n_nodes, 3].
            energy: NaN without one.
        """
        if len(self.curvatures) >= MAX_PAIRS or len(atoms) < 2:
            return
        key = atoms.numbers.tobytes()
        before = self._last.pop(key, None)
        self._last[key] = (atoms, forces, energy)
        if len(self._last) > MAX_SYSTEMS:
            self._last.popitem(last=False)
        if before is not None and (before[0].pbc == atoms.pbc).all():
            self._compare(before, (atoms, forces, energy))

    def _compare(self, before: tuple[ase.Atoms, np.ndarray, float], after: tuple[ase.Atoms, np.ndarray, float]) -> None:
        step, forces = displacement(before[0], after[0], after[1])
        size = np.sqrt(np.square(step).sum(axis=1).mean())
        if not 0 < size < SMALL:
            return
        change = forces - before[1]
        stiffness = -(change * step).sum()
        if stiffness != 0:
            self.curvatures.append(float(np.square(change).sum() / stiffness))
        works = -np.array([(before[1] * step).sum(), (forces * step).sum()])
        if size < TINY and np.ptp(works) < abs(works.sum()) / 2 and np.isfinite(before[2] + after[2]):
            self.works.append(float((after[2] - before[2]) / works.mean()))


def displacement(before: ase.Atoms, after: ase.Atoms, forces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each atom went, without the motion of the whole, and the forces turned along.

    Periodic frames: the shortest image of each. Others: laid over each other by the best rotation (Kabsch, Acta Cryst.
    A 32, 922 (1976)).

    Args:
        before: A frame.
        after: A later one of the same atoms.
        forces: Of the later one, shape [n_nodes, 3].

    Returns:
        Displacements, shape [n_nodes, 3] (Å), and forces, shape [n_nodes, 3].
    """
    step = after.positions - before.positions
    if before.pbc.any():
        cell = before.cell.complete()
        return step - cell.cartesian_positions(np.round(cell.scaled_positions(step)) * before.pbc), forces
    here, there = before.positions - before.positions.mean(axis=0), after.positions - after.positions.mean(axis=0)
    left, _, right = np.linalg.svd(there.T @ here)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ (signs[:, None] * right)
    return there @ rotation - here, forces @ rotation
