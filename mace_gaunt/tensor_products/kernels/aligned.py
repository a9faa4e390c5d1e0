"""Edge products in the frame of the edge, where only m = 0 is left of its harmonics.

Sources: Passaro, Zitnick, "Reducing SO(3) convolutions to SO(2) for efficient equivariant GNNs" (eSCN, ICML 2023); for
the Gaunt family the sparse filter of Luo, Chen, Krishnapriyan, ICLR 2024. The direction of an edge is read off its
harmonics of degree 1.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mace_gaunt.so3.coefficients import gaunt, wigner_3j
from mace_gaunt.so3.layout import num_components
from mace_gaunt.so3.pole import PoleFrames, rotate_back, rotate_blocks
from mace_gaunt.tensor_products.contracts import EdgeKernel, Path


class AlignedEdgeKernel(EdgeKernel):
    """Rotate, couple along the pole, rotate back.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        num_paths: Copies of each degree in the result.
    """

    flips: Tensor

    def __init__(self, l_in: int, l_edge: int, num_paths: Sequence[int]) -> None:
        super().__init__()
        self.l_edge, self.num_paths = l_edge, list(num_paths)
        self.frames = PoleFrames(max(l_in, len(self.num_paths) - 1))

    def register_flips(self, edge_degrees: Sequence[int]) -> None:
        """Which weights change sign at the pole -y: those of odd harmonics."""
        self.register_table("flips", torch.tensor([float(degree % 2) for degree in edge_degrees], dtype=torch.float64))

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, rows, C]."""
        if self.l_edge == 0:
            # A constant has no direction: the coupling is diagonal in every frame.
            return self.couple_at_pole(node_feats, weights)
        matrices, sign = self.frames(edge_attrs[:, 1:4] * (1.0 / math.sqrt(3.0)))
        signed = weights * (1.0 + self.flips * (sign - 1.0))[..., None]
        rows = self.couple_at_pole(rotate_blocks(matrices, node_feats), signed)
        return rotate_back(matrices, rows, self.num_paths)

    def couple_at_pole(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """The product with the harmonics of the pole y."""
        raise NotImplementedError


class AlignedCGEdgeKernel(AlignedEdgeKernel):
    """Clebsch-Gordan couplings: a path takes m to m, or to -m if its sum of degrees is odd.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        paths: Triples (l1, l2, l3), ordered by l3; rows come out by l3, then m, then path.
    """

    coefficients: Tensor
    sources: Tensor
    owners: Tensor

    def __init__(self, l_in: int, l_edge: int, paths: Sequence[Path]) -> None:
        l_out = max(path[2] for path in paths)
        super().__init__(l_in, l_edge, [sum(path[2] == l for path in paths) for l in range(l_out + 1)])
        coefficients, sources, owners = [], [], []
        for l3 in range(l_out + 1):
            members = [index for index, path in enumerate(paths) if path[2] == l3]
            for m in range(-l3, l3 + 1):
                for index in members:
                    l1, l2, _ = paths[index]
                    source = -m if (l1 + l2 + l3) % 2 else m
                    inside = abs(source) <= l1
                    norm = math.sqrt((2 * l2 + 1) * (2 * l3 + 1))
                    value = wigner_3j(l1, l2, l3)[l1 + source, l2, l3 + m] * norm if inside else 0.0
                    coefficients.append(float(value))
                    sources.append(l1 * l1 + l1 + source if inside else 0)
                    owners.append(index)
        self.register_table("coefficients", torch.tensor(coefficients, dtype=torch.float64)[:, None])
        self.register_buffer("sources", torch.tensor(sources), persistent=False)
        self.register_buffer("owners", torch.tensor(owners), persistent=False)
        self.register_flips([path[1] for path in paths])

    def couple_at_pole(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Each row is one row of the features times a coefficient and a weight."""
        spread = weights.index_select(1, self.owners) * self.coefficients
        return node_feats.index_select(1, self.sources) * spread


class AlignedGauntEdgeKernel(AlignedEdgeKernel):
    """Gaunt couplings: for each m a small matrix from l1 to l3, summed over the filter's degrees.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        normalizers: Factor of each output degree, length l_out + 1.
    """

    coefficients: Tensor
    sources: Tensor
    targets: Tensor
    entries: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, normalizers: Sequence[float]) -> None:
        super().__init__(l_in, l_edge, [1] * (l_out + 1))
        self.num_out = num_components(l_out)
        rows: list[list[float]] = []
        sources, targets, entries = [], [], []
        for l3 in range(l_out + 1):
            for l1 in range(l_in + 1):
                for order in range(min(l1, l3) + 1):
                    for m in {-order, order}:
                        sources.append(l1 * l1 + l1 + m)
                        targets.append(l3 * l3 + l3 + m)
                        entries.append(len(rows))
                    rows.append([self.entry(l1, l2, l3, order, normalizers[l3]) for l2 in range(l_edge + 1)])
        self.register_table("coefficients", torch.tensor(rows, dtype=torch.float64))
        for name, values in (("sources", sources), ("targets", targets), ("entries", entries)):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.register_flips(range(l_edge + 1))

    def entry(self, l1: int, l2: int, l3: int, m: int, normalizer: float) -> float:
        """Gaunt coefficient of (l1, m), (l2, 0), (l3, m) times the harmonic of the pole."""
        return float(gaunt(l1, l2, l3)[l1 + m, l2, l3 + m]) * math.sqrt(2 * l2 + 1) * normalizer

    def couple_at_pole(self, node_feats: Tensor, weights: Tensor) -> Tensor:
        """Entries of the small matrices, times features, summed into the rows of the result."""
        matrices = self.coefficients @ weights
        terms = matrices.index_select(1, self.entries) * node_feats.index_select(1, self.sources)
        result = terms.new_zeros(terms.shape[0], self.num_out, terms.shape[2])
        return result.index_add(1, self.targets, terms)
