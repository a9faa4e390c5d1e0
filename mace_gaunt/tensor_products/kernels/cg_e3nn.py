"""Clebsch-Gordan products by e3nn's own `o3.TensorProduct`: an independent way to the same function, for comparison.

Source: Geiger, Smidt, "e3nn: Euclidean Neural Networks", arXiv 2207.09453.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mace_gaunt.so3.layout import degree_slice, to_mul_ir
from mace_gaunt.so3.symmetric import Key, Recipe, symmetric_bases
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.so3.tracing import being_traced
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path
from mace_gaunt.tensor_products.kernels.e3nn_product import (
    ExactTensorProduct,
    Irrep,
    channels_in_batch,
    check_degrees,
    natural,
    result_irrep,
)


def path_counts(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Each degree that paths end in, with their number."""
    return [(degree, sum(path[2] == degree for path in paths)) for degree in sorted({path[2] for path in paths})]


class E3nnFeatureKernel(TableModule):
    """One instruction "uuu" per path.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    reference = True

    def __init__(self, degrees_x: Sequence[int], degrees_y: Sequence[int], paths: Sequence[Path]) -> None:
        super().__init__()
        self.counts = path_counts(paths)
        x, y = list(degrees_x), list(degrees_y)
        self.product = ExactTensorProduct(
            [(1, natural(degree)) for degree in x],
            [(1, natural(degree)) for degree in y],
            [(1, result_irrep(path)) for path in paths],
            [(x.index(l1), y.index(l2), k, "uuu", False) for k, (l1, l2, _) in enumerate(paths)],
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        result = self.product(channels_in_batch(x), channels_in_batch(y)).unflatten(0, (x.shape[0], x.shape[2]))
        blocks = result.split([count * (2 * degree + 1) for degree, count in self.counts], dim=2)
        sizes = [(count, 2 * degree + 1) for degree, count in self.counts]
        # [n, C, paths, m] each
        found = [block.unflatten(2, size) for block, size in zip(blocks, sizes, strict=True)]
        return torch.cat([block.permute(0, 3, 2, 1).flatten(1, 2) for block in found], dim=1)


class E3nnEdgeKernel(EdgeKernel):
    """One weighted instruction "uvu" per path, as in MACE.

    e3nn writes its code for a number of channels, which is known when the first features come.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    reference = True

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        super().__init__()
        self.l_in, self.l_edge, self.paths = l_in, l_edge, list(paths)
        self.counts = path_counts(paths)
        check_degrees(max(l_in, l_edge, *(path[2] for path in paths)))
        self.products = nn.ModuleDict()

    def build(self, channels: int) -> ExactTensorProduct:
        """The product for some number of channels."""
        return ExactTensorProduct(
            [(channels, natural(degree)) for degree in range(self.l_in + 1)],
            [(1, natural(degree)) for degree in range(self.l_edge + 1)],
            [(channels, result_irrep(path)) for path in self.paths],
            [(l1, l2, k, "uvu", True) for k, (l1, l2, _) in enumerate(self.paths)],
            shared_weights=False,
        )

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        channels = int(node_feats.shape[2])
        if str(channels) not in self.products:
            if being_traced():
                raise RuntimeError("kernel 'e3nn' writes its code at the first call: call it once before it is traced")
            self.products[str(channels)] = self.build(channels).to(node_feats.device, node_feats.dtype)
        result = self.products[str(channels)](to_mul_ir(node_feats), edge_attrs, weights.flatten(1))
        blocks = result.split([count * channels * (2 * degree + 1) for degree, count in self.counts], dim=1)
        sizes = [(count, channels, 2 * degree + 1) for degree, count in self.counts]
        # [n, paths, C, m] each
        found = [block.unflatten(1, size) for block, size in zip(blocks, sizes, strict=True)]
        return torch.cat([block.permute(0, 3, 1, 2).flatten(1, 2) for block in found], dim=1)


