"""Gaunt products in the 2-D Fourier basis, with real FFTs.

Source: Luo, Chen, Krishnapriyan, ICLR 2024: harmonics to Fourier coefficients, convolution by FFT, and back.
Differences from the published code: signals are real, so half of the coefficients in phi is kept; the torus covers the
sphere twice, f(2 pi - theta, phi + pi) = f(theta, phi), so half of the values is computed; only the coefficients that
the harmonics have, or that are wanted, are transformed along theta.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mace_gaunt.so3.fourier import fast_length, from_fourier, to_fourier
from mace_gaunt.so3.layout import degree_components, degree_of_component
from mace_gaunt.so3.maps import by_degree, weigh
from mace_gaunt.so3.scatter import scatter_sum
from mace_gaunt.so3.tables import TableModule
from mace_gaunt.tensor_products.contracts import EdgeKernel


class Torus(TableModule):
    """The torus on which products up to some degree are exact, and the transforms to and from it.

    Args:
        degree: Degree of the product of all factors.
        l_out: Largest degree of the result.
    """

    signs: Tensor

    def __init__(self, degree: int, l_out: int) -> None:
        super().__init__()
        self.l_out = l_out
        self.num_theta = fast_length(2 * degree + 1)
        # What folds over in phi beyond the wanted orders does no harm.
        self.num_phi = fast_length(degree + l_out + 1)
        self.num_rows = self.num_theta // 2 + 1
        self.register_table("signs", (-1.0) ** torch.arange(l_out + 1, dtype=torch.float64))

    def values(self, coefficients: Tensor) -> Tensor:
        """Fourier coefficients [B, num_theta, V, 2] to values on half the torus, [B, num_rows, num_phi]."""
        if coefficients.shape[0] == 0:
            # FFT libraries refuse an empty batch.
            return coefficients.new_zeros(0, self.num_rows, self.num_phi)
        columns = torch.fft.ifft(torch.view_as_complex(coefficients), dim=1, norm="forward")
        return torch.fft.irfft(columns[:, : self.num_rows], n=self.num_phi, dim=2, norm="forward")

    def coefficients(self, values: Tensor, degree: int) -> Tensor:
        """Values on half the torus to coefficients u = 0..degree, v = 0..l_out: [B, (degree+1) (l_out+1) 2]."""
        if values.shape[0] == 0:
            return values.new_zeros(0, (degree + 1) * (self.l_out + 1) * 2)
        half = torch.fft.rfft(values, dim=2, norm="forward")[:, :, : self.l_out + 1]
        # The other half is the first, shifted by pi in phi.
        columns = torch.cat([half, half[:, 1 : self.num_rows - 1].flip(1) * self.signs], dim=1)
        return torch.view_as_real(torch.fft.fft(columns, dim=1)[:, : degree + 1]).flatten(1)


def channel_rows(features: Tensor) -> Tensor:
    """[n, K, C] to [n * C, K]."""
    return features.transpose(1, 2).reshape(-1, features.shape[1])


class FourierFeatureKernel(TableModule):
    """Two features multiplied on the torus.

    Args:
        degrees_x: Degrees of the first feature.
        degrees_y: Degrees of the second.
        degrees_out: Degrees of the result.
        normalizers: Factor of each output degree.
    """

    to_x: Tensor
    to_y: Tensor
    back: Tensor

    def __init__(
        self,
        degrees_x: Sequence[int],
        degrees_y: Sequence[int],
        degrees_out: Sequence[int],
        normalizers: Sequence[float],
    ) -> None:
        super().__init__()
        self.degree = max(degrees_x) + max(degrees_y)
        self.torus = Torus(self.degree, max(degrees_out))
        for name, degrees in (("to_x", degrees_x), ("to_y", degrees_y)):
            table = to_fourier(max(degrees), self.torus.num_theta)[degree_components(degrees)]
            self.register_table(name, table.flatten(1))
        factors = torch.tensor(normalizers, dtype=torch.float64).repeat_interleave(2 * torch.tensor(degrees_out) + 1)
        back = from_fourier(max(degrees_out), self.degree, self.torus.num_theta)
        self.register_table("back", back.flatten(0, 2)[:, degree_components(degrees_out)] * factors)
        self.orders = max(degrees_x) + 1, max(degrees_y) + 1

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Shapes as in `FeatureProduct.forward`, natural features."""
        product = self.signal(x, self.to_x, self.orders[0]) * self.signal(y, self.to_y, self.orders[1])
        rows = self.torus.coefficients(product, self.degree) @ self.back
        return rows.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def signal(self, features: Tensor, table: Tensor, orders: int) -> Tensor:
        """Values of each row and channel on half the torus."""
        return self.torus.values((channel_rows(features) @ table).unflatten(1, (self.torus.num_theta, orders, 2)))


