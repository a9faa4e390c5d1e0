"""The weights of a mace-torch model in the places and scales of ours.

Both programs scale weights by 1/sqrt(fan-in) when they apply them, but fan-ins differ where we have more paths (degrees
that MACE leaves out are ours with zero weights), and activations carry other constants. So every weight goes through
what it does: the matrix that is applied.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mace_gaunt.interop.mace_config import MaceConfig
from mace_gaunt.interop.mace_paths import fit_paths, mace_paths, polynomials_of
from mace_gaunt.model.activations import ACTIVATIONS, activation
from mace_gaunt.model.mace import MACE
from mace_gaunt.tensor_products.contracts import Path, coupled_paths
from mace_gaunt.tensor_products.kernels.cg_dense import path_offsets

UNUSED = ("output_mask", "_w3j_", "_zeroed", "num_interactions", "cutoff_fn.", "r_max", ".covalent_radii")
"""Parts of the names of tensors that are tables, or said by the config."""


class StateDict:
    """Tensors by their names, float64, that remembers which have been read.

    Args:
        tensors: Tensors or arrays under mace-torch's keys.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = {str(name): torch.as_tensor(value) for name, value in tensors.items()}
        self.read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str) -> Tensor:
        """A tensor.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in self.tensors:
            raise ValueError(f"the state dict of the MACE model lacks '{name}'")
        self.read.add(name)
        return self.tensors[name].detach().cpu().double()

    def shaped(self, name: str, *shape: int) -> Tensor:
        """A tensor of known size in a shape.

        Raises:
            ValueError: If there is none of that name, or it has another size.
        """
        found = self.get(name)
        if found.numel() != int(np.prod(shape)):
            raise ValueError(
                f"'{name}' of the MACE model has {found.numel()} values, and by its config it would have the shape "
                f"{tuple(shape)}"
            )
        return found.reshape(shape)

    def number(self, name: str, default: float) -> float:
        """A single number, which old models may lack."""
        return float(self.get(name)) if name in self else default

    def refuse_unread(self) -> None:
        """Refuse tensors that nothing here knows.

        Raises:
            NotImplementedError: Naming the first of them.
        """
        for name, value in self.tensors.items():
            if name not in self.read and value.numel() and not any(part in name for part in UNUSED):
                raise NotImplementedError(f"the tensor '{name}' of a MACE model is not supported")


@functools.cache
def constant(gate: str) -> float:
    """What mace-torch multiplies an activation with: e3nn's estimate of 1/sqrt(E f(n)^2) from a million samples.

    Source: e3nn, `math/_normalize_activation.py`.
    """
    if gate == "identity":
        return 1.0
    generator = torch.Generator(device="cpu").manual_seed(0)
    samples = torch.randn(1_000_000, generator=generator, dtype=torch.float64)
    found = float(ACTIVATIONS[gate](samples).square().mean() ** -0.5)
    return 1.0 if abs(found - 1) < 1e-4 else found


def gate_ratio(gate: str) -> float:
    """MACE's constant over ours."""
    return constant(gate) / activation(gate).scale


