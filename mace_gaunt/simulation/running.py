"""Statistics of a series that is given one value at a time, in memory that does not grow."""

import math
from dataclasses import dataclass, field


@dataclass
class LinearFit:
    """Least-squares line through points given one at a time (Welford's update, so large offsets cost no digits)."""

    count: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    sum_xx: float = 0.0
    sum_xy: float = 0.0
    sum_yy: float = 0.0

    def add(self, x: float, y: float) -> None:
        """Take one more point.

        Args:
            x: Abscissa.
            y: Ordinate.
        """
        self.count += 1
        dx, dy = x - self.mean_x, y - self.mean_y
        self.mean_x += dx / self.count
        self.mean_y += dy / self.count
        self.sum_xx += dx * (x - self.mean_x)
        self.sum_xy += dx * (y - self.mean_y)
        self.sum_yy += dy * (y - self.mean_y)

    @property
    def slope(self) -> float | None:
        """Slope of the line, None with fewer than two abscissas."""
        return self.sum_xy / self.sum_xx if self.sum_xx > 0 else None

    @property
    def std_y(self) -> float | None:
        """Standard deviation of the ordinates, None without points."""
        return math.sqrt(max(self.sum_yy, 0.0) / self.count) if self.count else None


@dataclass
class BlockError:
    """Standard error of the mean of a correlated series, by blocking.

    Source: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989): means of blocks of 1, 2, 4, ... values; once blocks
    are longer than the correlation, sqrt(var / (n - 1)) of them stops growing, and is the error.

    Attributes:
        levels: Per block length: number of blocks, their mean, sum of squared deviations, and the block that waits for
            its partner (None without).
    """

    # Fewer blocks say little about their own spread.
    FEWEST = 16
    levels: list[list[float | None]] = field(default_factory=list)

    def add(self, value: float, level: int = 0) -> None:
        """Take one more value.

        Args:
            value: The value.
            level: For the recursion.
        """
        if level == len(self.levels):
            self.levels.append([0, 0.0, 0.0, None])
        row = self.levels[level]
        count, mean, squares, waiting = row
        assert count is not None and mean is not None and squares is not None
        away = value - mean
        mean += away / (count + 1)
        row[:3] = [count + 1, mean, squares + away * (value - mean)]
        row[3] = value if waiting is None else None
        if waiting is not None:
            self.add((waiting + value) / 2, level + 1)

    @property
    def error(self) -> float | None:
        """The standard error; None with fewer than 16 values."""
        errors = [
            math.sqrt(max(squares, 0.0) / count / (count - 1))
            for count, _, squares, _ in self.levels
            if count is not None and squares is not None and count >= self.FEWEST
        ]
        return max(errors, default=None)
