"""Sums from which follow the moments of some energies, and their least-squares fit to compositions."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Atomic numbers below this.
MAX_NUMBER = 119


@dataclass
class Moments:
    """Number, mean, sum of squared deviations, least and greatest of some values.

    Merging follows Chan, Golub and LeVeque (1979), which keeps digits where a sum of squares loses them.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def add(self, value: float) -> None:
        """Count a value."""
        self.merge(Moments(1, value, 0.0, value, value))

    def merge(self, other: "Moments") -> None:
        """Count the values of another."""
        count = self.count + other.count
        if not count:
            return
        step = other.mean - self.mean
        self.squares += other.squares + step**2 * self.count * other.count / count
        self.mean += step * other.count / count
        self.count, self.least, self.most = count, min(self.least, other.least), max(self.most, other.most)

    @property
    def spread(self) -> float:
        """Standard deviation, 0 without values."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0

    def to_json(self) -> list[float]:
        """As JSON values."""
        return [self.count, self.mean, self.squares, self.least, self.most] if self.count else []

    @classmethod
    def from_json(cls, values: list[Any]) -> "Moments":
        """From what `to_json` gave."""
        return cls(*values)


@dataclass
class LinearSums:
    """Sums of the normal equations of energies y against rows x, one entry per element.

    Attributes:
        count: Number of rows.
        x: Sum of x, shape [MAX_NUMBER], by atomic number.
        xx: Sum of x_a x_b, shape [MAX_NUMBER, MAX_NUMBER].
        xy: Sum of x_a y, shape [MAX_NUMBER].
        y: Sum of y.
        yy: Sum of y^2.
    """

    count: int = 0
    y: float = 0.0
    yy: float = 0.0
    x: np.ndarray = field(default_factory=lambda: np.zeros(MAX_NUMBER))
    xx: np.ndarray = field(default_factory=lambda: np.zeros((MAX_NUMBER, MAX_NUMBER)))
    xy: np.ndarray = field(default_factory=lambda: np.zeros(MAX_NUMBER))

    def add(self, x: np.ndarray, y: float) -> None:
        """Count a row of shape [MAX_NUMBER]."""
        there = np.flatnonzero(x)
        self.count, self.y, self.yy = self.count + 1, self.y + y, self.yy + y**2
        self.x += x
        self.xy += x * y
        self.xx[np.ix_(there, there)] += np.outer(x[there], x[there])

    def merge(self, other: "LinearSums") -> None:
        """Count the rows of another; the last bits depend on the order of merging."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def residual(self, coefficients: np.ndarray) -> tuple[float, float]:
        """Mean and spread of y - coefficients . x, 0 without rows.

        Args:
            coefficients: By atomic number, shape [MAX_NUMBER].
        """
        n = max(self.count, 1)
        mean = (self.y - self.x @ coefficients) / n
        squares = self.yy - 2 * coefficients @ self.xy + coefficients @ self.xx @ coefficients
        variance = float(squares / n - mean**2)
        # Below this it is what rounding leaves of equal energies.
        return float(mean), math.sqrt(variance) if variance > 1e-14 * self.yy / n else 0.0

    def solve(self, numbers: list[int]) -> tuple[np.ndarray, list[int]]:
        """The least-squares fit y = coefficients . x.

        Args:
            numbers: Atomic numbers of the unknowns.

        Returns:
            coefficients: Shape [len(numbers)], meaningless when some are undetermined.
            undetermined: Which atomic numbers the rows do not determine.
        """
        matrix = self.xx[np.ix_(numbers, numbers)]
        # With ones on the diagonal, rare elements weigh as much as frequent ones.
        norms = np.sqrt(np.where(np.diag(matrix) > 0, np.diag(matrix), 1.0))
        values, basis = np.linalg.eigh(matrix / np.outer(norms, norms))
        free = np.abs(basis[:, values < 1e-11 * len(numbers)]).max(axis=1, initial=0.0) > 1e-5
        with np.errstate(divide="ignore", invalid="ignore"):
            coefficients = basis @ ((self.xy[numbers] / norms) @ basis / values) / norms
        return coefficients, [number for number, is_free in zip(numbers, free, strict=True) if is_free]

    def to_json(self) -> dict[str, Any]:
        """As JSON values; of the arrays only the elements that occur."""
        numbers = np.flatnonzero(self.x)
        values = {"numbers": numbers.tolist(), "count": self.count, "y": self.y, "yy": self.yy}
        arrays = {"x": self.x[numbers], "xx": self.xx[np.ix_(numbers, numbers)], "xy": self.xy[numbers]}
        return values | {name: array.tolist() for name, array in arrays.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "LinearSums":
        """From what `to_json` gave."""
        sums, numbers = cls(values["count"], values["y"], values["yy"]), values["numbers"]
        sums.x[numbers], sums.xy[numbers] = values["x"], values["xy"]
        if numbers:
            sums.xx[np.ix_(numbers, numbers)] = values["xx"]
        return sums
