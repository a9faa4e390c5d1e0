"""Where a simulation leaves the geometries that its model was trained on."""

from dataclasses import dataclass, field
from typing import Any

import ase

from mace_gaunt.data.coverage import Coverage
from mace_gaunt.data.neighbors import neighbor_pairs

# The metadata are rounded (Å, and part of the density).
ROUNDING = 1e-5
MISSING = (
    "the model has no training_set entry, so nothing is known of its training geometries (it was trained on a store, "
    "converted, or trained before models kept one)"
)


@dataclass
class GeometryWatch:
    """Collects the geometry of recorded frames, and counts those outside the training set.

    Attributes:
        r_max: Cutoff of the model (Å), within which neighbours count.
        known: Coverage of the training set; None when the model does not say.
        seen: Coverage of the recorded frames.
        outside: What was outside -> number of frames in which it was.
    """

    r_max: float
    known: Coverage | None
    seen: Coverage = field(default_factory=Coverage)
    outside: dict[str, int] = field(default_factory=dict)

    def add(self, atoms: ase.Atoms) -> None:
        """Take in a frame.

        Args:
            atoms: The frame, sound enough to have a neighbour list.
        """
        frame = Coverage()
        cell, pbc = atoms.cell.array, atoms.pbc
        frame.add(atoms.numbers, atoms.positions, cell, pbc, *neighbor_pairs(atoms.positions, cell, pbc, self.r_max))
        self.seen.merge(frame)
        for name in outside(frame, self.known) if self.known else ():
            self.outside[name] = self.outside.get(name, 0) + 1

    def summary(self) -> dict[str, Any]:
        """The part of health.json on geometry."""
        return {
            "smallest_distance_A": self.seen.to_json()["smallest_distance_A"],
            "extrapolation": self.warnings(),
            "extrapolation_unknown": MISSING if self.known is None else None,
        }

    def warnings(self) -> list[str]:
        """A sentence per distance, count of neighbours or density outside the training set, the most frequent first."""
        found = sorted(self.outside.items(), key=lambda entry: -entry[1])
        return [f"{self._explain(name)}, in {count} of {self.seen.frames} frames" for name, count in found]

    def state(self) -> dict[str, Any]:
        """What was collected as JSON values, for `restore`."""
        return {"seen": self.seen.to_json(), "outside": self.outside}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state.

        Args:
            state: What `state` gave.
        """
        self.seen, self.outside = Coverage.from_json(state["seen"]), dict(state["outside"])

    def _explain(self, name: str) -> str:
        assert self.known is not None
        kind, _, what = name.partition(" ")
        if kind == "distance":
            here, there = self.seen.smallest_distance[what], self.known.smallest_distance.get(what)
            limit = f"at least {there:.3f} Å in training" if there else f"no neighbours within {self.r_max:g} Å there"
            return f"{what} came to {here:.3f} Å ({limit})"
        if kind == "neighbors":
            counts, known = self.seen.neighbors[what], self.known.neighbors.get(what)
            limit = f"{known[0]} to {known[1]} in training" if known else "an element that no training frame has"
            return f"{what} had {counts[0]} to {counts[1]} neighbours within {self.r_max:g} Å ({limit})"
        low, high = self.seen.density or (0.0, 0.0)
        bounds = self.known.density
        limit = f"{bounds[0]:.4f} to {bounds[1]:.4f} in training" if bounds else "no periodic cell in training"
        return f"the density was {low:.4f} to {high:.4f} atoms/Å^3 ({limit})"


def outside(frame: Coverage, known: Coverage) -> list[str]:
    """What of a frame the training set does not cover.

    Args:
        frame: Coverage of the frame.
        known: Coverage of the training set.

    Returns:
        Names such as "distance H-C", "neighbors C", "density".
    """
    found = [
        f"distance {pair}"
        for pair, distance in frame.smallest_distance.items()
        if not distance >= known.smallest_distance.get(pair, float("inf")) - ROUNDING
    ]
    for element, (low, high) in frame.neighbors.items():
        bounds = known.neighbors.get(element)
        if bounds is None or low < bounds[0] or high > bounds[1]:
            found.append(f"neighbors {element}")
    if frame.density is not None and not _within(frame.density[0], known.density):
        found.append("density")
    return found


def _within(density: float, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bounds[0] * (1 - ROUNDING) <= density <= bounds[1] * (1 + ROUNDING)


def known_coverage(metadata: list[dict[str, Any]]) -> Coverage | None:
    """The coverage of all training sets that models name.

    Args:
        metadata: Of each model of the calculator.

    Returns:
        The union of their coverages; None when one of them has none (or an unreadable one).
    """
    union = Coverage()
    for entry in metadata:
        try:
            union.merge(Coverage.from_json(entry["training_set"]))
        except (KeyError, TypeError, ValueError):
            return None
    return union
