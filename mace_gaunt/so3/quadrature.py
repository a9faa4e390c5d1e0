"""Quadrature rules on the unit sphere and the smallest exact one of a degree."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.integrate import lebedev_rule
from torch import Tensor

from mace_gaunt.so3.harmonics import COMPONENT_TO_ORTHONORMAL, spherical_harmonics

LEBEDEV_DEGREES = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 41, 47, 53, 59, 65, 71)


@dataclass(frozen=True)
class SphereRule:
    """Points and weights whose weighted sum integrates polynomials over the unit sphere.

    Attributes:
        name: What kind of rule it is.
        degree: Polynomials up to this degree are integrated exactly.
        points: Unit vectors, shape [num_points, 3], float64.
        weights: Shape [num_points], float64, summing to 4 pi; some may be negative.
    """

    name: str
    degree: int
    points: np.ndarray
    weights: np.ndarray

    @property
    def num_points(self) -> int:
        """Number of points."""
        return int(self.weights.shape[0])


def lebedev(degree: int) -> SphereRule:
    """The Lebedev rule of a tabulated degree, from scipy."""
    points, weights = lebedev_rule(degree)
    return SphereRule("lebedev", degree, np.ascontiguousarray(points.T), weights)


def gauss_legendre(degree: int) -> SphereRule:
    """Product rule: Gauss-Legendre in the cosine of the polar angle (y), equal steps in the azimuth."""
    cosines, polar_weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    azimuths = 2.0 * math.pi * np.arange(degree + 1) / (degree + 1)
    sines = np.sqrt(1.0 - cosines**2)[:, None]
    y = np.broadcast_to(cosines[:, None], (cosines.size, azimuths.size))
    points = np.stack([sines * np.sin(azimuths), y, sines * np.cos(azimuths)], axis=-1).reshape(-1, 3)
    weights = np.repeat(polar_weights * 2.0 * math.pi / azimuths.size, azimuths.size)
    return SphereRule("gauss_legendre", degree, points, weights)


def icosahedral() -> SphereRule:
    """The 32 vertices of icosahedron and dodecahedron, exact to degree 9.

    Source: McLaren, Math. Comp. 17, 361 (1963); weights 5/168 and 9/280 of the whole sphere.
    """
    golden = (1.0 + math.sqrt(5.0)) / 2.0
    signs = (-1.0, 1.0)
    icosahedron = [np.roll((0.0, a, b * golden), shift) for a in signs for b in signs for shift in range(3)]
    cube = [(a, b, c) for a in signs for b in signs for c in signs]
    dodecahedron = [np.roll((0.0, a * golden, b / golden), shift) for a in signs for b in signs for shift in range(3)]
    points = np.array([*icosahedron, *cube, *dodecahedron])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    weights = np.array([5.0 / 168.0] * 12 + [9.0 / 280.0] * 20) * 4.0 * math.pi
    return SphereRule("icosahedral", 9, points, weights)


@lru_cache(maxsize=64)
def smallest_rule(degree: int) -> SphereRule:
    """The rule of fewest points among Lebedev, Gauss-Legendre and icosahedral that is exact at a degree.

    Args:
        degree: Degree of the polynomials to integrate: the sum of all degrees that are multiplied.

    Raises:
        ValueError: If the degree is negative.
    """
    if degree < 0:
        raise ValueError(f"a polynomial degree is at least 0, found {degree}")
    candidates = [gauss_legendre(degree)]
    lebedev_degree = next((tabulated for tabulated in LEBEDEV_DEGREES if tabulated >= degree), None)
    if lebedev_degree is not None:
        candidates.append(lebedev(lebedev_degree))
    if degree <= 9:
        candidates.append(icosahedral())
    return min(candidates, key=lambda rule: rule.num_points)


def synthesis_matrix(rule: SphereRule, l_max: int) -> Tensor:
    """S[p, lm] = Y_lm(point p), orthonormal harmonics: coefficients to values on the grid, float64."""
    return spherical_harmonics(torch.from_numpy(rule.points), l_max) * COMPONENT_TO_ORTHONORMAL


def analysis_matrix(rule: SphereRule, l_max: int) -> Tensor:
    """A[lm, p] = w_p Y_lm(point p), orthonormal harmonics: values on the grid to coefficients, float64."""
    return (synthesis_matrix(rule, l_max) * torch.from_numpy(rule.weights)[:, None]).T.contiguous()
