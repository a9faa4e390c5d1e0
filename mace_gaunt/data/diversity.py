"""How many distinct frames a set has: the Vendi score."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist

from mace_gaunt.errors import UserError, nearest

KERNELS = ("gaussian", "cosine")
# Of the gaussian kernel, in units of the median distance.
BANDWIDTH = 1 / 3
# The eigenvalues of a kernel of so many frames take some ten seconds on one core; the time grows with the third power.
MAX_KERNEL = 5000
# Frames from which the median distance is taken.
MEDIAN_SAMPLE = 1000
# Eigenvalues below this part of the largest are rounding; an order q near 0 would count them.
ROUNDING = 1e-12
# Columns that vary less than this, relative to their size, do not vary.
CONSTANT = 1e-9


@dataclass(frozen=True)
class Similarity:
    """When two frames are alike: scale and kernel, taken from one set and used for all that are compared with it.

    Descriptors are centred and divided by their standard deviation, column by column; columns that do not vary are
    dropped. With x the result and d its width, "gaussian" is exp(-|x - y|^2 / 2 s^2), where s is a third of the median
    distance of two frames of the set: frames at the median distance are alike by 1 %. (With s the median itself, as is
    often taken, they are alike by 61 %, and 15 relaxations of 15 systems count as 4 frames, with a third as 14.)
    "cosine" is (d + x.y) / sqrt((d + |x|^2)(d + |y|^2)), where d is also the mean of |x|^2, so that frames which do not
    differ are alike.

    Attributes:
        kernel: "gaussian" or "cosine".
        mean: Shape [width].
        factors: Shape [width], 0 for columns that do not vary.
        bandwidth: s.
    """

    kernel: str
    mean: np.ndarray
    factors: np.ndarray
    bandwidth: float

    @classmethod
    def of(cls, features: np.ndarray, kernel: str = "gaussian", bandwidth: float = BANDWIDTH) -> "Similarity":
        """Take the scale from a set.

        Args:
            features: Descriptors, shape [n_frames, width].
            kernel: "gaussian" or "cosine".
            bandwidth: s of the gaussian kernel in units of the median distance.

        Raises:
            UserError: If there is no such kernel, no frame, or the bandwidth is not positive.
        """
        if not 0 < bandwidth < np.inf:
            raise UserError(f"bandwidth is a positive part of the median distance, not {bandwidth}.")
        if kernel not in KERNELS:
            raise UserError(f"kernel is gaussian or cosine, not '{kernel}'.{nearest(kernel, KERNELS)}")
        if not len(features):
            raise UserError("there are no frames to compare.")
        mean, spread = features.mean(axis=0), features.std(axis=0)
        varies = spread > CONSTANT * np.abs(features).max(axis=0)
        factors = np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)
        scaled = (features - mean) * factors
        return cls(kernel, mean, factors, bandwidth * median_distance(scaled) if kernel == "gaussian" else 0.0)

    def scale(self, features: np.ndarray) -> np.ndarray:
        """Descriptors on the common scale, shape [n_frames, width]."""
        return (features - self.mean) * self.factors

    def eigenvalues(self, features: np.ndarray) -> np.ndarray:
        """Eigenvalues of the kernel matrix divided by the number of frames, those that are not zero.

        Args:
            features: Descriptors, shape [n_frames, width].

        Returns:
            At most n_frames values, ascending; their sum is 1.

        Raises:
            UserError: If the kernel is gaussian and there are more than MAX_KERNEL frames.
        """
        scaled = self.scale(features)
        if self.kernel == "cosine":
            width = np.count_nonzero(self.factors) or 1
            rows = np.column_stack([np.full(len(scaled), np.sqrt(width)), scaled])
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            # The covariance [d, d] has the same eigenvalues as the kernel [n, n], besides zeros.
            return _eigenvalues(rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T)
        if len(scaled) > MAX_KERNEL:
            raise UserError(
                f"a gaussian kernel of {len(scaled)} frames is too large (at most {MAX_KERNEL}): give "
                f"max_frames={MAX_KERNEL} for a random subset, or kernel=cosine, which takes any number."
            )
        return _eigenvalues(np.exp(-cdist(scaled, scaled, "sqeuclidean") / (2.0 * self.bandwidth**2)))

    def vendi(self, features: np.ndarray, order: float = 1.0) -> float:
        """The Vendi score of some frames, see `vendi_score`."""
        return vendi_score(self.eigenvalues(features), order)


def vendi_score(eigenvalues: np.ndarray, order: float = 1.0) -> float:
    """Effective number of distinct frames: 1 when all are alike, n when n frames have nothing in common.

    Source: Friedman and Dieng, The Vendi Score, TMLR 2023, eq. 2 (order 1); Pasarkar and Dieng, Cousins of the Vendi
    Score, 2023, eq. 4 (all orders): exp(log(sum_i lambda_i^q) / (1 - q)), the exponential of the Renyi entropy. Low
    orders count rare frames as much as common ones (order 0 is the rank), infinity looks at the largest cluster only.

    Args:
        eigenvalues: Of the kernel matrix divided by the number of frames; they are scaled to a sum of 1.
        order: q, 0 or more; `inf` is legal.

    Returns:
        The score.

    Raises:
        UserError: If the order is negative or not a number.
    """
    if not order >= 0:
        raise UserError(f"the order q of a Vendi score is 0 or more, not {order}.")
    values = eigenvalues[eigenvalues > ROUNDING * eigenvalues.max()]
    values = values / values.sum()
    if order == 1:
        return float(np.exp(-(values * np.log(values)).sum()))
    if order == np.inf:
        return float(1.0 / values.max())
    # The largest value is taken out of the sum: values^q alone would vanish for large orders.
    top = values.max()
    return float(np.exp((np.log(((values / top) ** order).sum()) + order * np.log(top)) / (1.0 - order)))


def median_distance(scaled: np.ndarray) -> float:
    """Median distance of two different frames; of a seeded random sample where there are many.

    Args:
        scaled: Descriptors on a common scale, shape [n_frames, width].

    Returns:
        The median of the distances that are not zero, 1 where all are.
    """
    if len(scaled) > MEDIAN_SAMPLE:
        scaled = scaled[np.random.default_rng(0).choice(len(scaled), MEDIAN_SAMPLE, replace=False)]
    distances = pdist(scaled)
    # Frames that are the same to rounding are no scale.
    distances = distances[distances > CONSTANT * distances.max(initial=0.0)]
    return float(np.median(distances)) if len(distances) else 1.0


def describe_orders(eigenvalues: np.ndarray, orders: Iterable[float]) -> dict[str, float]:
    """Scores of several orders, by the order as text ("0.1", "1", "inf")."""
    return {f"{order:g}": vendi_score(eigenvalues, order) for order in orders}


def parse_orders(texts: Sequence[str]) -> list[float]:
    """Orders of a Vendi score from texts.

    Raises:
        UserError: If one is not a number of at least 0.
    """
    orders = []
    for text in texts:
        try:
            orders.append(float(text))
        except ValueError:
            raise UserError(f"'{text}' is no number; orders are such as 0.1, 1, 2, inf.") from None
        if not orders[-1] >= 0:
            raise UserError(f"orders are 0 or more, not {text}.")
    return orders


def _eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Of a positive matrix, scaled to a sum of 1, without rounding."""
    # On busy processors numpy's BLAS takes a hundred times as long (1.8 s for 300 frames), torch's does not.
    values = torch.linalg.eigvalsh(torch.from_numpy(matrix)).numpy()
    values = values[values > ROUNDING * values[-1]]
    return values / values.sum()
