"""The 2-D Fourier basis of the Gaunt tensor product: spherical signals as trigonometric polynomials on the torus.

Source: Luo, Chen, Krishnapriyan, ICLR 2024, section 3. The polar angle runs on to 2 pi: with a signed sine, the
harmonic Y_lm is a trigonometric polynomial of degree l in it, a cosine series for even m and a sine series for odd m.
Tables are exact to rounding: harmonics are sampled at enough angles and transformed, sphere integrals have closed form.
"""

import math
from functools import lru_cache

import numpy as np
import scipy.fft
import torch

from mace_gaunt.so3.harmonics import COMPONENT_TO_ORTHONORMAL, legendre_derivatives


def fast_length(at_least: int) -> int:
    """A length of at least so many points whose FFT is fast: even, without large prime factors."""
    length = at_least
    while length % 2 or scipy.fft.next_fast_len(length, real=True) != length:
        length += 1
    return length


@lru_cache(maxsize=64)
def polar_coefficients(l_max: int) -> np.ndarray:
    """Fourier coefficients of the polar part Theta_lm, m >= 0, over the doubled polar angle.

    Y_lm = Theta_lm(theta) * (sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi), orthonormal.

    Returns:
        y[l, m, u + l_max], complex128, shape [l_max+1, l_max+1, 2 l_max+1]: real for even m, imaginary for odd m.
    """
    count = 2 * l_max + 1
    theta = 2.0 * math.pi * torch.arange(count, dtype=torch.float64) / count
    table = legendre_derivatives(torch.cos(theta), l_max)
    result = np.zeros((l_max + 1, l_max + 1, count), dtype=complex)
    for degree in range(l_max + 1):
        for m in range(degree + 1):
            ratio = math.factorial(degree - m) / math.factorial(degree + m)
            norm = math.sqrt((2 * degree + 1) * ratio) * COMPONENT_TO_ORTHONORMAL
            values = norm * table[m][degree - m] * torch.sin(theta) ** m
            result[degree, m] = np.fft.fftshift(np.fft.fft(values.numpy())) / count
    return result


def sine_integrals(k: np.ndarray) -> np.ndarray:
    """Even part of the integral of sin(theta) exp(i k theta) over 0..pi: 2 / (1 - k^2) for even k, else 0.

    The odd part, present for k = 1 and -1 only, drops out of the products of two series of the same symmetry.
    """
    even = k % 2 == 0
    return np.where(even, 2.0 / np.where(even, 1.0 - k.astype(float) ** 2, 1.0), 0.0)


def to_fourier(l_max: int, num_theta: int) -> torch.Tensor:
    """Harmonics to Fourier coefficients on a torus.

    Args:
        l_max: Largest degree.
        num_theta: Points in the doubled polar angle, at least 2 l_max + 1.

    Returns:
        Real and imaginary parts, shape [(l_max+1)^2, num_theta, l_max+1, 2], of the coefficients of
        exp(i (u theta + v phi)), u in the order of an FFT, v = 0..l_max; the others follow since signals are real.
    """
    polar = polar_coefficients(l_max)
    table = np.zeros(((l_max + 1) ** 2, num_theta, l_max + 1), dtype=complex)
    where = np.arange(-l_max, l_max + 1) % num_theta
    for degree in range(l_max + 1):
        for m in range(-degree, degree + 1):
            # sqrt(2) cos m phi = (e^(i m phi) + ...) / sqrt(2), sqrt(2) sin m phi = -i (e^(i m phi) - ...) / sqrt(2)
            factor = 1.0 if m == 0 else (1.0 if m > 0 else -1j) / math.sqrt(2.0)
            table[degree * degree + degree + m, where, abs(m)] = factor * polar[degree, abs(m)]
    return torch.view_as_real(torch.from_numpy(table))


def from_fourier(l_max: int, degree_in: int, num_theta: int) -> torch.Tensor:
    """Fourier coefficients of a signal of some degree to its harmonics 0..l_max, by the exact integral over the sphere.

    A real signal's coefficients have the symmetry of their v in u (cosine or sine series), so that those of u >= 0
    suffice.

    Args:
        l_max: Largest degree wanted.
        degree_in: Degree of the signal.
        num_theta: Points in the doubled polar angle, more than 2 degree_in.

    Returns:
        Real table, shape [degree_in + 1, l_max + 1, 2, (l_max+1)^2], to be contracted with the real and imaginary parts
        of the coefficients u = 0..degree_in, v = 0..l_max, unnormalised as torch.fft.fft gives them over theta, and
        normalised over phi.
    """
    polar = polar_coefficients(l_max)
    u = np.arange(-degree_in, degree_in + 1)
    w = np.arange(-l_max, l_max + 1)
    integrals = sine_integrals(u[:, None] + w[None, :])
    table = np.zeros((degree_in + 1, l_max + 1, 2, (l_max + 1) ** 2))
    for degree in range(l_max + 1):
        for m in range(-degree, degree + 1):
            order = abs(m)
            # c[u]: integral of sin(theta) Theta exp(i u theta); symmetric in u like the signal's coefficients
            c = integrals @ polar[degree, order]
            folded = c[degree_in:].copy()
            folded[1:] += c[:degree_in][::-1] * (1.0 if order % 2 == 0 else -1.0)
            # The integral over phi of 1, sqrt(2) cos or sqrt(2) sin with exp(i v phi); v and -v give conjugates.
            azimuth = 2.0 * math.pi if m == 0 else math.sqrt(8.0) * math.pi * (1.0 if m > 0 else 1j)
            value = folded * azimuth
            column = degree * degree + degree + m
            table[:, order, 0, column] = value.real / num_theta
            table[:, order, 1, column] = -value.imag / num_theta
    return torch.from_numpy(table)
