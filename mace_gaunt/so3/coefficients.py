"""Coupling coefficients in the real basis: Wigner 3j and Gaunt."""

import math
from functools import lru_cache

import numpy as np

from mace_gaunt.so3.quadrature import smallest_rule, synthesis_matrix


def clebsch_gordan_complex(l1: int, m1: int, l2: int, m2: int, l3: int, m3: int) -> float:
    """<l1 m1 l2 m2 | l3 m3> with Condon-Shortley phases, by Racah's formula in exact integers."""
    if m1 + m2 != m3 or not abs(l1 - l2) <= l3 <= l1 + l2:
        return 0.0
    f = math.factorial
    prefactor = (2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3)
    prefactor *= f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = 0.0
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        denominator = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k)
        denominator *= f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k)
        total += (-1) ** k / denominator
    return total * math.sqrt(prefactor / f(l1 + l2 + l3 + 1))


def real_from_complex(degree: int) -> np.ndarray:
    """Unitary matrix Q with Y_real = Q Y_complex, up to the common phase (-i)^l that makes real couplings real."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1) ** m
        matrix[degree + m, [degree + m, degree - m]] = np.array([sign, 1.0]) / math.sqrt(2.0)
        matrix[degree - m, [degree + m, degree - m]] = np.array([-1j * sign, 1j]) / math.sqrt(2.0)
    return (1j**degree) * matrix


@lru_cache(maxsize=512)
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Wigner 3j tensor of unit Frobenius norm, in e3nn's basis and sign.

    Args:
        l1: First degree.
        l2: Second degree.
        l3: Third degree.

    Returns:
        Shape [2*l1+1, 2*l2+1, 2*l3+1], float64, read-only.

    Raises:
        ValueError: If the degrees form no triangle.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"degrees {l1}, {l2}, {l3} form no triangle: nothing couples them")
    complex_tensor = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            complex_tensor[l1 + m1, l2 + m2, l3 + m1 + m2] = clebsch_gordan_complex(l1, m1, l2, m2, l3, m1 + m2)
    bases = real_from_complex(l1), real_from_complex(l2), real_from_complex(l3).conj()
    tensor = np.einsum("ia,jb,kc,abc->ijk", *bases, complex_tensor, optimize=True)
    assert np.abs(tensor.imag).max() < 1e-9, (l1, l2, l3)
    result = np.ascontiguousarray(tensor.real / np.linalg.norm(tensor.real))
    result.setflags(write=False)
    return result


@lru_cache(maxsize=512)
def gaunt(l1: int, l2: int, l3: int) -> np.ndarray:
    """Gaunt tensor: the integral over the sphere of three orthonormal real harmonics.

    Computed by a quadrature rule that is exact at degree l1+l2+l3; zero unless l1+l2+l3 is even and they form a
    triangle.

    Returns:
        Shape [2*l1+1, 2*l2+1, 2*l3+1], float64, read-only.
    """
    rule = smallest_rule(l1 + l2 + l3)
    values = synthesis_matrix(rule, max(l1, l2, l3)).numpy()
    blocks = [values[:, degree**2 : (degree + 1) ** 2] for degree in (l1, l2, l3)]
    result = np.einsum("p,pi,pj,pk->ijk", rule.weights, *blocks, optimize=True)
    result.setflags(write=False)
    return result


def gaunt_amplitude(l1: int, l2: int, l3: int) -> float:
    """Signed number kappa with gaunt(l1, l2, l3) = kappa * wigner_3j(l1, l2, l3) (Wigner-Eckart)."""
    if not abs(l1 - l2) <= l3 <= l1 + l2 or (l1 + l2 + l3) % 2:
        return 0.0
    return float(np.sum(gaunt(l1, l2, l3) * wigner_3j(l1, l2, l3)))
