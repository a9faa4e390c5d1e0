"""Basis of the symmetric coupling space: equivariant polynomials of one feature.

Every equivariant map that takes nu equal factors A of degrees 0..l_in to degree L is a vector of homogeneous
polynomials of degree nu in the components of A. They are built by coupling one factor at a time (as the generalised
Clebsch-Gordan coefficients of Drautz, Phys. Rev. B 99, 014104 (2019), and of MACE, Batatia et al., NeurIPS 2022,
eq. 10), through natural and pseudo intermediates alike. Since polynomials commute, symmetrisation is automatic; what
is linearly dependent is dropped, so that the basis carries no redundant weights.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.sparse as sp

from mace_gaunt.so3.coefficients import wigner_3j
from mace_gaunt.so3.layout import degree_slice, num_components

Key = tuple[int, int]
"""Degree and parity (0 natural-even, 1 odd number of sign changes under inversion) of an intermediate."""

Source = tuple[Key, int, int]
"""A coupling: the polynomial of the order below (its key, its position there) and the degree of the factor."""

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Recipe:
    """How the polynomials of one degree and parity come from the order below.

    Attributes:
        sources: The couplings they are made of, as many as there are polynomials.
        combination: Lower triangular, shape [num_paths, num_paths]: polynomial k is the sum over j of
            combination[k, j] times the coupling sources[j], a 3j tensor of unit norm with both factors.
    """

    sources: tuple[Source, ...]
    combination: np.ndarray


@dataclass
class Kept:
    """Independent polynomials of one degree and parity found so far, each [2*l+1, num_monomials], and their recipe."""

    polynomials: list[np.ndarray] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    combinations: list[np.ndarray] = field(default_factory=list)

    def stacked(self, components: int, num_monomials: int) -> np.ndarray:
        """All polynomials, shape [num_paths, 2*l+1, num_monomials]; they become views of it, not to lie there twice."""
        if not self.polynomials:
            return np.zeros((0, components, num_monomials))
        result = np.stack(self.polynomials)
        self.polynomials = list(result)
        return result

    def recipe(self) -> Recipe:
        combination = np.zeros((len(self.sources), len(self.sources)))
        for row, values in zip(combination, self.combinations, strict=True):
            row[: len(values)] = values
        return Recipe(tuple(self.sources), combination)


@dataclass(frozen=True)
class SymmetricBasis:
    """Independent equivariant polynomials of one order.

    Attributes:
        order: Degree nu of the polynomials.
        monomials: Sorted component indices of each monomial, shape [num_monomials, nu].
        coefficients: For each output degree L the basis, shape [num_paths, 2L+1, num_monomials]; orthonormal for
            components of A that are independent standard normal variables.
        recipes: For each degree and parity, how its polynomials come from the order below; below the highest order
            those of the pseudo intermediates and of degrees above l_out included; empty at order 1.
    """

    order: int
    monomials: np.ndarray
    coefficients: tuple[np.ndarray, ...]
    recipes: Mapping[Key, Recipe]


@lru_cache(maxsize=16)
def symmetric_bases(l_in: int, l_out: int, correlation: int) -> tuple[SymmetricBasis, ...]:
    """Bases of the orders 1..correlation for the natural-parity outputs 0..l_out.

    Args:
        l_in: Largest degree of the feature.
        l_out: Largest degree of the result.
        correlation: Highest order.

    Returns:
        One basis per order.
    """
    dimension = num_components(l_in)
    monomials = monomial_table(dimension, 1)
    level = {(degree, degree % 2): Kept([np.eye(dimension)[degree_slice(degree)]]) for degree in range(l_in + 1)}
    bases = []
    for order in range(1, correlation + 1):
        if order > 1:
            bound = l_out + (correlation - order) * l_in
            level, monomials = next_level(level, monomials, l_in, bound, natural_only=order == correlation)
        natural = (level.get((degree, degree % 2), Kept()) for degree in range(l_out + 1))
        blocks = (kept.stacked(2 * degree + 1, len(monomials)) for degree, kept in enumerate(natural))
        recipes = {key: kept.recipe() for key, kept in level.items()} if order > 1 else {}
        bases.append(SymmetricBasis(order, monomials, tuple(blocks), recipes))
    return tuple(bases)


def monomial_table(dimension: int, order: int) -> np.ndarray:
    """All sorted index tuples, in lexical order, shape [num_monomials, order]."""
    return np.array(list(itertools.combinations_with_replacement(range(dimension), order)), dtype=np.int64)


def multiplication_table(monomials: np.ndarray, products: np.ndarray, dimension: int) -> np.ndarray:
    """Row of `products` that equals monomial t times component a, shape [num_monomials, dimension]."""
    order = products.shape[1]
    powers = dimension ** np.arange(order - 1, -1, -1)
    repeated = np.repeat(monomials, dimension, axis=0)
    factor = np.tile(np.arange(dimension), len(monomials))[:, None]
    codes = np.sort(np.concatenate([repeated, factor], axis=1), axis=1) @ powers
    return np.searchsorted(products @ powers, codes).reshape(len(monomials), dimension)


def next_level(
    level: dict[Key, Kept], monomials: np.ndarray, l_in: int, bound: int, *, natural_only: bool
) -> tuple[dict[Key, Kept], np.ndarray]:
    """Couple one more factor to every polynomial, keeping degrees up to a bound, and drop dependent ones."""
    dimension = num_components(l_in)
    products = monomial_table(dimension, monomials.shape[1] + 1)
    table = multiplication_table(monomials, products, dimension)
    metric = gaussian_metric(products, dimension)
    sources: dict[Key, list[Source]] = {}
    for key in sorted(level):
        l1, parity = key
        for position, l2 in itertools.product(range(len(level[key].polynomials)), range(l_in + 1)):
            for l3 in range(abs(l1 - l2), min(l1 + l2, bound) + 1):
                sources.setdefault((l3, (parity + l2) % 2), []).append((key, position, l2))
    result = {
        key: independent(key[0], candidates, level, table, metric)
        for key, candidates in sources.items()
        if not natural_only or key[1] == key[0] % 2
    }
    return {key: kept for key, kept in result.items() if kept.polynomials}, products


def couple(polynomial: np.ndarray, coupling: np.ndarray, columns: np.ndarray, num_products: int) -> np.ndarray:
    """Coefficients of a polynomial times components of one degree.

    Args:
        polynomial: Shape [2*l1+1, num_monomials].
        coupling: Of its components with those of degree l2, shape [2*l1+1, 2*l2+1, rows].
        columns: Which product a monomial times a component of degree l2 is, shape [num_monomials, 2*l2+1].
        num_products: Number of products.

    Returns:
        Shape [rows, num_products].
    """
    values = np.einsum("abc,at->ctb", coupling, polynomial)
    return np.stack([np.bincount(columns.ravel(), value.ravel(), minlength=num_products) for value in values])


def independent(
    degree: int, candidates: list[Source], level: Mapping[Key, Kept], table: np.ndarray, metric: sp.csr_matrix
) -> Kept:
    """What is linearly independent among the couplings of one degree and parity, orthonormal.

    Gram-Schmidt in a fixed order, so that the basis is the same on every machine. Inner products are those of the
    components m = 0: of equivariant polynomials, under an invariant metric, all components have the same.
    """

    def of_source(source: Source, components: slice) -> np.ndarray:
        key, position, l2 = source
        coupling = wigner_3j(key[0], l2, degree)[:, :, components]
        polynomial = level[key].polynomials[position]
        return couple(polynomial, coupling, table[:, degree_slice(l2)], metric.shape[0])

    kept = Kept()
    rows, images = np.zeros((0, metric.shape[0])), np.zeros((0, metric.shape[0]))
    for source in candidates:
        row = of_source(source, slice(degree, degree + 1))[0]
        scale = math.sqrt(row @ (metric @ row))
        if scale < TOLERANCE:
            continue
        row, overlaps = row / scale, np.zeros(len(rows))
        for _ in range(2):
            overlap = images @ row
            row, overlaps = row - overlap @ rows, overlaps + overlap
        norm = math.sqrt(max(row @ (metric @ row), 0.0))
        if norm > TOLERANCE:
            rows, images = np.vstack([rows, row / norm]), np.vstack([images, metric @ row / norm])
            keep(kept, source, of_source(source, slice(None)), scale, overlaps, norm)
    return kept


def keep(kept: Kept, source: Source, candidate: np.ndarray, scale: float, overlaps: np.ndarray, norm: float) -> None:
    """Append (candidate / scale - sum over k of overlaps[k] times the kept polynomial k) / norm, in place."""
    polynomial, combination = candidate / scale, np.zeros(len(overlaps) + 1)
    combination[-1] = 1.0 / scale
    for overlap, member, of_member in zip(overlaps, kept.polynomials, kept.combinations, strict=True):
        polynomial -= overlap * member
        combination[: len(of_member)] -= overlap * of_member
    polynomial /= norm
    polynomial[np.abs(polynomial) < 1e-12] = 0.0
    kept.polynomials.append(polynomial)
    kept.sources.append(source)
    kept.combinations.append(combination / norm)


def gaussian_metric(monomials: np.ndarray, dimension: int) -> sp.csr_matrix:
    """E[monomial_t monomial_s] for independent standard normal components: products of double factorials."""
    exponents = np.stack([(monomials == component).sum(axis=1) for component in range(dimension)], axis=1)
    _, groups = np.unique(exponents % 2, axis=0, return_inverse=True)
    moments = np.array([math.prod(range(1, n, 2)) for n in range(2 * monomials.shape[1] + 1)], dtype=float)
    rows, columns, values = [], [], []
    for group in range(groups.max() + 1):
        members = np.flatnonzero(groups.ravel() == group)
        sums = exponents[members][:, None] + exponents[members][None, :]
        rows.append(np.repeat(members, len(members)))
        columns.append(np.tile(members, len(members)))
        values.append(moments[sums].prod(axis=-1).ravel())
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(data, shape=(len(monomials), len(monomials)))