class FourierEdgeKernel(EdgeKernel):
    """Edge product on the torus: filters and the sum over neighbours live there, transforms are per node.

    An edge's filter on the torus is one matrix product from its harmonics: a transform per edge would not pay.

    Args:
        l_in: Largest degree of the node features.
        l_edge: Largest degree of the edge harmonics.
        l_out: Largest degree of the messages.
        normalizers: Factor of each output degree, length l_out + 1.
    """

    to_torus: Tensor
    filters: Tensor
    back: Tensor

    def __init__(self, l_in: int, l_edge: int, l_out: int, normalizers: Sequence[float]) -> None:
        super().__init__()
        self.l_in, self.l_edge, self.degree = l_in, l_edge, l_in + l_edge
        self.torus = Torus(self.degree, l_out)
        num_theta = self.torus.num_theta
        self.register_table("to_torus", to_fourier(l_in, num_theta).flatten(1))
        self.register_table("filters", by_degree(self.torus.values(to_fourier(l_edge, num_theta)).flatten(1), l_edge))
        factors = torch.tensor(normalizers, dtype=torch.float64)[degree_of_component(l_out)]
        self.register_table("back", from_fourier(l_out, self.degree, num_theta).flatten(0, 2) * factors)

    def signals(self, node_feats: Tensor) -> Tensor:
        """Values of the features on half the torus, channels last: [n, P, C]."""
        n, _, channels = node_feats.shape
        coefficients = channel_rows(node_feats) @ self.to_torus
        values = self.torus.values(coefficients.unflatten(1, (self.torus.num_theta, self.l_in + 1, 2)))
        return values.flatten(1).unflatten(0, (n, channels)).transpose(1, 2)

    def edge_filter(self, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Weighted filters on half the torus, [n_edges, P, C]."""
        return weigh(edge_attrs @ self.filters, weights)

    def analyse(self, values: Tensor) -> Tensor:
        """[n, P, C] on half the torus to [n, (l_out+1)^2, C]."""
        n, _, channels = values.shape
        grid = channel_rows(values).unflatten(1, (self.torus.num_rows, self.torus.num_phi))
        rows = self.torus.coefficients(grid, self.degree) @ self.back
        return rows.unflatten(0, (n, channels)).transpose(1, 2)

    def couple(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor) -> Tensor:
        """Per edge, shape [n_edges, (l_out+1)^2, C]."""
        return self.analyse(self.edge_filter(edge_attrs, weights) * self.signals(node_feats))

    def forward(self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor) -> Tensor:
        """Summed over neighbours, shape [n_nodes, (l_out+1)^2, C]."""
        sender, receiver = edge_index[0], edge_index[1]
        values = self.edge_filter(edge_attrs, weights) * self.signals(node_feats).contiguous()[sender]
        return self.analyse(scatter_sum(values, receiver, node_feats.shape[0]))


class FourierNodeKernel(TableModule):
    """Powers 1..correlation of a signal on the torus, by divide and conquer: f^k = f^(k//2) f^(k - k//2).

    One torus, large enough for the highest power, serves all orders: the published code goes back to coefficients
    between the steps, at three more transforms for order 3.

    Args:
        l_in: Largest degree of the signal.
        l_out: Largest degree of the result.
        correlation: Highest power.
        normalizers: Factor of each order and output degree, shape [correlation, l_out + 1].
    """

    to_torus: Tensor

    def __init__(self, l_in: int, l_out: int, correlation: int, normalizers: Tensor) -> None:
        super().__init__()
        self.l_in, self.correlation = l_in, correlation
        self.torus = Torus(max(correlation * l_in, l_out), l_out)
        self.register_table("to_torus", to_fourier(l_in, self.torus.num_theta).flatten(1))
        factors = normalizers[:, degree_of_component(l_out)]
        for order in range(1, correlation + 1):
            back = from_fourier(l_out, order * l_in, self.torus.num_theta).flatten(0, 2)
            self.register_table(f"back_{order}", back * factors[order - 1])

    def forward(self, node_feats: Tensor) -> Tensor:
        """Analysed powers.

        Args:
            node_feats: Shape [n_nodes, (l_in+1)^2, C].

        Returns:
            Shape [correlation, n_nodes, (l_out+1)^2, C].
        """
        n, _, channels = node_feats.shape
        coefficients = channel_rows(node_feats) @ self.to_torus
        signal = self.torus.values(coefficients.unflatten(1, (self.torus.num_theta, self.l_in + 1, 2)))
        powers, orders = {1: signal}, []
        for order in range(1, self.correlation + 1):
            if order > 1:
                powers[order] = powers[order // 2] * powers[order - order // 2]
            rows = self.torus.coefficients(powers[order], order * self.l_in) @ self.get_buffer(f"back_{order}")
            orders.append(rows.unflatten(0, (n, channels)).transpose(1, 2))
        return torch.stack(orders)