class CouplingStep(TableModule):
    """The polynomials of one order from those of the order below, by the recipes of the symmetric basis.

    Args:
        below: How many polynomials of each degree and parity there are at the order below.
        recipes: Those of the degrees and parities wanted.
        l_in: Largest degree of the further factor.
    """

    def __init__(self, below: Mapping[Key, int], recipes: Mapping[Key, Recipe], l_in: int) -> None:
        super().__init__()
        self.below, self.counts = list(below), {key: len(recipe.sources) for key, recipe in recipes.items()}
        slots = [(key, position) for key, count in below.items() for position in range(count)]
        irreps_out: list[tuple[int, Irrep]] = []
        instructions: list[tuple[int, int, int, str, bool]] = []
        for key, recipe in recipes.items():
            self.register_table(combination_name(key), torch.from_numpy(recipe.combination))
            for source, position, l2 in recipe.sources:
                instructions.append((slots.index((source, position)), l2, len(irreps_out), "uuu", False))
                irreps_out.append((1, irrep_of(key)))
        self.product = ExactTensorProduct(
            [(1, irrep_of(key)) for key, _ in slots],
            [(1, natural(degree)) for degree in range(l_in + 1)],
            irreps_out,
            instructions,
            irrep_normalization="none",
        )

    def forward(self, below: Mapping[Key, Tensor], feats: Tensor) -> dict[Key, Tensor]:
        """Polynomials [N, number, 2l+1] of the order below and features [N, (l_in+1)^2] to those of this order."""
        result = self.product(torch.cat([below[key].flatten(1) for key in self.below], dim=1), feats)
        blocks = result.split([count * (2 * key[0] + 1) for key, count in self.counts.items()], dim=1)
        return {
            key: self.get_buffer(combination_name(key)) @ block.unflatten(1, (count, 2 * key[0] + 1))
            for (key, count), block in zip(self.counts.items(), blocks, strict=True)
        }


def combination_name(key: Key) -> str:
    """Where the combination of a degree and parity is found."""
    return f"combination_{key[0]}_{key[1]}"


def irrep_of(key: Key) -> Irrep:
    """Its irrep."""
    return key[0], (-1) ** key[1]


class E3nnNodeKernel(TableModule):
    """The symmetric basis by successive tensor products, one factor A at a time, through pseudo intermediates too.

    Args:
        l_in: Largest degree of A.
        l_out: Largest degree of B.
        correlation: Highest order.
    """

    reference = True

    def __init__(self, l_in: int, l_out: int, correlation: int) -> None:
        super().__init__()
        self.l_in, self.wanted = l_in, [(degree, degree % 2) for degree in range(l_out + 1)]
        recipes = needed_recipes([basis.recipes for basis in symmetric_bases(l_in, l_out, correlation)], self.wanted)
        below = {(degree, degree % 2): 1 for degree in range(l_in + 1)}
        self.steps = nn.ModuleList()
        for of_order in recipes:
            self.steps.append(CouplingStep(below, of_order, l_in))
            below = {key: len(recipe.sources) for key, recipe in of_order.items()}

    def forward(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over all paths of all orders; shapes as in `DenseNodeKernel.forward`."""
        feats = channels_in_batch(node_feats)
        levels = [{(l, l % 2): feats[:, None, degree_slice(l)] for l in range(self.l_in + 1)}]
        for step in self.steps:
            levels.append(step(levels[-1], feats))
        # Degrees run slowest, then orders, as in the weights.
        paths = [torch.cat([level[key] for level in levels if key in level], dim=1) for key in self.wanted]
        factors = weights.permute(1, 2, 0).flatten(0, 1).split([block.shape[1] for block in paths], dim=1)
        rows = [(block * factor[..., None]).sum(1) for block, factor in zip(paths, factors, strict=True)]
        return torch.cat(rows, dim=1).unflatten(0, (node_feats.shape[0], node_feats.shape[2])).transpose(1, 2)


def needed_recipes(recipes: Sequence[Mapping[Key, Recipe]], wanted: Sequence[Key]) -> list[dict[Key, Recipe]]:
    """Recipes of the orders from 2 that wanted results, or sources of needed ones, come from."""
    needed: list[dict[Key, Recipe]] = []
    for of_order in reversed(recipes[1:]):
        sources = {source for recipe in (needed[0].values() if needed else ()) for source, _, _ in recipe.sources}
        needed.insert(0, {key: recipe for key, recipe in of_order.items() if key in sources or key in wanted})
    return needed
