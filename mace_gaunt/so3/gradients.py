"""Surface gradients of the harmonics, and the amplitudes of the spherical Poisson bracket r . (grad f x grad g)."""

import math

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import clebsch_gordan_complex, gaunt
from mace_gaunt.so3.harmonics import COMPONENT_TO_ORTHONORMAL, spherical_harmonics
from mace_gaunt.so3.layout import degree_slice, num_components
from mace_gaunt.so3.quadrature import SphereRule, synthesis_matrix


def tangent_frames(points: Tensor) -> Tensor:
    """Two unit vectors at each point with e1 x e2 = r, shape [2, P, 3]."""
    axes = torch.eye(3, dtype=points.dtype)[points.abs().argmin(dim=1)]
    first = torch.nn.functional.normalize(torch.linalg.cross(axes, points), dim=1)
    return torch.stack([first, torch.linalg.cross(points, first)])


def gradient_in_frames(rule: SphereRule, l_max: int) -> Tensor:
    """Surface gradient of each orthonormal harmonic divided by sqrt(l(l+1)), in tangent frames: [2, P, (l_max+1)^2]."""
    points = torch.from_numpy(rule.points)
    components = [
        torch.func.jvp(lambda at: spherical_harmonics(at, l_max), (points,), (direction,))[1]
        for direction in tangent_frames(points)
    ]
    return torch.stack(components) * COMPONENT_TO_ORTHONORMAL * unit_gradient(l_max)


def gradient_in_space(rule: SphereRule, l_max: int) -> Tensor:
    """The same as Cartesian vectors, from vector spherical harmonics: shape [3, P, (l_max+1)^2].

    With r Y_l = A_(l-1) + A_(l+1) split by degree, grad Y_l = (l+1) A_(l-1) - l A_(l+1), because grad(r^l Y_l) has only
    the first part and grad(r^(-l-1) Y_l) only the second.
    """
    values = synthesis_matrix(rule, l_max + 1)
    table = torch.zeros(3, rule.num_points, num_components(l_max), dtype=torch.float64)
    for degree in range(1, l_max + 1):
        for other, factor in ((degree - 1, degree + 1), (degree + 1, -degree)):
            coupling = torch.from_numpy(gaunt(1, degree, other).copy()) * math.sqrt(4.0 * math.pi / 3.0) * factor
            table[:, :, degree_slice(degree)] += torch.einsum("imk,pk->ipm", coupling, values[:, degree_slice(other)])
    return table * unit_gradient(l_max)


def unit_gradient(l_max: int) -> Tensor:
    """1 / sqrt(l(l+1)) for each component, which gives gradients the norm of the harmonics; 0 for l = 0."""
    degrees = torch.arange(l_max + 1).repeat_interleave(2 * torch.arange(l_max + 1) + 1).double()
    return torch.where(degrees > 0, (degrees * (degrees + 1)).clamp(min=1.0).rsqrt(), 0.0)


def bracket_amplitude(l1: int, l2: int, l3: int) -> float:
    """Frobenius norm of the bracket of normalised gradients between degrees l1, l2 and l3; zero for even sums.

    sqrt((2l1+1)(2l2+1)(2l3+1) / 4 pi) |3j(l1 l2 l3; 1 -1 0)|. Source: Bochkarev, Lysogorskiy, Drautz, "Fast contracted
    Clebsch-Gordan tensor products" (arXiv 2605.15073), whose gradients carry sqrt(l(l+1)) besides.
    """
    if min(l1, l2) < 1 or not abs(l1 - l2) <= l3 <= l1 + l2 or (l1 + l2 + l3) % 2 == 0:
        return 0.0
    coefficient = clebsch_gordan_complex(l1, 1, l2, -1, l3, 0) / math.sqrt(2 * l3 + 1)
    return float(np.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4.0 * math.pi)) * abs(coefficient))
