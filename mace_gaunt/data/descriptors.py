"""A fixed description of frames by numbers: which distances and angles are in them, between which elements.

Each neighbour j of an atom i within the cut-off is a Gaussian shell at its distance times its direction; the sum over
neighbours is the density around the atom,

    c_i[a, n, lm] = sum_j q_a(Z_j) exp(-(r_ij - r_n)^2 / 2 w^2) f(r_ij) Y_lm(r_ij)

with f(r) = (1 + cos(pi r / r_max)) / 2 and Gaussians at r_n spread evenly over the cut-off, w their distance (Behler,
J. Chem. Phys. 134, 074106 (2011), G2). Its degree 0 is the radial part, the power spectrum
sum_m c[a, n, lm] c[b, n, lm] / (2l + 1) of the other degrees, on fewer and wider Gaussians, the angular one (Bartok,
Kondor and Csanyi, Phys. Rev. B 87, 184115 (2013), SOAP). Both are averaged over the atoms, the radial part for each of
the four numbers q of the central atom.

Elements enter by four numbers q(Z), their place on a helix through the periodic table: 1, the period, and cosine and
sine of the place in the period. So a description has the same few hundred numbers for any elements, and those of
different sets can be compared.
"""

from typing import Protocol

import ase
import numpy as np
import scipy.sparse
import torch

from mace_gaunt.data.neighbors import neighbor_pairs
from mace_gaunt.errors import UserError
from mace_gaunt.so3.harmonics import spherical_harmonics

# Beyond it (Å), float64 rounds coordinates by more than 1e-9 Å, and atoms fall upon each other.
FARTHEST = 1e7
# Of the last element of each period.
NOBLE = np.array([0, 2, 10, 18, 36, 54, 86, 118])


class Descriptor(Protocol):
    """What turns a frame into numbers that do not change when it is moved, turned, or its atoms are listed anew."""

    name: str
    """What it is, for reports."""

    def __call__(self, atoms: ase.Atoms) -> np.ndarray:
        """The numbers of a frame, shape [width], the same width for all frames."""
        ...


class RadialAngularDescriptor:
    """Mean over atoms of Gaussian shells of distances and their angular power spectrum, resolved by elements."""

    def __init__(self, r_max: float = 5.0, n_radial: int = 8, n_angular: int = 4, max_ell: int = 4) -> None:
        """Choose the resolution.

        Args:
            r_max: Cutoff radius (Å).
            n_radial: Gaussians of the radial part.
            n_angular: Gaussians of the angular part, fewer and wider.
            max_ell: Largest degree of the angular part, at least 1.
        """
        self.r_max, self.max_ell = r_max, max_ell
        self._shells = [shell_centres(n, r_max) for n in (n_radial, n_angular)]
        self._upper = np.triu_indices(4)
        self.name = f"distances and angles within {r_max:g} Å"

    def __call__(self, atoms: ase.Atoms) -> np.ndarray:
        """Describe a frame.

        Args:
            atoms: The frame; cells and periodicity count.

        Returns:
            Shape [4 + 16 n_radial + 10 n_angular max_ell], the same to rounding (1e-10) for rotated, translated and
            reordered frames.

        Raises:
            UserError: If the frame has no neighbour list (positions that are not finite, coincident atoms), or atoms
                are so far away that distances are lost in rounding.
        """
        check_distance(atoms)
        elements = element_features(atoms.numbers)
        pair_index, shifts = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, self.r_max)
        vectors = atoms.positions[pair_index[1]] - atoms.positions[pair_index[0]] + shifts
        # Both directions of a pair; sums over senders as one sparse product.
        vectors, index = np.concatenate([vectors, -vectors]), np.hstack([pair_index, pair_index[::-1]])
        lengths = np.linalg.norm(vectors, axis=1)
        gather = scipy.sparse.csr_array(
            (np.ones(len(lengths)), (index[1], np.arange(len(lengths)))), shape=(len(atoms), len(lengths))
        )
        senders = elements[index[0]]
        radial = gather @ _outer(senders, self._shell(lengths, 0))
        angular = self._power_spectrum(gather, vectors / lengths[:, None], senders, self._shell(lengths, 1))
        centres = elements.T @ radial / len(atoms)
        return np.concatenate([elements.mean(axis=0), centres.ravel(), angular.mean(axis=0)])

    def _shell(self, lengths: np.ndarray, part: int) -> np.ndarray:
        """Gaussians times the cut-off function, shape [n_edges, n]."""
        centres, width = self._shells[part]
        envelope = 0.5 * (1.0 + np.cos(np.pi * lengths / self.r_max))
        return np.exp(-0.5 * ((lengths[:, None] - centres) / width) ** 2) * envelope[:, None]

    def _power_spectrum(
        self, gather: scipy.sparse.csr_array, directions: np.ndarray, senders: np.ndarray, shells: np.ndarray
    ) -> np.ndarray:
        """Shape [n_nodes, 10 n max_ell]."""
        harmonics = spherical_harmonics(torch.from_numpy(directions), self.max_ell).numpy()
        density = _outer(senders, shells)
        spectra = []
        for degree in range(1, self.max_ell + 1):
            components = harmonics[:, degree**2 : (degree + 1) ** 2]
            summed = gather @ _outer(components, density)
            c = summed.reshape(summed.shape[0], 2 * degree + 1, 4, shells.shape[1])
            products = np.einsum("imap,imbp->iabp", c, c) / (2 * degree + 1)
            spectra.append(products[:, *self._upper].reshape(len(c), 10 * shells.shape[1]))
        return np.hstack(spectra)


def check_distance(atoms: ase.Atoms) -> None:
    """Refuse atoms that are so far away that their distances are lost in rounding.

    Raises:
        UserError: If there is one.
    """
    farthest = np.abs(atoms.positions).max(initial=0.0)
    if farthest > FARTHEST:
        raise UserError(f"an atom is {farthest:.3g} Å away from the origin.")


def shell_centres(n: int, r_max: float) -> tuple[np.ndarray, float]:
    """Centres of n Gaussians spread over the cut-off, shape [n] (Å), and their width (Å)."""
    spacing = r_max / (n + 1)
    return spacing * np.arange(1, n + 1), spacing


def element_features(numbers: np.ndarray) -> np.ndarray:
    """Place of elements on a helix through the periodic table.

    Args:
        numbers: Atomic numbers, shape [n_nodes].

    Returns:
        1, the period (in sevenths), cosine and sine of the place in the period; shape [n_nodes, 4].
    """
    period = np.searchsorted(NOBLE, numbers)
    first, last = NOBLE[np.maximum(period - 1, 0)], NOBLE[period]
    angle = 2 * np.pi * (numbers - first) / np.maximum(last - first, 1)
    return np.column_stack([np.ones(len(numbers)), period / 7, np.cos(angle), np.sin(angle)])


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of every column of a with every column of b, shape [n, columns of a times columns of b]."""
    return (a[:, :, None] * b[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])