def message_paths(degrees: Sequence[int], max_ell: int) -> list[Path]:
    """MACE's couplings of features and harmonics, in the order of its weights: by result, then as they are found."""
    found = [
        (l1, l2, l3)
        for l1 in degrees
        for l2 in range(max_ell + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, max_ell) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    return sorted(found, key=lambda path: path[2])


class Converter:
    """Weights of a model, one module after the other.

    Args:
        config: Settings of the model.
        state: Its tensors.
        order: Where each of our elements stands among those of the MACE model.
        heads: Which of its heads are taken.

    Attributes:
        weights: By their names in our model.
        residual: Largest residual of the symmetric contractions.
    """

    def __init__(self, config: MaceConfig, state: StateDict, order: Sequence[int], heads: Sequence[int]) -> None:
        self.config, self.state, self.order, self.heads = config, state, list(order), list(heads)
        self.weights: dict[str, Tensor] = {}
        self.residual = 0.0

    def convert(self, model: MACE) -> dict[str, Tensor]:
        """The state dict of our model."""
        elements, channels = len(self.order), self.config.num_channels
        embedding = self.state.shaped("node_embedding.linear.weight", elements, channels)
        self.weights["embedding.weight"] = embedding[self.order]
        for layer, product in enumerate(model.products):
            degrees_in, degrees_out = self.layer_degrees(layer)
            self.interaction(layer, degrees_in, degrees_out)
            self.node_product(layer, degrees_out, product.get_submodule("node_product"))
            self.linear(f"products.{layer}.linear", degrees_out)
        for position, kind in enumerate(kind for kind in self.config.readouts if kind != "none"):
            self.readout(position, kind)
        return self.weights

    def layer_degrees(self, layer: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Degrees of the features before and after a layer, in the order of the weights."""
        last = layer + 1 == len(self.config.kinds)
        return ((0,) if layer == 0 else self.config.degrees), ((0,) if last else self.config.degrees)

    def linear(self, name: str, degrees: Sequence[int]) -> None:
        """A Linear from some degrees to the same."""
        channels = self.config.num_channels
        blocks = self.state.shaped(f"{name}.weight", len(degrees), channels, channels)
        for degree in range(max(degrees) + 1):
            block = blocks[list(degrees).index(degree)] if degree in degrees else torch.zeros_like(blocks[0])
            self.weights[f"{name}.weight.{degree}"] = block

    def interaction(self, layer: int, degrees_in: Sequence[int], degrees_out: Sequence[int]) -> None:
        """Linears, radial network, skip and density of a layer."""
        name, config = f"interactions.{layer}", self.config
        channels, elements = config.num_channels, len(self.order)
        self.linear(f"{name}.linear_up", degrees_in)
        theirs = message_paths(degrees_in, config.max_ell)
        degrees = range(config.max_ell + 1)
        ours = coupled_paths(range(max(degrees_in) + 1), degrees, degrees)
        self.radial_mlp(name, theirs, ours)
        blocks = self.state.shaped(f"{name}.linear.weight", len(theirs), channels, channels)
        for degree in degrees:
            wanted = [path for path in ours if path[2] == degree]
            found = [path for path in theirs if path[2] == degree]
            rows = [blocks[theirs.index(path)] if path in theirs else torch.zeros_like(blocks[0]) for path in wanted]
            self.weights[f"{name}.linear.weight.{degree}"] = torch.cat(rows) * (len(wanted) / len(found)) ** 0.5
        if config.kinds[layer].endswith("residual"):
            skipped, count = [d for d in degrees_in if d in degrees_out], min(max(degrees_in), max(degrees_out)) + 1
        else:
            skipped, count = list(degrees), len(degrees)
        blocks = self.state.shaped(f"{name}.skip_tp.weight", len(skipped), channels, elements, channels)
        skip = blocks.new_zeros(count, elements, channels, channels)
        for position, degree in enumerate(skipped):
            skip[degree] = blocks[position][:, self.order].transpose(0, 1)
        self.weights[f"{name}.skip.weight"] = skip
        if config.kinds[layer].startswith("density"):
            density = self.state.shaped(f"{name}.density_fn.layer0.weight", config.num_bessel, 1)
            self.weights[f"{name}.density_weight"] = density

    def radial_mlp(self, name: str, theirs: Sequence[Path], ours: Sequence[Path]) -> None:
        """The network from radial functions to a weight per path and channel."""
        config = self.config
        widths = [config.num_bessel, *config.radial_MLP, len(theirs) * config.num_channels]
        for layer, (rows, columns) in enumerate(itertools.pairwise(widths)):
            weight = self.state.shaped(f"{name}.conv_tp_weights.layer{layer}.weight", rows, columns)
            if layer:
                weight = weight * gate_ratio("silu")
            if layer + 2 == len(widths):
                blocks = weight.reshape(rows, len(theirs), config.num_channels)
                missing = torch.zeros_like(blocks[:, 0])
                weight = torch.cat([blocks[:, theirs.index(p)] if p in theirs else missing for p in ours], dim=1)
            self.weights[f"{name}.radial_mlp.weights.{layer}"] = weight

    def node_product(self, layer: int, degrees_out: Sequence[int], product: Any) -> None:
        """The weights of the paths of all orders: MACE's paths in our basis."""
        bases, order = product.bases(), self.config.orders[layer]
        offsets = path_offsets([[len(block) for block in basis.coefficients] for basis in bases])
        found = torch.zeros_like(product.weight, dtype=torch.float64)
        for position, degree in enumerate(degrees_out):
            name = f"products.{layer}.symmetric_contractions.contractions.{position}"
            for nu in range(1, order + 1):
                key = f"{name}.weights_max" if nu == order else f"{name}.weights.{order - nu - 1}"
                weights = self.path_weights(key)
                basis = bases[nu - 1].coefficients[degree]
                combination = torch.from_numpy(self.combination(f"{name}.U_matrix_{nu}", degree, nu, weights, basis))
                start = offsets[nu - 1][degree]
                mixed = torch.einsum("pk,ekc->epc", combination, weights)
                found[:, start : start + len(basis)] = mixed
        scales = product._originals["scales"]
        self.weights[f"products.{layer}.node_product.weight"] = found / scales[:, 0, 0, None]

    def path_weights(self, key: str) -> Tensor:
        """Weights of the paths of one order and degree, shape [n_elements, paths, C]."""
        weights = self.state.get(key)
        elements = len(self.order)
        expected = 1 if self.config.agnostic_product else elements
        if weights.dim() != 3 or (weights.shape[0], weights.shape[2]) != (expected, self.config.num_channels):
            raise ValueError(
                f"'{key}' of the MACE model has shape {tuple(weights.shape)}, which its config contradicts"
            )
        return weights.expand(elements, -1, -1) if self.config.agnostic_product else weights[self.order]

    def combination(self, name: str, degree: int, order: int, weights: Tensor, basis: np.ndarray) -> np.ndarray:
        """MACE's paths of one order and degree as combinations of ours, shape [our paths, MACE's paths]."""
        if name in self.state:
            paths = polynomials_of(self.state.get(name).numpy(), self.config.max_ell, order)
        else:
            paths = mace_paths(self.config.max_ell, degree, order, weights.shape[1])
        if paths.shape[0] != 2 * degree + 1 or paths.shape[2] != weights.shape[1]:
            raise ValueError(f"'{name}' of the MACE model has another shape than its weights and config say")
        fit = fit_paths(paths, basis, name)
        self.residual = max(self.residual, fit.residual)
        return fit.combination

    def readout(self, position: int, kind: str) -> None:
        """A readout: of all heads, or of the one that is taken."""
        name, config = f"readouts.{position}", self.config
        channels, heads, width = config.num_channels, len(config.heads), config.mlp_width
        if kind == "linear":
            columns = self.state.shaped(f"{name}.linear.weight", channels, heads)
        else:
            hidden = self.state.shaped(f"{name}.linear_1.weight", channels, heads, width)
            # Of the hidden scalars of each head, the others being masked, MACE reads that head's column.
            last = self.state.shaped(f"{name}.linear_2.weight", heads, width, heads)
        for index in self.heads:
            of_head = name if len(self.heads) == 1 else f"{name}.of_head.{index}"
            if kind == "linear":
                self.weights[f"{of_head}.weight"] = columns[:, index]
            else:
                self.weights[f"{of_head}.mlp.weights.0"] = hidden[:, index]
                scale = gate_ratio(config.gate) * heads**-0.5
                self.weights[f"{of_head}.mlp.weights.1"] = last[index, :, index, None] * scale
