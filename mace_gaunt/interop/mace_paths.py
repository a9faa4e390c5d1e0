"""MACE's symmetric contractions in our basis.

MACE contracts nu equal factors A with the tensors of its `U_matrix_nu` buffers: [2L+1,] (l_max+1)^2 nu times, paths.
Only the symmetric part of such a tensor matters, a vector of polynomials in the components of A. Our basis spans these
polynomials without redundancy, so MACE's paths are combinations of ours, found by least squares in float64.

Source of the paths: mace-torch, `tools/cg.py`; Batatia et al., NeurIPS 2022, eq. 10 and 11.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_slice, num_components
from mace_gaunt.so3.symmetric import couple, monomial_table, multiplication_table

TOLERANCE = 1e-6
"""Largest residual over largest coefficient; buffers of a model that was float32 are rounded to 6e-8."""

Polynomials = np.ndarray
"""Coefficients of polynomials, shape [2L+1, num_monomials, num_paths]."""


@dataclass(frozen=True)
class Fit:
    """MACE's paths as combinations of ours.

    Attributes:
        combination: Shape [our paths, MACE's paths].
        residual: Largest difference of a coefficient over the largest coefficient.
    """

    combination: np.ndarray
    residual: float


def fit_paths(paths: Polynomials, basis: np.ndarray, what: str) -> Fit:
    """Express paths in our basis.

    Args:
        paths: Their polynomials.
        basis: Ours of the same degree and order, shape [our paths, 2L+1, num_monomials].
        what: Name of the contraction, for the message.

    Raises:
        ValueError: If they do not lie in the space of equivariant polynomials.
    """
    rows, ours = paths.reshape(-1, paths.shape[-1]), basis.reshape(len(basis), paths.shape[0] * paths.shape[1]).T
    largest = np.abs(rows).max(initial=0.0)
    if not largest:
        return Fit(np.zeros((len(basis), rows.shape[1])), 0.0)
    found = np.linalg.lstsq(ours, rows, rcond=None)[0]
    residual = float(np.abs(ours @ found - rows).max() / largest)
    if not residual < TOLERANCE:
        raise ValueError(
            f"{what} is not equivariant: {residual:.1e} of its largest coefficient is outside the space of equivariant "
            "polynomials"
        )
    return Fit(found, residual)


def polynomials_of(tensor: np.ndarray, max_ell: int, order: int) -> Polynomials:
    """The symmetric part of a `U_matrix` buffer.

    Args:
        tensor: Shape [2L+1, (max_ell+1)^2 times nu, paths]; for L = 0 the first axis is missing.
        max_ell: Largest degree of A.
        order: Number of factors nu.

    Raises:
        ValueError: If it has another shape.
    """
    dimension = num_components(max_ell)
    if tensor.ndim == order + 1:
        tensor = tensor[None]
    if tensor.ndim != order + 2 or set(tensor.shape[1:-1]) != {dimension}:
        raise ValueError(f"U_matrix_{order} has shape {tensor.shape}, and features have {dimension} components")
    monomials = monomial_table(dimension, order)
    powers = dimension ** np.arange(order - 1, -1, -1)
    indices = np.stack(np.unravel_index(np.arange(dimension**order), (dimension,) * order), axis=1)
    row = np.searchsorted(monomials @ powers, np.sort(indices, axis=1) @ powers)
    gather = sp.csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))), shape=(len(monomials), len(row)))
    flat = tensor.astype(np.float64).reshape(tensor.shape[0], len(row), tensor.shape[-1])
    return np.stack([gather @ component for component in flat])


def mace_paths(max_ell: int, degree: int, order: int, num_paths: int) -> Polynomials:
    """The paths that mace-torch makes itself, for a state dict that lacks its `U_matrix` buffers.

    It couples one factor after the other and sorts by irrep; at order 4 it keeps intermediates of natural parity alone.
    With use_reduced_cg=True and cuequivariance it takes another basis, which is not made here.

    Args:
        max_ell: Largest degree of A.
        degree: Degree L of the result.
        order: Number of factors nu.
        num_paths: How many paths the weights have.

    Raises:
        NotImplementedError: If it makes another number of paths, as cuequivariance's reduced basis has.
    """
    found = coupled_paths(max_ell, degree, order, natural_only=order == 4)
    if found.shape[-1] == num_paths:
        return found
    raise NotImplementedError(
        f"the state dict lacks U_matrix_{order} for degree {degree}, and {num_paths} paths are not mace-torch's own: "
        "the reduced basis of cuequivariance (use_reduced_cg) is needed as it was stored"
    )


def coupled_paths(max_ell: int, degree: int, order: int, *, natural_only: bool) -> Polynomials:
    """Component-normalised couplings of one factor after the other, in mace-torch's order of paths."""
    dimension = num_components(max_ell)
    monomials = monomial_table(dimension, 1)
    # (degree, parity) and coefficients [2l+1, num_monomials]; a parity of -1 sorts before 1, as in e3nn.
    level = [((l, (-1) ** l), np.eye(dimension)[degree_slice(l)]) for l in range(max_ell + 1)]
    for _ in range(1, order):
        products = monomial_table(dimension, monomials.shape[1] + 1)
        table = multiplication_table(monomials, products, dimension)
        found = []
        for (l1, parity), polynomial in level:
            for l2 in range(max_ell + 1):
                for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                    key = (l3, parity * (-1) ** l2)
                    if natural_only and key[1] != (-1) ** l3:
                        continue
                    coupling = wigner_3j(l1, l2, l3) * (2 * l3 + 1) ** 0.5
                    found.append((key, couple(polynomial, coupling, table[:, degree_slice(l2)], len(products))))
        level, monomials = sorted(found, key=lambda item: item[0]), products
    wanted = [polynomial for key, polynomial in level if key == (degree, (-1) ** degree)]
    if not wanted:
        # mace-torch keeps one path of zeros then.
        wanted = [np.zeros((2 * degree + 1, len(monomials)))]
    return np.stack(wanted, axis=-1)
