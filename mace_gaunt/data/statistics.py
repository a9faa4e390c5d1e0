"""What a model takes from its training set: elements, E0s, neighbours, scale and shift."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from mace_gaunt.data.atomic_data import AtomicData, symbols
from mace_gaunt.errors import UserError, nearest
from mace_gaunt.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statistics:
    """Statistics of a training set.

    Attributes:
        atomic_numbers: The elements, sorted.
        E0s: Energy of the isolated atom of each (eV).
        avg_num_neighbors: Edges per node; a pair of neighbours is two edges.
        scale: Root mean square of the force components (eV/Å).
        shift: Mean interaction energy per atom, energy minus E0s (eV).
    """

    atomic_numbers: list[int]
    E0s: list[float]
    avg_num_neighbors: float
    scale: float
    shift: float

    def __str__(self) -> str:
        elements = zip(self.atomic_numbers, self.E0s, strict=True)
        E0s = ", ".join(f"{chemical_symbols[number]} {energy:.6f}" for number, energy in elements)
        return (
            f"E0s (eV): {E0s}; neighbours {self.avg_num_neighbors:.3f}; scale {self.scale:.6f} eV/Å; "
            f"shift {self.shift:.6f} eV/atom"
        )


def compute_statistics(frames: Sequence[AtomicData], atomic_numbers: Sequence[int], E0s: Sequence[float]) -> Statistics:
    """Statistics of some frames, in float64.

    Scale and shift are MACE's `rms_forces_scaling`: the force components of all frames alike, the energies per
    atom of all frames alike. Without forces the scale is the standard deviation of the interaction energy per atom.
    What would be zero (no edges, no spread) becomes 1, so that a model can divide by it; the log says so.

    Args:
        frames: Training frames, isolated atoms left out. Missing labels (NaN) do not count.
        atomic_numbers: The elements, sorted.
        E0s: Their energies (eV).

    Returns:
        The statistics.

    Raises:
        UserError: If there is no frame, or not one E0 for each element.
    """
    if not frames:
        raise UserError("no training frames to take statistics from.")
    if len(E0s) != len(atomic_numbers):
        raise UserError(f"{len(E0s)} E0s for {len(atomic_numbers)} elements ({symbols(atomic_numbers)}).")
    energies = torch.tensor(E0s, dtype=torch.float64)
    per_atom = torch.cat([(f.energy - energies[f.node_types].sum()) / f.num_nodes for f in frames])
    per_atom = per_atom[per_atom.isfinite()]
    n_nodes = sum(frame.num_nodes for frame in frames)
    n_edges = sum(frame.num_edges for frame in frames)
    return Statistics(
        atomic_numbers=[int(number) for number in atomic_numbers],
        E0s=[float(energy) for energy in E0s],
        avg_num_neighbors=_or_one(n_edges / n_nodes, "no frame has edges: avg_num_neighbors"),
        scale=_scale(torch.cat([frame.forces for frame in frames]), per_atom),
        shift=float(per_atom.mean()) if len(per_atom) else 0.0,
    )


def override(computed: Callable[[], Statistics], given: Mapping[str, Any] | None) -> Statistics:
    """Statistics with some values given by the user; nothing is computed when all are.

    Args:
        computed: Computes the rest.
        given: Values by the names of `Statistics`.

    Returns:
        The statistics.

    Raises:
        UserError: If a name does not exist, or atomic_numbers and E0s do not fit each other.
    """
    values = check_overrides(given)
    names = {field.name for field in fields(Statistics)}
    result = Statistics(**(values if names <= values.keys() else asdict(computed()) | values))
    if len(result.atomic_numbers) != len(result.E0s):
        raise UserError(f"statistics: {len(result.atomic_numbers)} atomic_numbers, but {len(result.E0s)} E0s.")
    return result


def check_overrides(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values given for statistics, as plain numbers.

    Raises:
        UserError: If a name does not exist or a value is not a number.
    """
    names = [field.name for field in fields(Statistics)]
    values: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if name not in names:
            raise UserError(f"statistics has no '{name}'.{nearest(str(name), names)}")
        try:
            if name == "atomic_numbers":
                values[name] = [int(number) for number in value]
            else:
                values[name] = [float(energy) for energy in value] if name == "E0s" else float(value)
        except (TypeError, ValueError):
            raise UserError(f"statistics.{name} is {value!r}; expected numbers.") from None
    numbers = values.get("atomic_numbers", [])
    if numbers != sorted(set(numbers)):
        raise UserError(f"statistics.atomic_numbers is {numbers}; it goes up, each element once.")
    return values


def cached(cache_dir: str | Path | None, inputs: Mapping[str, Any], compute: Callable[[], Statistics]) -> Statistics:
    """Statistics from the cache, computed and written there when they are not in it.

    Args:
        cache_dir: Folder of the cache; None computes without one.
        inputs: All that the statistics depend on (checksums of files, settings), writable as JSON.
        compute: Computes them.

    Returns:
        The statistics.
    """
    if cache_dir is None:
        return compute()
    text = json.dumps(inputs, sort_keys=True)
    path = Path(cache_dir).expanduser() / f"statistics-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        content = json.loads(path.read_text())
        if content["inputs"] == json.loads(text):
            log.info("statistics from %s", path)
            return Statistics(**content["statistics"])
    statistics = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"inputs": json.loads(text), "statistics": asdict(statistics)}, indent=1))
    return statistics


def _scale(forces: torch.Tensor, per_atom: torch.Tensor) -> float:
    components = forces[forces.isfinite()]
    if len(components):
        return _or_one(float(components.square().mean().sqrt()), "all forces are zero: scale")
    spread = float(per_atom.std(correction=0)) if len(per_atom) else 0.0
    log.warning("no training frame has forces: the scale is the spread of the interaction energy per atom")
    return _or_one(spread, "the energies per atom are all equal: scale")


def _or_one(value: float, what: str) -> float:
    if value > 0:
        return value
    log.warning("%s is set to 1", what)
    return 1.0
