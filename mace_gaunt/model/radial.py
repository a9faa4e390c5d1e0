"""Radial basis, cutoff and the short-range repulsion."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.model.activations import activation
from mace_gaunt.model.elements import radii_of
from mace_gaunt.so3.mirror import sum_at_receivers
from mace_gaunt.so3.tables import TableModule


def polynomial_cutoff(lengths: Tensor, r_max: float | Tensor, p: int) -> Tensor:
    """Smooth envelope: 1 at zero, vanishing at r_max with two derivatives.

    Source: Gasteiger et al., ICLR 2020, eq. 8 (d / c -> lengths / r_max).

    Args:
        lengths: Edge lengths, shape [n_edges, 1] (Å).
        r_max: Cutoff radius (Å), a number or one per edge.
        p: Order of the envelope, at least 2.

    Returns:
        Dimensionless factor, shape [n_edges, 1], 0 beyond r_max.

    Raises:
        ValueError: If p < 2.
    """
    if p < 2:
        raise ValueError(f"the polynomial cutoff needs an order of at least 2, found {p}")
    x = lengths / r_max
    inside = 1 - x**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x * x)
    return torch.where(x < 1, inside, torch.zeros_like(x))


def given_table(values: Sequence[float], number: int, name: str) -> Tensor:
    """Numbers as a table, shape [number], float64.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(values) != number or not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name} must be {number} finite numbers, found {list(values)}")
    return torch.tensor(list(values), dtype=torch.float64)


class BesselBasis(TableModule):
    """Spherical Bessel functions of degree 0 that vanish at r_max, times the polynomial cutoff.

    Source: Gasteiger et al., ICLR 2020, eq. 7.

    Args:
        r_max: Cutoff radius (Å).
        num_bessel: Number of functions.
        num_polynomial_cutoff: Order of the envelope.
        frequencies: Of each function (1/Å); n pi / r_max when None.
        prefactor: Of all functions; sqrt(2 / r_max) when None.
    """

    frequencies: Tensor

    def __init__(
        self,
        r_max: float,
        num_bessel: int,
        num_polynomial_cutoff: int,
        frequencies: Sequence[float] | None = None,
        prefactor: float | None = None,
    ) -> None:
        super().__init__()
        self.r_max, self.p = r_max, num_polynomial_cutoff
        polynomial_cutoff(torch.ones(1), r_max, num_polynomial_cutoff)
        self.prefactor = math.sqrt(2.0 / r_max) if prefactor is None else float(prefactor)
        exact = torch.arange(1, num_bessel + 1, dtype=torch.float64) * math.pi / r_max
        given = exact if frequencies is None else torch.tensor(list(frequencies), dtype=torch.float64)
        if given.shape != exact.shape:
            raise ValueError(f"{num_bessel} Bessel functions need as many frequencies, found {len(given)}")
        self.register_table("frequencies", given)

    def values(self, lengths: Tensor) -> Tensor:
        """The functions at [n_edges, 1] (Å), without the cutoff, shape [n_edges, num_bessel]."""
        return self.prefactor * torch.sin(self.frequencies * lengths) / lengths

    def forward(self, lengths: Tensor) -> Tensor:
        """Edge features of lengths [n_edges, 1] (Å), shape [n_edges, num_bessel]."""
        return self.values(lengths) * polynomial_cutoff(lengths, self.r_max, self.p)


class MLP(nn.Module):
    """Fully connected network without biases: as e3nn's, for radial weights and readouts.

    Weights are of order one and scaled by 1/sqrt(fan-in) when applied, so that one learning rate fits every layer.

    Args:
        widths: Input, hidden and output widths.
        gate: Name of the activation of the hidden layers.
    """

    def __init__(self, widths: Sequence[int], gate: str) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(pair)) for pair in pairs])
        self.gate = activation(gate)

    def forward(self, features: Tensor) -> Tensor:
        """Shape [n, widths[0]] to [n, widths[-1]]."""
        hidden = features
        for layer, weight in enumerate(self.weights):
            hidden = hidden @ (weight * weight.shape[0] ** -0.5)
            if layer + 1 < len(self.weights):
                hidden = self.gate(hidden)
        return hidden


class ZBLRepulsion(TableModule):
    """Screened nuclear repulsion of Ziegler, Biersack and Littmark (1985), cut off at the sum of covalent radii.

    Args:
        atomic_numbers: Elements of the model.
        p: Order of the polynomial cutoff.
        coefficients: Of the four exponentials.
        exponents: Of the four exponentials.
        coulomb: e^2 / (4 pi epsilon_0) (eV Å).
        screening: Factor of the screening length (Å).
        power: Exponent of the atomic numbers in it.
        radii: Covalent radius of each element (Å); those of Cordero et al. when None.
        scaled: Whether the model's scale multiplies it, as in MACE.

    Raises:
        ValueError: If there is not one radius for each element.
    """

    numbers: Tensor
    radii: Tensor

    COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
    EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
    COULOMB_CONSTANT = 14.399645478425668
    """e^2 / (4 pi epsilon_0) in eV Å."""
    BOHR = 0.529177210903

    def __init__(
        self,
        atomic_numbers: Sequence[int],
        p: int,
        *,
        coefficients: Sequence[float] = COEFFICIENTS,
        exponents: Sequence[float] = EXPONENTS,
        coulomb: float = COULOMB_CONSTANT,
        screening: float = 0.8854 * BOHR,
        power: float = 0.23,
        radii: Sequence[float] | None = None,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        self.p, self.scaled = p, scaled
        self.terms = list(zip(coefficients, exponents, strict=True))
        self.coulomb, self.screening, self.power = coulomb, screening, power
        self.register_table("numbers", torch.tensor(atomic_numbers, dtype=torch.float64))
        known = radii_of(atomic_numbers) if radii is None else radii
        self.register_table("radii", given_table(known, len(atomic_numbers), "zbl.radii"))

    def forward(self, lengths: Tensor, node_types: Tensor, edge_index: Tensor, *, mirrored: bool = False) -> Tensor:
        """Repulsion energy of each node, half of every pair.

        Args:
            lengths: Edge lengths, shape [n_edges, 1] (Å).
            node_types: Shape [n_nodes].
            edge_index: Shape [2, n_edges].
            mirrored: Whether every pair is there once and stands for both directions.

        Returns:
            Shape [n_nodes] (eV).
        """
        types = node_types[edge_index]
        z_sender, z_receiver = self.numbers[types[0]], self.numbers[types[1]]
        r = lengths[:, 0]
        x = r / (self.screening / (z_sender**self.power + z_receiver**self.power))
        screening = torch.stack([c * torch.exp(-a * x) for c, a in self.terms]).sum(0)
        reach = self.radii[types[0]] + self.radii[types[1]]
        pair = self.coulomb * z_sender * z_receiver / r * screening
        half = 0.5 * pair * polynomial_cutoff(r, reach, self.p)
        return sum_at_receivers(half, edge_index, node_types.shape[0], mirrored=mirrored)
