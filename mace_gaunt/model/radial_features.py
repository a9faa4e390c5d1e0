"""What a model knows of the length of an edge: basis functions of the length, or of a transformed one, and an envelope.

The transforms and the Gaussian basis are mace-torch's; constants that are not given are its defaults.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mace_gaunt.errors import nearest
from mace_gaunt.model.elements import radii_of
from mace_gaunt.model.radial import BesselBasis, given_table, polynomial_cutoff
from mace_gaunt.so3.tables import TableModule

KEYS = ("basis", "transform", "envelope", "gate")
ENVELOPES = ("features", "weights")


class GaussianBasis(TableModule):
    """Gaussians of equal width around equidistant centers, times the polynomial cutoff.

    Args:
        r_max: Cutoff radius (Å).
        num_bessel: Number of functions, at least 2.
        num_polynomial_cutoff: Order of the envelope.
        centers: Their centers; from 0 to r_max when None.
        coefficient: Factor of the squared distance from a center; -1 / (2 spacing^2) when None.

    Raises:
        ValueError: If there is one function only.
    """

    centers: Tensor

    def __init__(
        self,
        r_max: float,
        num_bessel: int,
        num_polynomial_cutoff: int,
        centers: Sequence[float] | None = None,
        coefficient: float | None = None,
    ) -> None:
        super().__init__()
        self.r_max, self.p = r_max, num_polynomial_cutoff
        if num_bessel < 2:
            raise ValueError(f"a Gaussian basis has at least 2 functions, found num_bessel={num_bessel}")
        self.coefficient = -0.5 / (r_max / (num_bessel - 1)) ** 2 if coefficient is None else float(coefficient)
        points = torch.linspace(0.0, r_max, num_bessel, dtype=torch.float64)
        self.register_table("centers", points if centers is None else given_table(centers, num_bessel, "centers"))

    def values(self, lengths: Tensor) -> Tensor:
        """The functions at [n_edges, 1], shape [n_edges, num_bessel]."""
        return torch.exp(self.coefficient * (lengths - self.centers).square())


class Transform(TableModule, ABC):
    """A length measured by the elements at its ends.

    Args:
        atomic_numbers: Elements of the model.
        radii: Covalent radius of each (Å); those of Cordero et al. when None.
    """

    radii: Tensor

    def __init__(self, atomic_numbers: Sequence[int], radii: Sequence[float] | None = None) -> None:
        super().__init__()
        known = radii_of(atomic_numbers) if radii is None else radii
        self.register_table("radii", given_table(known, len(atomic_numbers), "radii"))

    def forward(self, lengths: Tensor, types: Tensor) -> Tensor:
        """Lengths [n_edges, 1] (Å) and element indices [2, n_edges] to the transformed lengths [n_edges, 1]."""
        return self.transformed(lengths, (self.radii[types[0]] + self.radii[types[1]])[:, None])

    @abstractmethod
    def transformed(self, lengths: Tensor, reach: Tensor) -> Tensor:
        """Lengths and sums of covalent radii, both [n_edges, 1] (Å), to the transformed lengths."""


class AgnesiTransform(Transform):
    """1 / (1 + a x^q / (1 + x^(q-p))) with x the length over the mean covalent radius; dimensionless, 1 at zero.

    Source: Witt et al., J. Chem. Phys. 159, 164101 (2023), section on radial transformations.

    Args:
        atomic_numbers: Elements of the model.
        radii: See `Transform`.
        a: Constant.
        q: Constant.
        p: Constant.
    """

    def __init__(
        self,
        atomic_numbers: Sequence[int],
        radii: Sequence[float] | None = None,
        a: float = 1.0805,
        q: float = 0.9183,
        p: float = 4.5791,
    ) -> None:
        super().__init__(atomic_numbers, radii)
        self.a, self.q, self.p = float(a), float(q), float(p)

    def transformed(self, lengths: Tensor, reach: Tensor) -> Tensor:
        x = lengths / (0.5 * reach)
        return (1 + self.a * x**self.q / (1 + x ** (self.q - self.p))).reciprocal()


class SoftTransform(Transform):
    """From 3/4 of the sum of covalent radii, for shorter lengths, smoothly to the length itself (Å).

    Source: mace-torch's SoftTransform.

    Args:
        atomic_numbers: Elements of the model.
        radii: See `Transform`.
        alpha: Steepness.
    """

    def __init__(self, atomic_numbers: Sequence[int], radii: Sequence[float] | None = None, alpha: float = 4.0) -> None:
        super().__init__(atomic_numbers, radii)
        self.alpha = float(alpha)

    def transformed(self, lengths: Tensor, reach: Tensor) -> Tensor:
        low, high = 3 / 4 * reach, 4 / 3 * reach
        step = 0.5 * (1.0 + torch.tanh(self.alpha / (high - low) * (lengths - 0.5 * (low + high))))
        return low + (lengths - low) * step


BASES: dict[str, Callable[..., Any]] = {"bessel": BesselBasis, "gaussian": GaussianBasis}
TRANSFORMS: dict[str, Callable[..., Any]] = {"agnesi": AgnesiTransform, "soft": SoftTransform}


class RadialFeatures(nn.Module):
    """Features of edges by their lengths.

    Args:
        r_max: Cutoff radius (Å).
        num_bessel: Number of functions.
        num_polynomial_cutoff: Order of the cutoff envelope, which is a function of the length itself.
        atomic_numbers: Elements of the model.
        settings: `basis` and `transform`, each a name of `BASES` and `TRANSFORMS` or {name: ..., constant: ...};
            `envelope`: whether it multiplies the "features" (default) or the "weights" that the radial networks make
            of them; `gate`, the activation of these networks, is left to the caller.

    Attributes:
        p: Order of the cutoff envelope.

    Raises:
        ValueError: If a setting is impossible; names it.
    """

    def __init__(
        self,
        r_max: float,
        num_bessel: int,
        num_polynomial_cutoff: int,
        atomic_numbers: Sequence[int],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        settings = {} if settings is None else settings
        for key in settings:
            if key not in KEYS:
                raise ValueError(f"radial has no key '{key}'.{nearest(str(key), KEYS)}")
        sizes = r_max, num_bessel, num_polynomial_cutoff
        self.r_max, self.p = r_max, num_polynomial_cutoff
        self.basis = made_of(BASES, settings.get("basis") or "bessel", "radial.basis", *sizes)
        transform = settings.get("transform")
        self.transform = made_of(TRANSFORMS, transform, "radial.transform", atomic_numbers) if transform else None
        self.envelope = settings.get("envelope") or "features"
        if self.envelope not in ENVELOPES:
            raise ValueError(f"radial.envelope is 'features' or 'weights', found '{self.envelope}'")

    def forward(self, lengths: Tensor, node_types: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features, and the envelope where it goes to the weights.

        Args:
            lengths: Shape [n_edges, 1] (Å).
            node_types: Shape [n_nodes].
            edge_index: Shape [2, n_edges]; in either direction.

        Returns:
            Shapes [n_edges, num_bessel] and [n_edges, 1].
        """
        x = lengths if self.transform is None else self.transform(lengths, node_types[edge_index])
        values, envelope = self.basis.values(x), polynomial_cutoff(lengths, self.r_max, self.p)
        return (values, envelope) if self.envelope == "weights" else (values * envelope, None)


def made_of(known: Mapping[str, Callable[..., Any]], choice: Any, what: str, *arguments: Any) -> Any:
    """The object of a name, or of {name: ..., constant: ...}.

    Raises:
        ValueError: If there is no such name or constant.
    """
    constants = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = str(constants.pop("name", ""))
    if name not in known:
        raise ValueError(f"{what}: unknown '{name}'.{nearest(name, known)}")
    accepted = list(inspect.signature(known[name]).parameters)[len(arguments) :]
    for constant in constants:
        if constant not in accepted:
            raise ValueError(f"{what}: '{name}' has no constant '{constant}'.{nearest(str(constant), accepted)}")
    return known[name](*arguments, **constants)
