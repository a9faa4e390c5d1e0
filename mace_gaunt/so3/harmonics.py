"""Real spherical harmonics of unit vectors, in e3nn's order, sign and axes."""

import math

import torch
from torch import Tensor

COMPONENT_TO_ORTHONORMAL = 1.0 / math.sqrt(4.0 * math.pi)


def legendre_derivatives(y: Tensor, l_max: int) -> list[list[Tensor]]:
    """m-th derivatives of the Legendre polynomials, by the three-term recursion in l.

    Args:
        y: Cosines of the polar angle, any shape.
        l_max: Largest degree.

    Returns:
        `table[m][l - m]` = d^m P_l / dy^m, each of the shape of y.
    """
    table = []
    for m in range(l_max + 1):
        column = [torch.full_like(y, float(math.prod(range(1, 2 * m, 2))))]
        if m < l_max:
            column.append((2 * m + 1) * y * column[0])
        for degree in range(m + 2, l_max + 1):
            recent = (2 * degree - 1) * y * column[-1] - (degree + m - 1) * column[-2]
            column.append(recent / (degree - m))
        table.append(column)
    return table


def azimuthal_powers(x: Tensor, z: Tensor, l_max: int) -> tuple[list[Tensor], list[Tensor]]:
    """Real and imaginary parts of (z + i x)^m = sin(theta)^m exp(i m phi), m = 0..l_max."""
    real, imaginary = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(l_max):
        re, im = real[-1], imaginary[-1]
        real.append(z * re - x * im)
        imaginary.append(z * im + x * re)
    return real, imaginary


def spherical_harmonics(unit_vectors: Tensor, l_max: int) -> Tensor:
    """Real spherical harmonics of degrees 0..l_max, "component" normalised: sum over m of Y_lm^2 = 2l+1.

    The polar axis is y and the azimuth runs from z to x, as in e3nn; there is no Condon-Shortley phase.
    Divide by sqrt(4 pi) for the orthonormal ones. Polynomials, so differentiable any number of times.

    Args:
        unit_vectors: Shape [n, 3], of length one.
        l_max: Largest degree.

    Returns:
        Shape [n, (l_max+1)^2].
    """
    x, y, z = unit_vectors.unbind(-1)
    legendre = legendre_derivatives(y, l_max)
    cosine, sine = azimuthal_powers(x, z, l_max)
    columns = []
    for degree in range(l_max + 1):
        for m in range(-degree, degree + 1):
            order = abs(m)
            norm = math.sqrt((2 * degree + 1) * math.factorial(degree - order) / math.factorial(degree + order))
            azimuth = sine[order] if m < 0 else cosine[order]
            factor = norm if m == 0 else norm * math.sqrt(2.0)
            columns.append(factor * legendre[order][degree - order] * azimuth)
    return torch.stack(columns, dim=-1)
