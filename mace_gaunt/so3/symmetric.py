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
        recipes: For each degree and parity, how its polynomials come from the order below, those of the pseudo
            intermediates and of degrees above l_out included; empty at order 1.
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
            level, monomials = next_level(level, monomials, l_in, bound)
        natural = (level.get((degree, degree % 2), Kept()).polynomials for degree in range(l_out + 1))
        shapes = ((0, 2 * degree + 1, len(monomials)) for degree in range(l_out + 1))
        blocks = (np.stack(found) if found else np.zeros(s) for found, s in zip(natural, shapes, strict=True))
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
    level: dict[Key, Kept], monomials: np.ndarray, l_in: int, bound: int
) -> tuple[dict[Key, Kept], np.ndarray]:
    """Couple one more factor to every polynomial, keeping degrees up to a bound, and drop dependent ones."""
    dimension = num_components(l_in)
    products = monomial_table(dimension, monomials.shape[1] + 1)
    table = multiplication_table(monomials, products, dimension)
    metric = gaussian_metric(products, dimension)
    result: dict[Key, Kept] = {}
    for key in sorted(level):
        l1, parity = key
        for (position, polynomial), l2 in itertools.product(enumerate(level[key].polynomials), range(l_in + 1)):
            for l3 in range(abs(l1 - l2), min(l1 + l2, bound) + 1):
                candidate = couple(polynomial, l1, l2, l3, table, len(products))
                kept = result.setdefault((l3, (parity + l2) % 2), Kept())
                add_independent(kept, candidate, (key, position, l2), metric)
    return {key: kept for key, kept in result.items() if kept.polynomials}, products


def couple(polynomial: np.ndarray, l1: int, l2: int, l3: int, table: np.ndarray, num_products: int) -> np.ndarray:
    """Coefficients of (polynomial of degree l1) x (component of degree l2) -> l3, shape [2*l3+1, num_products]."""
    values = np.einsum("abc,at->ctb", wigner_3j(l1, l2, l3), polynomial)
    columns = table[:, degree_slice(l2)].ravel()
    return np.stack([np.bincount(columns, value.ravel(), minlength=num_products) for value in values])


def add_independent(kept: Kept, candidate: np.ndarray, source: Source, metric: sp.csr_matrix) -> None:
    """Gram-Schmidt in a fixed order, so that the basis is the same on every machine; appends in place."""

    def inner(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum((metric @ a.T).T * b)) / len(a)

    scale = math.sqrt(inner(candidate, candidate))
    if scale < TOLERANCE:
        return
    residual = candidate / scale
    combination = np.zeros(len(kept.sources) + 1)
    combination[-1] = 1.0 / scale
    for _ in range(2):
        for member, of_member in zip(kept.polynomials, kept.combinations, strict=True):
            overlap = inner(member, residual)
            residual = residual - overlap * member
            combination[: len(of_member)] -= overlap * of_member
    norm = math.sqrt(max(inner(residual, residual), 0.0))
    if norm > TOLERANCE:
        residual = residual / norm
        residual[np.abs(residual) < 1e-12] = 0.0
        kept.polynomials.append(residual)
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
