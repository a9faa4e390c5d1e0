"""Frames whose energy or forces are far from those of the rest, by median and median absolute deviation."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mace_gaunt.data.inspection.compositions import CompositionFit
from mace_gaunt.data.inspection.measures import Measures

LEAST_FRAMES = 20
# Frames of one composition that have a median of their own; smaller groups are compared with the fit by elements.
LEAST_GROUP = 8
# Deviations in units of the spread (1.4826 MAD, the standard deviation of a normal distribution), and what a deviation
# must be besides (eV/atom, eV/Å): relaxations end near one energy and begin far above it, without fault.
ENERGY_SPREADS, FORCE_SPREADS = 10.0, 10.0
ABOVE, BELOW = 0.2, 0.02
LARGE_FORCE, HUGE_FORCE = 20.0, 50.0


@dataclass(frozen=True)
class Outlier:
    """A frame that is far off.

    Attributes:
        index: Position in the file.
        value: Deviation of the energy (eV/atom), or longest force (eV/Å).
        spreads: Distance from the median in units of the spread.
    """

    index: int
    value: float
    spreads: float


def energy_outliers(frames: Sequence[Measures], fit: CompositionFit) -> list[Outlier]:
    """Frames whose energy does not fit those of the same composition.

    The deviation is from the median of the frames of the same composition; where there are fewer than LEAST_GROUP, from
    the least-squares fit by elements, if that is determined. A frame is an outlier when it is ENERGY_SPREADS spreads
    off, and ABOVE above or BELOW below.

    Args:
        frames: Frames of a file.
        fit: The fit of its energies by composition.

    Returns:
        The worst first; none for fewer than LEAST_FRAMES frames.
    """
    labelled = [frame for frame in frames if np.isfinite(frame.energy) and frame.n_atoms > 1]
    groups: defaultdict[bytes, list[Measures]] = defaultdict(list)
    for frame in labelled:
        groups[frame.formula].append(frame)
    fits = not fit.undetermined and fit.n_frames >= 2 * len(fit.elements) + LEAST_FRAMES
    energies = fit.energies() if fits else None
    found, deviations = [], []
    for group in groups.values():
        if len(group) >= LEAST_GROUP:
            expected = np.median([frame.energy for frame in group])
        elif energies is not None:
            expected = energies[np.frombuffer(group[0].formula, np.uint8)].sum()
        else:
            continue
        found += group
        deviations += [(frame.energy - expected) / frame.n_atoms for frame in group]
    off = np.array(deviations)
    spreads = _spreads(off, floor=1e-4)
    wrong = (spreads > ENERGY_SPREADS) & (off > ABOVE) | (spreads < -ENERGY_SPREADS) & (off < -BELOW)
    return _worst(found, off, spreads, wrong)


def force_outliers(frames: Sequence[Measures]) -> list[Outlier]:
    """Frames in which a force on a free atom is far longer than the longest of the others.

    Longest forces spread over orders of magnitude, so that their logarithms are compared; an outlier is FORCE_SPREADS
    spreads off and longer than LARGE_FORCE, or longer than HUGE_FORCE at any rate.

    Args:
        frames: Frames of a file.

    Returns:
        The worst first.
    """
    found = [frame for frame in frames if frame.max_force > 0]
    values = np.array([frame.max_force for frame in found])
    spreads = _spreads(np.log(values), floor=0.05)
    wrong = (spreads > FORCE_SPREADS) & (values > LARGE_FORCE) | (values > HUGE_FORCE)
    return _worst(found, values, spreads, wrong)


def _spreads(values: np.ndarray, floor: float) -> np.ndarray:
    """Distance of each from the median, in units of 1.4826 median absolute deviations; zeros for too few."""
    if len(values) < LEAST_FRAMES:
        return np.zeros(len(values))
    off = values - np.median(values)
    return off / max(1.4826 * float(np.median(np.abs(off))), floor)


def _worst(frames: Sequence[Measures], values: np.ndarray, spreads: np.ndarray, wrong: np.ndarray) -> list[Outlier]:
    outliers = [
        Outlier(frame.index, float(value), float(spread))
        for frame, value, spread, is_wrong in zip(frames, values, spreads, wrong, strict=True)
        if is_wrong
    ]
    return sorted(outliers, key=lambda outlier: -abs(outlier.value))
