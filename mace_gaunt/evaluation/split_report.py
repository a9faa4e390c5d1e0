"""What a report keeps of one split while its predictions pass by."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from mace_gaunt.evaluation.breakdown import Breakdown
from mace_gaunt.evaluation.metrics import LAYOUT, ErrorSums, Predictions
from mace_gaunt.evaluation.oc20_metrics import OC20Metrics, add_predictions
from mace_gaunt.evaluation.parity_points import ParityPoints
from mace_gaunt.evaluation.plots import plot_parity
from mace_gaunt.evaluation.streams import Spool, write_npz


class SplitSummary:
    """Sums of errors and points of the plot: memory is bounded.

    Attributes:
        split: Its name.
        errors: Of all frames.
        oc20: OC20's metrics.
        breakdown: Errors by element and by size of the force.
    """

    def __init__(self, split: str) -> None:
        """Start without frames.

        Args:
            split: Its name.
        """
        self.split, self.errors, self.oc20, self.breakdown = split, ErrorSums(), OC20Metrics(), Breakdown()
        self._points = ParityPoints()

    def add(self, part: Predictions) -> None:
        """Add some frames.

        Args:
            part: Predictions and labels.
        """
        self.errors.add(part)
        self.breakdown.add(part)
        self._points.add(part)
        add_predictions(self.oc20, part)

    def row(self) -> dict[str, Any]:
        """The errors; see `ErrorSums.row`."""
        return self.errors.row(self.split)

    def draw(self, folder: Path) -> Path:
        """Draw parity_SPLIT.png.

        Args:
            folder: Of the report.

        Returns:
            The file.
        """
        return plot_parity(self.row(), self._points, folder / f"parity_{file_name(self.split)}.png")


class SplitReport(SplitSummary):
    """A summary, and the predictions themselves, on disk."""

    def __init__(self, split: str, folder: Path) -> None:
        """Start without frames.

        Args:
            split: Its name.
            folder: Where predictions are kept meanwhile; it exists.
        """
        super().__init__(split)
        self.spools = {name: Spool(folder, kind, row) for name, (kind, row) in LAYOUT.items()}

    def add(self, part: Predictions) -> None:
        """Add some frames.

        Args:
            part: Predictions and labels.
        """
        super().add(part)
        for name, spool in self.spools.items():
            spool.append(getattr(part, name))

    def energies(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and predictions of all frames, shape [n_frames] each (eV)."""
        label, found = (self.spools[name].read(0, self.errors.n_frames) for name in ("energy_label", "energy"))
        return label, found

    def write(self, folder: Path) -> None:
        """Write predictions/SPLIT.npz, with the names of `Predictions`.

        Args:
            folder: Of the report; it has the folder `predictions`.
        """
        arrays = {field: spool.streamed() for field, spool in self.spools.items()}
        write_npz(folder / "predictions" / f"{file_name(self.split)}.npz", arrays)


def file_name(split: str) -> str:
    """A split's name with what file systems dislike replaced: `train_mixedT[334:]` gives `train_mixedT_334-`.

    Args:
        split: Name of the split.

    Returns:
        Letters, digits, `_`, `.` and `-` only.
    """
    return re.sub(r"[^\w.\-]", "_", split.replace("]", "").replace(":", "-"))
